import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { MillraceError } from '@millrace/wire';
import { SessionLoop } from '../delivery/session-loop.ts';
import type { CloudContext } from './cloud/context.ts';
import { type CloudBackendState, type CloudLogBackendOptions, readCloudOptions } from './cloud/options.ts';
import { shortSession } from './cloud/short-session.ts';
import { streamSession } from './cloud/stream-session.ts';
import type { LogBackend, LogInput } from './types.ts';

export type { CloudBackendState, CloudLogBackendOptions } from './cloud/options.ts';

/**
 * Streams log lines to a cloud: one long gzipped NDJSON `POST …/device/v2/{uuid}/log-stream`, acknowledged while it
 * is open. Where that does not get through (a proxy that buffers, a cloud that answers only at the end), short
 * requests. Lines count as delivered when the cloud says that it has stored them.
 */
export class CloudLogBackend implements LogBackend {
  readonly name = 'cloud';
  readonly #context: CloudContext;
  readonly #onStateChange: ((state: CloudBackendState) => void) | undefined;
  #loop: SessionLoop | undefined;
  #connected = false;
  #shown = '';
  #lastError: string | undefined;

  /** @throws MillraceError `OPTION_INVALID`, naming the option and what is allowed */
  constructor(options: CloudLogBackendOptions) {
    const settings = readCloudOptions(options);
    this.#context = {
      settings,
      agent: newAgent(settings.url),
      counters: { requests: 0, lines: 0, bytes: 0, wireBytes: 0, refused: 0 },
      mode: 'stream',
      streamAgainAtMs: 0,
      provenStream: false,
      silentStreams: 0,
    };
    this.#onStateChange = options.onStateChange;
  }

  /**
   * Starts delivering. Resolves once the cloud has answered or the first attempt has failed (then that is logged,
   * and attempts go on until {@link disconnect}).
   */
  async connect(): Promise<void> {
    const context = this.#context;
    const { log, backoff, refusedMs, shownUrl } = context.settings;
    this.#loop ??= new SessionLoop({
      session: async (stop, report) => {
        const session = context.mode === 'stream' ? streamSession : shortSession;
        await session(context, stop, {
          ...report,
          connected: () => {
            if (!this.#connected)
              log.info({ mode: context.mode }, `✅ Cloud log backend connected: ${shownUrl}`);
            this.#setConnected(true);
            report.connected();
          },
        });
      },
      onEnd: (failure) => {
        if (failure) this.#lastError = failure.message;
        // A session that ended as it should is followed by the next at once.
        this.#setConnected(this.#connected && !failure);
      },
      backoff,
      slowMs: refusedMs,
      log,
    });
    await this.#loop.start();
  }

  /** Stops reading, waits up to 2 s for what is under way (without a journal: for all that is held), and closes. */
  async disconnect(): Promise<void> {
    const loop = this.#loop;
    this.#loop = undefined;
    await loop?.stop();
    const { settings, agent } = this.#context;
    agent.destroy();
    this.#setConnected(false);
    const left = settings.memory?.lag().lines ?? 0;
    if (left > 0 && loop) settings.log.warn({ lines: left }, 'disconnected with lines that did not arrive');
  }

  /**
   * Takes a line to send when there is a connection.
   *
   * @throws MillraceError `OPTION_INVALID` when the backend reads from a `feed`: lines enter there
   */
  log(message: LogInput): void {
    const { memory } = this.#context.settings;
    if (!memory) {
      throw new MillraceError('OPTION_INVALID', 'log() is not for a backend with a feed: write to the feed');
    }
    memory.log(message);
  }

  get state(): CloudBackendState {
    const { settings, counters, mode } = this.#context;
    const { lines: lag, lost } = settings.feed.lag();
    return { connected: this.#connected, mode, ...counters, lag, lost, lastError: this.#lastError };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.disconnect();
  }

  #setConnected(connected: boolean): void {
    this.#connected = connected;
    const shown = `${connected} ${this.#context.mode}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#onStateChange?.(this.state);
  }
}

function newAgent(url: URL): Agent {
  return new (url.protocol === 'https:' ? SecureAgent : Agent)({ keepAlive: true, maxSockets: 3 });
}
