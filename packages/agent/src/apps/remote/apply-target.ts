import { MillraceError } from '@millrace/wire';
import type { AppRelease, UnreadableRelease } from '@millrace/wire/apps';
import { isSameApp, nextRelease } from '../target/releases.ts';
import type { AppRecord, RefusedRelease, StoredApps } from '../target/store.ts';

export interface AppliedTarget {
  stored: StoredApps;
  /** Apps whose records changed. */
  changed: number[];
}

/**
 * What the apps of a device become by a target. It rules over those that came from a cloud: one that it does not hold
 * goes, its volumes stay; others are as they were, unless it holds their id.
 */
export function applyTarget(
  before: StoredApps,
  version: string,
  releases: readonly (AppRelease | UnreadableRelease)[],
  maxApps: number,
): AppliedTarget {
  const apps = new Map(before.apps);
  const refused: RefusedRelease[] = [];
  const named = new Set<number>();
  for (const release of releases) {
    const { appId, releaseUuid } = release;
    const error = 'error' in release ? release.error : wrongWith(release, { named, apps, maxApps });
    if (error) refused.push({ appId, releaseUuid, error: { code: error.code, detail: error.detail } });
    else if (!('error' in release)) apps.set(appId, recordFor(apps.get(appId), release));
    named.add(appId);
  }
  for (const [appId, record] of apps) {
    if (record.releaseUuid === undefined || named.has(appId) || record.removing) continue;
    apps.set(appId, { ...record, removing: { volumes: false } });
  }
  const changed = [...apps.keys()].filter((appId) => apps.get(appId) !== before.apps.get(appId));
  return { stored: { ...before, apps, cloud: { version, refused } }, changed };
}

function wrongWith(
  { appId }: AppRelease,
  seen: { named: ReadonlySet<number>; apps: ReadonlyMap<number, AppRecord>; maxApps: number },
): MillraceError | undefined {
  if (seen.named.has(appId)) return new MillraceError('APP_INVALID', `app ${appId} is there twice`);
  if (seen.apps.has(appId) || seen.apps.size < seen.maxApps) return undefined;
  return new MillraceError('APP_INVALID', `there are ${seen.maxApps} apps already`);
}

function recordFor(before: AppRecord | undefined, release: AppRelease): AppRecord {
  const { releaseUuid, app } = release;
  if (!before || before.removing) return nextRelease(before, release);
  // Each is tried once, whatever came of it.
  if (before.releaseUuid === releaseUuid) return before;
  // The same by another name: nothing is touched. One that failed is tried anew.
  if (before.outcome === 'failed' || !isSameApp(before, app)) return nextRelease(before, release);
  const isGood = before.outcome === 'done' && before.good !== undefined;
  return {
    ...before,
    releaseUuid,
    ...(isGood && { good: { ...before.good, releaseUuid } as AppRecord['good'] }),
  };
}
