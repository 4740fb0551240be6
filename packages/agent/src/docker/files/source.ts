import { accessSync, constants, existsSync, type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { LogCursorOptions } from '../cursor.ts';
import type { ContainerIdentity } from '../services.ts';
import { lookInto, needsHolder } from './container-folder.ts';
import { HeldLimit } from './held-limit.ts';
import { LogHolder } from './holder/holder.ts';
import { FileReader } from './reader.ts';
import { Turns } from './turns.ts';

export interface LogFilesOptions {
  /** Ends all reading. */
  signal: AbortSignal;
  /** A container has a log that it had not before: to be read at once, since it may be removed in a moment. */
  onFound(container: ContainerIdentity): void;
  log?: Logger;
}

/** Containers that were made and not started yet, whose folders are watched. */
const maxAwaited = 256;
const folderName = /^[0-9a-f]{64}$/;

/**
 * The folder in which an engine on this machine keeps its containers' logs. A container's log is opened as soon as
 * the kernel tells of it, which is before the engine does: one that lives for a moment and is removed on exit can be
 * read to its end all the same.
 */
export class LogFiles implements Disposable {
  private readonly options: LogFilesOptions;
  private readonly turns = new Turns();
  private readonly holder: LogHolder;
  private readonly awaited = new Map<string, FSWatcher>();
  private folder: string | undefined;
  private watcher: FSWatcher | undefined;

  constructor(options: LogFilesOptions) {
    this.options = options;
    this.holder = new LogHolder(options);
  }

  /** @param root the engine's data folder, by its own account; on another machine there is none of that name */
  useRoot(root: string | undefined): void {
    const folder = root && join(root, 'containers');
    if (folder === this.folder && this.watcher) return;
    this[Symbol.dispose]();
    this.folder = folder;
    if (!folder || !existsSync(folder)) return;
    try {
      this.watcher = watch(folder, { persistent: false }, (_, name) => {
        if (name !== null && folderName.test(name)) this.await(name);
      });
      this.watcher.on('error', (error) => this.notWatched(error));
    } catch (error) {
      this.notWatched(error);
    }
  }

  /** A reader of a container's log files; `undefined` where there are none that we may read. */
  readerOf(options: LogCursorOptions): FileReader | undefined {
    const { signal, log } = this.options;
    const path = this.pathOf(options.container.id);
    return path && canRead(path)
      ? new FileReader({ ...options, path, turns: this.turns, holder: this.holder, signal, log })
      : undefined;
  }

  [Symbol.dispose](): void {
    this.watcher?.close();
    this.watcher = undefined;
    for (const id of this.awaited.keys()) this.forget(id);
  }

  private pathOf(id: string): string | undefined {
    return this.folder && join(this.folder, id, `${id}-json.log`);
  }

  /** A folder has appeared, or gone: the log follows when its container is started. */
  private await(id: string): void {
    const path = this.pathOf(id);
    if (!path || !this.folder || this.awaited.has(id)) return;
    const folder = join(this.folder, id);
    try {
      const watcher = watch(folder, { persistent: false }, (_, name) => {
        if (name === 'hostconfig.json') this.foresee(folder, path);
        this.look(id, path);
      });
      watcher.on('error', () => this.forget(id));
      this.awaited.set(id, watcher);
    } catch {
      // Gone already, or the kernel gives no more watches: then the engine's event has to do.
      return;
    }
    const [oldest] = this.awaited.keys();
    if (this.awaited.size > maxAwaited && oldest !== undefined) this.forget(oldest);
    this.foresee(folder, path);
    this.look(id, path);
  }

  /** A container's process begins a tenth of a second after it was made, and may write at once. */
  private foresee(folder: string, path: string): void {
    const log = lookInto(folder);
    const { rotation, lookAgainMs } = log;
    if (!rotation || !needsHolder(log)) return;
    this.holder.prepare();
    // Of compressed ones names tell nothing, and it is left to whoever reads them.
    if (rotation.isCompressed) return;
    const room = new HeldLimit(path, rotation.fileBytes).files;
    this.holder.foresee({ path, plainFiles: rotation.maxFiles, room, lifeMs: lookAgainMs });
  }

  private look(id: string, path: string): void {
    const folder = join(path, '..');
    if (existsSync(path)) {
      this.forget(id);
      const { identity } = lookInto(folder);
      if (identity && canRead(path)) this.options.onFound(identity);
    } else if (!existsSync(folder)) this.forget(id);
  }

  private forget(id: string): void {
    this.awaited.get(id)?.close();
    this.awaited.delete(id);
  }

  private notWatched(error: unknown): void {
    this.options.log?.warn(
      { folder: this.folder, error: errorText(error) },
      'the folder of the containers cannot be watched: logs of containers that live for a moment may be missed',
    );
  }
}

function canRead(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
