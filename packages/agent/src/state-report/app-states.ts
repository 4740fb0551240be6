import type { AppState, Problem, ReleaseState, ServiceState } from '@millrace/wire';
import type { AppView, ServiceView } from '../apps/reconcile/view.ts';
import type { RefusedRelease } from '../apps/target/store.ts';

/**
 * The apps of a device as a state report has them, by id. Releases go by the cloud's names for them (wire/apps/target.ts),
 * those that were deployed on the device by their numbers. `refused` are those of the cloud that could not be read.
 */
export function appStates(
  apps: readonly AppView[],
  refused: readonly RefusedRelease[] = [],
): Record<string, AppState> {
  const states = Object.fromEntries(apps.map((app) => [String(app.appId), appState(app)]));
  for (const { appId, releaseUuid, error } of refused) {
    states[appId] ??= { releases: {} };
    states[appId].releases[releaseUuid] ??= rejected(error);
  }
  return states;
}

function appState(app: AppView): AppState {
  const wanted = app.releaseUuid ?? String(app.release);
  const running =
    app.runningRelease === undefined ? wanted : (app.runningReleaseUuid ?? String(app.runningRelease));
  const services = Object.fromEntries(
    app.services.map((service) => [service.serviceName, serviceState(service)]),
  );
  const isRolledBack = app.state === 'rolled-back';
  const error = app.state === 'failed' && app.error ? { error: failureText(app.error) } : {};
  return {
    ...(app.appName !== undefined && { name: app.appName }),
    release_uuid: running,
    releases: {
      [running]: { update_status: updateStatus(app), ...error, services },
      ...(isRolledBack && running !== wanted && { [wanted]: rejected(app.error) }),
    },
  };
}

function rejected(error: Failure | undefined): ReleaseState {
  return { update_status: 'rejected', ...(error && { error: failureText(error) }), services: {} };
}

type Failure = Pick<Problem, 'detail'> & { code: string };

function failureText({ code, detail }: Failure): string {
  return `${code}: ${detail}`.slice(0, 1000);
}

/** In balena's words. */
function updateStatus({ state, services }: AppView): string {
  switch (state) {
    case 'running':
      return 'done';
    case 'failed':
      return 'aborted';
    case 'rolled-back':
      return services.every(({ status }) => settled.includes(status)) ? 'done' : 'applying changes';
    case 'deploying':
      return services.some(({ status }) => status === 'pulling') ? 'downloading' : 'applying changes';
    case 'removing':
      return 'applying changes';
  }
}

const settled: readonly ServiceView['status'][] = ['running', 'exited', 'stopped'];

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
    ...(error && { error: failureText(error) }),
  };
}
