import { createHash, randomBytes } from 'node:crypto';
import { MillraceError, maxTargetBytes } from '@millrace/wire';
import { canonical } from '@millrace/wire/apps';
import type { RecordTables } from '../records/records.ts';
import type { ReleaseRecord } from '../records/releases.ts';
import type { TargetOwner } from '../records/targets.ts';
import { type GivenApp, invalid, maxApps } from './given-apps.ts';

export interface TargetRequest {
  apps: readonly GivenApp[];
  /** `replace`: these apps and no other. `merge`: these, and of the others what is there. */
  mode: 'replace' | 'merge';
  /** Apps are new releases even where nothing differs, so that devices try again what failed. */
  isRetry: boolean;
  by: string;
  nowMs: number;
}

export interface AppChange {
  appId: number;
  appName: string | null;
  change: 'added' | 'changed' | 'retried' | 'same' | 'removed';
}

export interface TargetSet {
  /** Ids of the releases of the target, by app. */
  releases: number[];
  changes: AppChange[];
  isChanged: boolean;
}

/**
 * Works out the releases that a request asks for, and notes down the new ones.
 *
 * @param current the releases that are asked for now; `undefined` when there is no target
 * @throws MillraceError `APP_INVALID`
 */
export async function releasesFor(
  tables: RecordTables,
  current: readonly ReleaseRecord[] | undefined,
  request: TargetRequest,
): Promise<TargetSet> {
  const before = new Map((current ?? []).map((release) => [release.appId, release]));
  const after = new Map<number, ReleaseRecord>(request.mode === 'merge' ? before : []);
  const changes: AppChange[] = [];
  const given = new Set<number>();
  for (const app of request.apps) {
    const { appId, release } = await wantedOf(tables, app, request);
    if (given.has(appId)) throw invalid(`${app.place} is there twice: it is app ${appId} as well`);
    given.add(appId);
    const known = before.get(appId);
    const isSame = known?.content === release.content;
    const isKept = known !== undefined && isSame && !request.isRetry;
    after.set(appId, isKept ? known : await tables.releases.add(release));
    const change = isKept ? 'same' : known === undefined ? 'added' : isSame ? 'retried' : 'changed';
    changes.push({ appId, appName: app.app.appName ?? app.name ?? null, change });
  }
  for (const release of before.values()) {
    if (given.has(release.appId)) continue;
    const change = after.has(release.appId) ? 'same' : 'removed';
    changes.push({ appId: release.appId, appName: nameOf(release), change });
  }
  if (after.size > maxApps) throw invalid(`with these there would be more than ${maxApps} apps`);
  const bytes = [...after.values()].reduce((sum, { given: text }) => sum + Buffer.byteLength(text), 0);
  if (bytes > maxTargetBytes / 2) {
    throw new MillraceError('BODY_TOO_LARGE', `apps of ${bytes} bytes are too large for one target`);
  }
  return {
    releases: [...after.values()].sort((a, b) => a.appId - b.appId).map(({ id }) => id),
    changes,
    isChanged: current === undefined || changes.some(({ change }) => change !== 'same'),
  };
}

async function wantedOf(
  tables: RecordTables,
  { place, appId: asked, name, given, app }: GivenApp,
  { by, nowMs }: TargetRequest,
): Promise<{ appId: number; release: Omit<ReleaseRecord, 'id'> }> {
  const appId = asked ?? (await tables.releases.appIdOf(name ?? ''));
  if (asked !== undefined && name !== undefined) {
    const other = await tables.releases.claimAppId(name, asked);
    const where = place === '' ? '' : `${place}.`;
    if (other) throw invalid(`${where}appId: here ${other.name} is app ${other.appId}`);
  }
  const release = {
    uuid: randomBytes(16).toString('hex'),
    appId,
    content: createHash('sha256')
      .update(canonical({ ...app, appId }))
      .digest('hex'),
    given: JSON.stringify({ ...given, appId }),
    createdAtMs: nowMs,
    createdBy: by,
  };
  return { appId, release };
}

/** The releases that are asked for of a fleet or a device itself; `undefined` when it has no target. */
export async function releasesOf(
  tables: RecordTables,
  owner: TargetOwner,
): Promise<ReleaseRecord[] | undefined> {
  const id =
    'fleet' in owner
      ? (await tables.rollouts.ofFleet(owner.fleet))?.rollout.target
      : (await tables.targets.ofDevice(owner.device))?.id;
  if (id === undefined) return undefined;
  const target = (await tables.targets.byIds([id])).get(id);
  const releases = await tables.releases.byIds(target?.releases ?? []);
  return (target?.releases ?? []).flatMap((release) => releases.get(release) ?? []);
}

export function nameOf({ given }: ReleaseRecord): string | null {
  return (JSON.parse(given) as { appName?: string }).appName ?? null;
}
