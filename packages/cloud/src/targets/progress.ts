import type { AppState, DeviceState, ReleaseState } from '@millrace/wire';

/** How far a device is with a release. `pending`: it has not said anything of it. */
export type ProgressState = 'pending' | 'updating' | 'done' | 'failed';

export interface Progress {
  state: ProgressState;
  /** As the device says it: `downloading`, `applying changes`, … */
  updateStatus?: string;
  /** Why it failed, or what is in its way. */
  error?: string;
  /** Of what is being downloaded, in percent. */
  downloadProgress?: number;
  /** The release that runs, where that is another. */
  runningRelease?: string;
}

/** What a device's last report says of a release; see wire's `apps/target.ts`. balena's own devices name apps by uuid. */
export function progressOf(
  apps: DeviceState['apps'],
  wanted: { appId: number; appUuid: string; releaseUuid: string },
): Progress {
  const app = entryOf(apps, wanted.appUuid) ?? entryOf(apps, String(wanted.appId));
  const release = entryOf(app?.releases, wanted.releaseUuid);
  const other = app?.release_uuid === wanted.releaseUuid ? undefined : app?.release_uuid;
  const running = other === undefined ? {} : { runningRelease: other };
  if (!release) return { state: 'pending', ...running };
  const { update_status: updateStatus } = release;
  const error = release.error ?? errorOfServices(release);
  const said = {
    ...(updateStatus !== undefined && { updateStatus }),
    ...(error !== undefined && updateStatus !== 'done' && { error }),
    ...running,
  };
  if (updateStatus === 'done') return { state: 'done', ...said };
  if (updateStatus === 'rejected' || updateStatus === 'aborted') return { state: 'failed', ...said };
  const downloadProgress = meanDownload(release);
  return { state: 'updating', ...said, ...(downloadProgress !== undefined && { downloadProgress }) };
}

/** What several come to: failed when one is, done when all are. */
export function allOf(progress: readonly Progress[]): Progress {
  const first = (state: ProgressState) => progress.find((one) => one.state === state);
  return first('failed') ?? first('updating') ?? first('pending') ?? { state: 'done' };
}

function entryOf<T>(record: Record<string, T> | null | undefined, key: string): T | undefined {
  return record && Object.hasOwn(record, key) ? record[key] : undefined;
}

function errorOfServices({ services }: ReleaseState): string | undefined {
  const [found] = Object.entries(services).filter(([, { error }]) => error !== undefined);
  return found && `${found[0]}: ${found[1].error}`;
}

function meanDownload({ services }: ReleaseState): number | undefined {
  const shares = Object.values(services).flatMap(({ download_progress: share }) => share ?? []);
  if (shares.length === 0) return undefined;
  return Math.round(shares.reduce((sum, share) => sum + share, 0) / shares.length);
}

/** The apps of a device in short, for lists. */
export function appsInShort(apps: DeviceState['apps']) {
  return Object.entries(apps ?? {}).map(([id, app]: [string, AppState]) => {
    const releases = Object.entries(app.releases);
    const isRefused = releases.some(
      ([, { update_status: status }]) => status === 'rejected' || status === 'aborted',
    );
    const running = entryOf(app.releases, app.release_uuid ?? '');
    return {
      id,
      name: app.name ?? null,
      release: app.release_uuid ?? null,
      status: isRefused ? 'rejected' : (running?.update_status ?? null),
    };
  });
}
