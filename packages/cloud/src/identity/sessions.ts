import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { AccessListener, Records } from '../records/records.ts';
import { isOpenHash } from './callers.ts';
import { sameHash } from './secrets.ts';

export interface SessionsOptions {
  records: Pick<Records, 'devices' | 'tokens'> & {
    onAccessChange(listener: AccessListener): AsyncDisposable;
  };
  log: Logger;
  /** How often everything is looked at that nobody said anything about. Default a minute. */
  recheckMs?: number;
}

interface Session {
  hash: string;
  end: () => void;
}

/** Devices asked for at once. */
const devicesPerQuery = 10_000;
/** Before what could not be looked at is looked at again. */
const againMs = 5000;

/**
 * What lasts, and was opened with a key or a token: log-streams, MQTT connections, tails. Each is ended when that opens
 * nothing any more, whichever process of the cloud was told so: within a moment when the database passes it on, else at
 * the next look at everything. So are those whose token has expired.
 *
 * While the records do not answer, what was open stays open.
 */
export class Sessions implements AsyncDisposable {
  readonly #options: SessionsOptions;
  readonly #devices = new Map<string, Set<Session>>();
  readonly #tokens = new Set<Session>();
  readonly #notices: AsyncDisposable;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: SessionsOptions) {
    this.#options = options;
    this.#notices = options.records.onAccessChange({
      onChange: (change) =>
        void (change === 'tokens' ? this.tokensChanged() : this.deviceChanged(change.device)),
      onMissed: () => void this.#recheck(),
    });
    this.#wait();
  }

  /** Holds something of a device, opened with the key of this hash, until the handle is disposed of. */
  ofDevice(uuid: string, hash: string, end: () => void): Disposable {
    const session = { hash, end };
    const sessions = this.#devices.get(uuid) ?? new Set();
    this.#devices.set(uuid, sessions);
    sessions.add(session);
    return {
      [Symbol.dispose]: () => {
        sessions.delete(session);
        if (sessions.size === 0 && this.#devices.get(uuid) === sessions) this.#devices.delete(uuid);
      },
    };
  }

  /** Holds something that was opened with the token of this hash, until the handle is disposed of. */
  ofToken(hash: string, end: () => void): Disposable {
    const session = { hash, end };
    this.#tokens.add(session);
    return { [Symbol.dispose]: () => void this.#tokens.delete(session) };
  }

  /** Ends what a device has open with a key that is not its own any more. Never fails: it is tried again. */
  deviceChanged(uuid: string): Promise<void> {
    return this.#look(() => this.#checkDevices([uuid]));
  }

  /** Ends what is open with tokens that are none any more. Never fails: it is tried again. */
  tokensChanged(): Promise<void> {
    return this.#look(() => this.#checkTokens());
  }

  #recheck(): Promise<void> {
    return this.#look(async () => {
      await this.#checkTokens();
      const uuids = [...this.#devices.keys()];
      for (let i = 0; i < uuids.length; i += devicesPerQuery) {
        await this.#checkDevices(uuids.slice(i, i + devicesPerQuery));
      }
    });
  }

  /** One look after another: however many changes there are, they take one connection to the records. */
  #look(check: () => Promise<void>): Promise<void> {
    this.#looking = this.#looking.then(async () => {
      if (this.#closed) return;
      try {
        await check();
      } catch (error) {
        this.#options.log.warn(
          { reason: errorText(error) },
          'whether what is open still may be is not known',
        );
        this.#wait(againMs);
      }
    });
    return this.#looking;
  }

  async #checkDevices(uuids: readonly string[]): Promise<void> {
    const open = uuids.filter((uuid) => this.#devices.has(uuid));
    if (open.length === 0) return;
    const hashes = await this.#options.records.devices.keyHashes(open);
    for (const uuid of open) {
      const hash = hashes.get(uuid);
      for (const session of this.#devices.get(uuid) ?? []) {
        if (hash == null || !sameHash(session.hash, hash)) this.#end(session, { device: uuid });
      }
    }
  }

  async #checkTokens(): Promise<void> {
    for (const hash of new Set([...this.#tokens].map((session) => session.hash))) {
      if (await isOpenHash(this.#options.records, hash)) continue;
      for (const session of this.#tokens) if (session.hash === hash) this.#end(session, {});
    }
  }

  #end({ end }: Session, what: object): void {
    this.#options.log.info(what, 'what was open is ended: its key or token opens nothing any more');
    end();
  }

  #wait(ms = this.#options.recheckMs ?? 60_000): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(async () => {
      this.#wait();
      await this.#recheck();
    }, ms);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#notices[Symbol.asyncDispose]();
    await this.#looking;
  }
}
