import type { Logger } from 'pino';
import type { Multiline } from '../../../src/assemble/assembler.ts';
import type { LogHolder } from '../../../src/docker/files/holder/holder.ts';
import { FileReader } from '../../../src/docker/files/reader.ts';
import { Turns } from '../../../src/docker/files/turns.ts';
import type { EncodedLine, PositionSource } from '../../../src/logging/types.ts';
import type { BatchJournal } from './batch-journal.ts';
import type { LogWriter } from './log-writer.ts';

export interface TestReaderOptions {
  /** The journal takes so many lines, and then the process is as good as gone. */
  crashAfter?: number;
  multiline?: Multiline;
  /** Lines may go the short way. */
  isEncoded?: boolean;
  log?: Logger;
  holder?: LogHolder;
  maxHeldFiles?: number;
  /** Where reading begins without a position, in ms since 1970; default 0. */
  startMs?: number;
}

/** A reader of a log that a {@link LogWriter} writes, from the position that the journal has. */
export class TestReader {
  readonly reader: FileReader;
  /** Its process is gone. */
  hasCrashed = false;
  private readonly stopping = new AbortController();
  private readonly crashed = Promise.withResolvers<void>();

  constructor(
    writer: LogWriter,
    journal: BatchJournal,
    {
      crashAfter = Number.POSITIVE_INFINITY,
      multiline = 'off',
      isEncoded = true,
      log,
      holder,
      maxHeldFiles,
      startMs = 0,
    }: TestReaderOptions = {},
  ) {
    let left = crashAfter;
    const isAlive = () => {
      if (--left === -1) {
        journal.crash();
        this.hasCrashed = true;
        this.crashed.resolve();
      }
      return left >= 0;
    };
    this.reader = new FileReader({
      container: { id: writer.id, name: 'test', labels: {} },
      path: writer.path,
      turns: new Turns(),
      ...{ holder, maxHeldFiles },
      signal: this.stopping.signal,
      saved: journal.position(`docker:${writer.id}`),
      startMs: () => startMs,
      multiline,
      deliver: (line, position) => {
        if (isAlive()) journal.log(line, position);
      },
      ...(isEncoded && {
        encoded: {
          present: (ms: number) => ms,
          add: (line: EncodedLine, source: PositionSource) => {
            if (isAlive()) journal.add(line, source);
          },
          flush: () => {
            if (left >= 0) journal.flush();
          },
        },
      }),
      log,
    });
  }

  /** Follows the log until {@link stop}, or the crash. */
  follow(): Promise<void> {
    return this.run(false);
  }

  /** Reads what is there, as of a container that has ended. */
  readAll(): Promise<void> {
    return this.run(true);
  }

  stop(): void {
    this.stopping.abort();
  }

  private run(hasEnded: boolean): Promise<void> {
    return Promise.race([this.reader.run(undefined, hasEnded), this.crashed.promise]);
  }
}
