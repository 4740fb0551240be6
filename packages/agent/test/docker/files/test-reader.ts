import type { Logger } from 'pino';
import { FileReader } from '../../../src/docker/files/reader.ts';
import { Turns } from '../../../src/docker/files/turns.ts';
import type { MemoryJournal } from '../memory-journal.ts';
import type { LogWriter } from './log-writer.ts';

/** A reader of a log that a {@link LogWriter} writes, from the position that the journal has. */
export class TestReader {
  readonly reader: FileReader;
  private readonly stopping = new AbortController();

  /** @param crashAfter the journal takes so many lines, and then the process is as good as gone */
  constructor(
    writer: LogWriter,
    journal: MemoryJournal,
    { crashAfter = Number.POSITIVE_INFINITY, log }: { crashAfter?: number; log?: Logger } = {},
  ) {
    let left = crashAfter;
    this.reader = new FileReader({
      container: { id: writer.id, name: 'test', labels: {} },
      path: writer.path,
      turns: new Turns(),
      signal: this.stopping.signal,
      saved: journal.position(`docker:${writer.id}`),
      startMs: () => 0,
      deliver: (line, position) => {
        if (left-- <= 0) throw new Crash();
        return journal.log(line, position);
      },
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

  private async run(hasEnded: boolean): Promise<void> {
    try {
      await this.reader.run(undefined, hasEnded);
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
    }
  }
}

class Crash extends Error {}
