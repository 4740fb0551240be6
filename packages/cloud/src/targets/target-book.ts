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

/** Targets of which the releases are held: each is some hundred bytes. */
const maxKnown = 10_000;

/** The targets of devices: of each the apps of its fleet, as far as a rollout has come, and over them its own. */
export class TargetBook {
  readonly #records: Records;
  /** Uuids of the releases of targets, by app; neither ever changes. */
  readonly #known = new Map<number, ReadonlyMap<number, string>>();

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
    const version = versionOf(
      now,
      now.releases.map(({ release }) => release.uuid),
    );
    return { version, document: targetDocument({ uuid, name: nameOf(now) }, apps) };
  }

  /** The versions for those of some devices that have a target. Asked for with each report: one query, mostly. */
  async versions(uuids: readonly string[]): Promise<Map<string, string>> {
    const pointers = await this.#records.targets.pointers(uuids);
    await this.#learn(pointers.flatMap(({ own, ofFleet }) => [own, ofFleet]).filter((id) => id !== null));
    const of = (id: number | null) => (id === null ? undefined : this.#known.get(id)) ?? [];
    const versions = new Map<string, string>();
    for (const pointer of pointers) {
      if (pointer.own === null && pointer.ofFleet === null) continue;
      const byApp = [...new Map([...of(pointer.ofFleet), ...of(pointer.own)])].sort(([a], [b]) => a - b);
      versions.set(
        pointer.uuid,
        versionOf(
          pointer,
          byApp.map(([, release]) => release),
        ),
      );
    }
    return versions;
  }

  async #learn(ids: readonly number[]): Promise<void> {
    if (this.#known.size > maxKnown) this.#known.clear();
    const missing = [...new Set(ids)].filter((id) => !this.#known.has(id));
    if (missing.length === 0) return;
    const targets = await this.#records.targets.byIds(missing);
    const releases = await this.#records.releases.byIds(
      [...targets.values()].flatMap((target) => target.releases),
    );
    for (const target of targets.values()) {
      const known = target.releases.flatMap((id) => releases.get(id) ?? []);
      this.#known.set(target.id, new Map(known.map(({ appId, uuid }) => [appId, uuid])));
    }
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
function versionOf(device: TargetPointers, releases: readonly string[]): string {
  const parts = [device.uuid, nameOf(device), ...releases];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}

function nameOf({ name, uuid }: TargetPointers): string {
  return name ?? uuid;
}

/** balena's shape names apps by uuid; ours have ids, and so each the uuid that follows from it. */
export function appUuidOf(appId: number): string {
  return createHash('sha256').update(`app ${appId}`).digest('hex').slice(0, 32);
}
