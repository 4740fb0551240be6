import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import * as z from 'zod';

/*
 * `DATA_DIR/apps.json` holds what the apps of this device shall be:
 *
 *   {"version":1,"apps":[{"appId":1001,"release":3,"app":{…},"outcome":"pending","good":{"release":2,"app":{…}},…}]}
 *
 * Apps are kept as they were given, and checked each time they are read. The file is replaced as a whole: written
 * beside, synced, renamed, and its folder synced, so that there is always the old one or the new one.
 */

const release = z.object({ release: z.int().min(1), app: z.unknown() });

const record = release.extend({
  appId: z.int().min(1),
  /**
   * `pending`: being brought up. `done`: all its services were well. `failed`: they were not in time; the release
   * before is in its place, if there is one.
   */
  outcome: z.enum(['pending', 'done', 'failed']),
  /** Why it failed. */
  error: z.object({ code: z.string(), detail: z.string() }).optional(),
  /** The last release that was well. */
  good: release.optional(),
  /** Services that are not to run, though they belong to the app. */
  stopped: z.array(z.string()),
  /** The app is to go: its containers and networks, and its volumes too if so. */
  removing: z.object({ volumes: z.boolean() }).optional(),
});

const file = z.object({ version: z.literal(1), apps: z.array(record) });

export type AppRecord = z.infer<typeof record>;

/** What the apps shall be. In memory it is what the disk holds: a change counts when it is written. */
export class AppStore {
  readonly #path: string;
  readonly #log: Logger;
  #apps = new Map<number, AppRecord>();
  #writing: Promise<unknown> = Promise.resolve();

  constructor({ path, log }: { path: string; log: Logger }) {
    this.#path = path;
    this.#log = log;
  }

  get apps(): readonly AppRecord[] {
    return [...this.#apps.values()];
  }

  get(appId: number): AppRecord | undefined {
    return this.#apps.get(appId);
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
      this.#apps = new Map(file.parse(JSON.parse(text)).apps.map((app) => [app.appId, app]));
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
  update(
    appId: number,
    change: (before: AppRecord | undefined) => AppRecord | undefined,
  ): Promise<AppRecord | undefined> {
    const run = this.#writing.then(() => this.#update(appId, change));
    this.#writing = run.catch(() => undefined);
    return run;
  }

  async #update(
    appId: number,
    change: (before: AppRecord | undefined) => AppRecord | undefined,
  ): Promise<AppRecord | undefined> {
    const before = this.#apps.get(appId);
    const after = change(before);
    if (after === before) return after;
    const apps = new Map(this.#apps);
    if (after) apps.set(appId, after);
    else apps.delete(appId);
    try {
      await replaceFile(this.#path, `${JSON.stringify({ version: 1, apps: [...apps.values()] })}\n`);
    } catch (cause) {
      throw new MillraceError('APPS_NOT_SAVED', errorText(cause), { cause });
    }
    this.#apps = apps;
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
