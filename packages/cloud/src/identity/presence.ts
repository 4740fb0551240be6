import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Records } from '../records/records.ts';
import { uuidPattern } from './identity.ts';

/** Most devices of which is held when their last log-stream ended. */
const maxEnded = 100_000;
/** A device that has said nothing but how it is counts as online for this long: two of its reports, and some time. */
const reportHoldsMs = 11 * 60_000;

/** Whether a device is online, and since when that has been so, in ms since 1970. */
export interface Online {
  online: boolean;
  changedAtMs: number;
}

/** Most devices whose state is held until it is written. Beyond it further changes wait for the next message. */
const maxWaiting = 10_000;

/**
 * Which devices are online: those with an open log-stream to this process, those that said so on their MQTT
 * status topic, and those that reported their state lately. Changes are written one at a time and the newest wins, so a flood of them writes no more often
 * than the database can.
 */
export class Presence implements AsyncDisposable {
  readonly #records: Records;
  readonly #log: Logger;
  readonly #streams = new Map<string, { open: number; sinceMs: number }>();
  readonly #ended = new Map<string, number>();
  readonly #waiting = new Map<string, { online: boolean; changedAtMs: number }>();
  #writing: Promise<void> | undefined;
  #closed = false;

  constructor({ records, log }: { records: Records; log: Logger }) {
    this.#records = records;
    this.#log = log;
  }

  /** Counts a log-stream as open until the returned handle is disposed of. */
  streaming(uuid: string): Disposable {
    const stream = this.#streams.get(uuid) ?? { open: 0, sinceMs: Date.now() };
    stream.open += 1;
    this.#streams.set(uuid, stream);
    let open = true;
    return {
      [Symbol.dispose]: () => {
        if (!open) return;
        open = false;
        stream.open -= 1;
        if (stream.open > 0) return;
        this.#streams.delete(uuid);
        this.#noteEnd(uuid);
      },
    };
  }

  #noteEnd(uuid: string): void {
    // The newest at the end: the first is the one to forget.
    this.#ended.delete(uuid);
    this.#ended.set(uuid, Date.now());
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > maxEnded && oldest !== undefined) this.#ended.delete(oldest);
  }

  /**
   * What all that is known of a device comes to; `undefined` when nothing is.
   *
   * @param said what it said last on its status topic
   * @param reportedAtMs when it last reported its state
   */
  of(
    uuid: string,
    { said, reportedAtMs }: { said?: { online: boolean; changedAtMs: number }; reportedAtMs?: number },
  ): Online | undefined {
    const stream = this.#streams.get(uuid);
    const since: number[] = [];
    const until: number[] = [];
    if (stream) since.push(stream.sinceMs);
    if (said) (said.online ? since : until).push(said.changedAtMs);
    if (reportedAtMs !== undefined) {
      const silentAtMs = reportedAtMs + reportHoldsMs;
      if (Date.now() < silentAtMs) since.push(reportedAtMs);
      else until.push(silentAtMs);
    }
    if (since.length > 0) return { online: true, changedAtMs: Math.min(...since) };
    const endedMs = this.#ended.get(uuid);
    if (endedMs !== undefined) until.push(endedMs);
    return until.length > 0 ? { online: false, changedAtMs: Math.max(...until) } : undefined;
  }

  /** Takes a message of `device/{uuid}/status`: `{"online":boolean}`. Anything else is logged and left alone. */
  status(uuid: string, payload: Uint8Array): void {
    // A retained message is cleared with an empty one: that says nothing about the device.
    if (this.#closed || payload.length === 0 || !uuidPattern.test(uuid)) return;
    const online = onlineOf(payload);
    if (online === undefined) {
      this.#log.warn(
        { device: uuid, bytes: payload.length },
        'a status message without "online" was left alone',
      );
      return;
    }
    if (this.#waiting.size >= maxWaiting && !this.#waiting.has(uuid)) {
      this.#log.warn({ device: uuid }, 'too many status changes at once: one was left out');
      return;
    }
    this.#waiting.set(uuid, { online, changedAtMs: Date.now() });
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    // Yields first, so that `#writing` is set before the loop can clear it.
    await Promise.resolve();
    for (const [uuid, state] of this.#waiting) {
      this.#waiting.delete(uuid);
      try {
        await this.#records.presence.save({ uuid, ...state });
      } catch (error) {
        this.#log.warn({ device: uuid, error: errorText(error) }, 'a device status could not be saved');
      }
    }
    this.#writing = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#writing;
  }
}

function onlineOf(payload: Uint8Array): boolean | undefined {
  if (payload.length > 64 * 1024) return undefined;
  const text = Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString('utf8').trim();
  // Plain words are what a shell script or another vendor's device sends.
  if (text === 'online') return true;
  if (text === 'offline') return false;
  try {
    const value: unknown = JSON.parse(text);
    const online =
      typeof value === 'object' && value !== null ? (value as { online?: unknown }).online : undefined;
    return typeof online === 'boolean' ? online : undefined;
  } catch {
    return undefined;
  }
}
