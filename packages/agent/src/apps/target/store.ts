import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import * as z from 'zod';

/*
 * `DATA_DIR/apps.json` holds what the apps of this device shall be:
 *
 *   {"version":1,"apps":[{"appId":1001,"release":3,"app":{…},"outcome":"pending","good":{"release":2,"app":{…}},…}],
 *    "pulled":[{"image":"nginx:1.29","id":"sha256:…"}],
 *    "cloud":{"version":"k81x…","refused":[{"appId":1002,"releaseUuid":"…","error":{…}}]}}
 *
 * An app with a `releaseUuid` came from a cloud, and `cloud` is of the target that was applied last. All that a target
 * changes is in one write, so that it is applied as a whole or not at all.
 *
 * `pulled` lists what this agent has pulled and may remove; an entry without an id is a pull under way.
 *
 * Apps are kept as they were given, and checked each time they are read. The file is replaced as a whole: written
 * beside, synced, renamed, and its folder synced, so that there is always the old one or the new one.
 */

const release = z.object({
  release: z.int().min(1),
  app: z.unknown(),
  /** What the cloud calls it, if it asked for it. */
  releaseUuid: z.string().optional(),
});
const failure = z.object({ code: z.string(), detail: z.string() });

const record = release.extend({
  appId: z.int().min(1),
  /**
   * `pending`: being brought up. `done`: all its services were well. `failed`: they were not in time; the release
   * before is in its place, if there is one.
   */
  outcome: z.enum(['pending', 'done', 'failed']),
  /** Why it failed. */
  error: failure.optional(),
  /** The last release that was well. */
  good: release.optional(),
  /** Services that are not to run, though they belong to the app. */
  stopped: z.array(z.string()),
  /** The app is to go: its containers and networks, and its volumes too if so. */
  removing: z.object({ volumes: z.boolean() }).optional(),
});

const pulled = z.object({ image: z.string(), id: z.string().optional() });

/** A release of the last target that could not be read. */
const refused = z.object({ appId: z.int().min(1), releaseUuid: z.string(), error: failure });
const cloud = z.object({ version: z.string(), refused: z.array(refused) });

const file = z.object({
  version: z.literal(1),
  apps: z.array(record),
  pulled: z.array(pulled).default([]),
  cloud: cloud.optional(),
});

export type AppRecord = z.infer<typeof record>;
/** An image by the name that it was pulled under, with a tag or digest. */
export type PulledImage = z.infer<typeof pulled>;
export type RefusedRelease = z.infer<typeof refused>;

/** All that the file holds. */
export interface StoredApps {
  apps: ReadonlyMap<number, AppRecord>;
  pulled: readonly PulledImage[];
  /** The target of a cloud that was applied last. */
  cloud?: z.infer<typeof cloud> | undefined;
}

/** What the apps shall be. In memory it is what the disk holds: a change counts when it is written. */
export class AppStore {
  readonly #path: string;
  readonly #log: Logger;
  readonly #onChange: (() => void) | undefined;
  #stored: StoredApps = { apps: new Map(), pulled: [] };
  #writing: Promise<unknown> = Promise.resolve();

  constructor({ path, log, onChange }: { path: string; log: Logger; onChange?: (() => void) | undefined }) {
    this.#path = path;
    this.#log = log;
    this.#onChange = onChange;
  }

  get apps(): readonly AppRecord[] {
    return [...this.#stored.apps.values()];
  }

  get pulled(): readonly PulledImage[] {
    return this.#stored.pulled;
  }

  get cloud(): StoredApps['cloud'] {
    return this.#stored.cloud;
  }

  get(appId: number): AppRecord | undefined {
    return this.#stored.apps.get(appId);
  }

  /** A damaged file is set aside. Then nothing is known of any app, and what runs is left as it is. */
  async load(): Promise<void> {
    let text: string;
    try {
      text = await readFile(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        this.#log.error(
          { path: this.#path, error: errorText(error) },
          'the apps of this device cannot be read',
        );
      }
      return;
    }
    try {
      const { apps, ...rest } = file.parse(JSON.parse(text));
      this.#stored = { ...rest, apps: new Map(apps.map((app) => [app.appId, app])) };
    } catch (error) {
      const aside = `${this.#path}.damaged`;
      await rename(this.#path, aside).catch(() => undefined);
      this.#log.error(
        { aside, error: errorText(error) },
        'the list of apps is damaged and was set aside; their containers are left as they are',
      );
    }
  }

  /**
   * Replaces the record of an app by what `change` makes of it; `undefined` removes it. Changes happen one after
   * another. Resolves, with what `change` gave, once it is on the disk.
   *
   * @throws MillraceError `APPS_NOT_SAVED`, and then nothing has changed
   */
  async update(
    appId: number,
    change: (before: AppRecord | undefined) => AppRecord | undefined,
  ): Promise<AppRecord | undefined> {
    const { apps } = await this.updateAll((before) => {
      const record = before.apps.get(appId);
      const after = change(record);
      if (after === record) return before;
      const apps = new Map(before.apps);
      if (after) apps.set(appId, after);
      else apps.delete(appId);
      return { ...before, apps };
    });
    return apps.get(appId);
  }

  /**
   * Replaces everything at once, likewise; the same object changes nothing.
   *
   * @throws MillraceError `APPS_NOT_SAVED`, and then nothing has changed
   */
  updateAll(change: (before: StoredApps) => StoredApps): Promise<StoredApps> {
    const run = this.#writing.then(() => this.#updateAll(change));
    this.#writing = run.catch(() => undefined);
    return run;
  }

  async #updateAll(change: (before: StoredApps) => StoredApps): Promise<StoredApps> {
    const after = change(this.#stored);
    if (after === this.#stored) return after;
    const { apps, ...rest } = after;
    try {
      await replaceFile(this.#path, `${JSON.stringify({ version: 1, apps: [...apps.values()], ...rest })}\n`);
    } catch (cause) {
      throw new MillraceError('APPS_NOT_SAVED', errorText(cause), { cause });
    }
    this.#stored = after;
    this.#onChange?.();
    return after;
  }
}

async function replaceFile(path: string, text: string): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true });
  {
    // The environment of a service may hold passwords.
    await using next = await open(`${path}.new`, 'w', 0o600);
    await next.writeFile(text);
    await next.sync();
  }
  await rename(`${path}.new`, path);
  await using held = await open(folder, 'r');
  await held.sync();
}
