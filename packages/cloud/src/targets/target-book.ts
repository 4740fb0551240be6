import { createHash } from 'node:crypto';
import {
  type AppRelease,
  encodeTargetMessage,
  parseApp,
  type TargetDocument,
  targetDocument,
} from '@millrace/wire/apps';
import type { Records, RecordTables } from '../records/records.ts';
import type { ReleaseRecord } from '../records/releases.ts';
import type { TargetPointers } from '../records/targets.ts';

/** What a device is to run, and where that comes from. */
export interface DeviceTargetNow extends TargetPointers {
  /** By app. */
  releases: { release: ReleaseRecord; source: 'device' | 'fleet' }[];
}

export interface VersionedTarget {
  version: string;
  document: TargetDocument;
}

/** The targets of devices: of each the apps of its fleet, as far as a rollout has come, and over them its own. */
export class TargetBook {
  readonly #records: Records;

  constructor({ records }: { records: Records }) {
    this.#records = records;
  }

  /** The document for a device, and its version; `undefined` when it has no target. */
  async target(uuid: string): Promise<VersionedTarget | undefined> {
    const now = (await targetsNow(this.#records, [uuid])).get(uuid);
    if (!now) return undefined;
    const apps = now.releases.map(({ release }): AppRelease => {
      const given: unknown = JSON.parse(release.given);
      const { appId, uuid: releaseUuid, id: releaseId } = release;
      return { appId, appUuid: appUuidOf(appId), releaseUuid, releaseId, given, app: parseApp(given) };
    });
    return { version: versionOf(now), document: targetDocument({ uuid, name: nameOf(now) }, apps) };
  }

  /** The versions for those of some devices that have a target. */
  async versions(uuids: readonly string[]): Promise<Map<string, string>> {
    const targets = await targetsNow(this.#records, uuids);
    return new Map([...targets].map(([uuid, now]) => [uuid, versionOf(now)]));
  }

  /** What is retained for a device on its topic; empty when it has no target. */
  async message(uuid: string): Promise<string> {
    const target = await this.target(uuid);
    return target ? encodeTargetMessage(target.version, target.document) : '';
  }
}

/** What those of some devices that have a target are to run. */
export async function targetsNow(
  records: RecordTables,
  uuids: readonly string[],
): Promise<Map<string, DeviceTargetNow>> {
  const pointers = await records.targets.pointers(uuids);
  const ids = pointers.flatMap(({ own, ofFleet }) => [own, ofFleet]).filter((id) => id !== null);
  const targets = await records.targets.byIds([...new Set(ids)]);
  const releases = await records.releases.byIds([
    ...new Set([...targets.values()].flatMap((target) => target.releases)),
  ]);
  const releasesOf = (id: number | null) =>
    (id === null ? [] : (targets.get(id)?.releases ?? [])).flatMap((release) => releases.get(release) ?? []);
  const found = new Map<string, DeviceTargetNow>();
  for (const pointer of pointers) {
    if (pointer.own === null && pointer.ofFleet === null) continue;
    const byApp = new Map<number, DeviceTargetNow['releases'][number]>();
    for (const release of releasesOf(pointer.ofFleet)) byApp.set(release.appId, { release, source: 'fleet' });
    for (const release of releasesOf(pointer.own)) byApp.set(release.appId, { release, source: 'device' });
    const sorted = [...byApp.values()].sort((a, b) => a.release.appId - b.release.appId);
    found.set(pointer.uuid, { ...pointer, releases: sorted });
  }
  return found;
}

/** A document follows from the releases in it, which never change, and the device's name. */
function versionOf(target: DeviceTargetNow): string {
  const parts = [target.uuid, nameOf(target), ...target.releases.map(({ release }) => release.uuid)];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}

function nameOf({ name, uuid }: TargetPointers): string {
  return name ?? uuid;
}

/** balena's shape names apps by uuid; ours have ids, and so each the uuid that follows from it. */
export function appUuidOf(appId: number): string {
  return createHash('sha256').update(`app ${appId}`).digest('hex').slice(0, 32);
}
