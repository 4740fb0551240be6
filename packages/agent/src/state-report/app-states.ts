import type { AppState, ServiceState } from '@millrace/wire';
import type { AppView, ServiceView } from '../apps/reconcile/view.ts';

/** The apps of a device as a state report has them, by id. */
export function appStates(apps: readonly AppView[]): Record<string, AppState> {
  return Object.fromEntries(apps.map((app) => [String(app.appId), appState(app)]));
}

function appState(app: AppView): AppState {
  const running = String(app.runningRelease ?? app.release);
  const services = Object.fromEntries(
    app.services.map((service) => [service.serviceName, serviceState(service)]),
  );
  const isRolledBack = app.state === 'rolled-back';
  return {
    ...(app.appName !== undefined && { name: app.appName }),
    release_uuid: running,
    releases: {
      [running]: { update_status: isRolledBack ? 'done' : updateStatus(app), services },
      ...(isRolledBack &&
        running !== String(app.release) && {
          [String(app.release)]: { update_status: 'rejected', services: {} },
        }),
    },
  };
}

/** In balena's words. */
function updateStatus({ state, services }: AppView): string {
  switch (state) {
    case 'running':
      return 'done';
    case 'failed':
    case 'rolled-back':
      return 'aborted';
    case 'deploying':
      return services.some(({ status }) => status === 'pulling') ? 'downloading' : 'applying changes';
    case 'removing':
      return 'applying changes';
  }
}

const statuses: Record<ServiceView['status'], string> = {
  unknown: 'Unknown',
  pulling: 'Downloading',
  creating: 'Installing',
  waiting: 'Installed',
  starting: 'Starting',
  running: 'Running',
  restarting: 'Restarting',
  stopping: 'Stopping',
  stopped: 'Stopped',
  exited: 'exited',
  removing: 'Removing',
};

function serviceState({ imageName, status, downloadProgress, error }: ServiceView): ServiceState {
  return {
    image: imageName,
    status: statuses[status],
    ...(downloadProgress !== undefined && { download_progress: Math.round(downloadProgress) }),
    ...(error && { error: `${error.code}: ${error.detail}`.slice(0, 1000) }),
  };
}
