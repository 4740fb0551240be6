import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { Records } from '../records/records.ts';
import { uuidPattern } from './identity.ts';

/** Most devices whose state is held until it is written. Beyond it further changes wait for the next message. */
const maxWaiting = 10_000;

/**
 * Which devices are online: those with an open log-stream to this process, and those that said so on their MQTT
 * status topic. Changes are written one at a time and the newest wins, so a flood of them writes no more often
 * than the database can.
 */
export class Presence implements AsyncDisposable {
  readonly #records: Records;
  readonly #log: Logger;
  readonly #streams = new Map<string, number>();
  readonly #waiting = new Map<string, { online: boolean; changedAtMs: number }>();
  #writing: Promise<void> | undefined;
  #closed = false;

  constructor({ records, log }: { records: Records; log: Logger }) {
    this.#records = records;
    this.#log = log;
  }

  /** Counts a log-stream as open until the returned handle is disposed of. */
  streaming(uuid: string): Disposable {
    this.#streams.set(uuid, (this.#streams.get(uuid) ?? 0) + 1);
    let open = true;
    return {
      [Symbol.dispose]: () => {
        if (!open) return;
        open = false;
        const left = (this.#streams.get(uuid) ?? 1) - 1;
        if (left > 0) this.#streams.set(uuid, left);
        else this.#streams.delete(uuid);
      },
    };
  }

  isStreaming(uuid: string): boolean {
    return this.#streams.has(uuid);
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
