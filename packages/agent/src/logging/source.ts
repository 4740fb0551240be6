import { errorText, type LogInput } from '@millrace/wire';
import type { Logger } from 'pino';
import type { LogBackend, SourcePosition } from './types.ts';

/** Something besides the containers that lines are read from: the system's journal, syslog, plain files. */
export interface LogSource extends AsyncDisposable {
  /** As it is named in settings and in `GET /v1/device`. */
  readonly name: string;
  readonly state: SourceState;
  /** Resolves after the first attempt to read, whether it succeeded or not. Never fails: it goes on trying. */
  start(): Promise<void>;
  /** Ends all reading. Resolves when the lines under way have been taken. */
  stop(): Promise<void>;
}

export interface SourceState {
  connected: boolean;
  /** What it reads at this moment, for people: an address, a number of files. */
  detail?: string;
  /** Lines handed on since the source was made. */
  lines: number;
  /** Lines that could not be kept. */
  dropped?: number;
  /** Why it cannot be read, and what to do. */
  error?: string;
}

/** Where a source's lines go. */
export type LineTaker = Pick<LogBackend, 'log' | 'move' | 'forget'>;

/** The one place through which a source hands on its lines: counts them, and a line that is refused stops nothing. */
export class SourceOutlet {
  lines = 0;
  readonly #taker: LineTaker;
  readonly #name: string;
  readonly #log: Logger | undefined;
  #hasFailed = false;

  constructor({ taker, name, log }: { taker: LineTaker; name: string; log?: Logger | undefined }) {
    this.#taker = taker;
    this.#name = name;
    this.#log = log;
  }

  /** A promise holds the source back until it is settled. Never throws. */
  deliver(line: LogInput, position?: SourcePosition): void | Promise<void> {
    this.lines++;
    try {
      return this.#taker.log(line, position)?.catch((error: unknown) => this.#refused(error));
    } catch (error) {
      this.#refused(error);
    }
  }

  /** Saves where the source stands without a line. */
  move(position: SourcePosition): void {
    this.#taker.move?.(position);
  }

  forget(key: string): void {
    this.#taker.forget?.(key);
  }

  #refused(error: unknown): void {
    if (this.#hasFailed) return;
    // Once, not for each line.
    this.#hasFailed = true;
    this.#log?.error({ source: this.#name, error: errorText(error) }, 'a line of this source was refused');
  }
}
