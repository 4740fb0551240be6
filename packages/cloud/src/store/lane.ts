import { type EngineSettings, type LogEngine, StoreError } from './engine.ts';
import { type FencedEngine, readFences, writeFences } from './fences.ts';
import { Gathering } from './gathering.ts';
import { type JournalKey, type JournalSeqs, readStoredAt, readWatermarks, type Watermark } from './marks.ts';
import { readOverlaps, type ToldOverlaps } from './repeats.ts';
import { rowSettings, rowStructure } from './row-format.ts';

export interface AppendOptions {
  rows: number;
  /** See {@link LogEngine.insertRows}. */
  token: string;
  /** Of each slot the claim under which its rows were admitted. Without, nothing is asked. */
  claims?: ReadonlyMap<number, number>;
}

/** Where the lines of some devices are stored: a shard, or the whole store. What happens to one delays no other. */
export class StoreLane {
  readonly engine: LogEngine;
  /** The shard's other servers, by which other processes may store. */
  readonly #replicas: readonly LogEngine[];
  readonly #settings: EngineSettings;
  readonly #watermarks: Gathering<JournalKey, Watermark>;
  readonly #overlaps: Gathering<string, ToldOverlaps[]>;

  /** @param options.settings for inserts of lines */
  constructor(options: {
    engine: LogEngine;
    replicas?: readonly LogEngine[];
    settings?: EngineSettings;
  }) {
    const { engine, replicas = [], settings = {} } = options;
    this.engine = engine;
    this.#settings = settings;
    this.#replicas = replicas;
    this.#watermarks = new Gathering((keys) => readWatermarks(engine, keys));
    this.#overlaps = new Gathering((devices) => readOverlaps(engine, devices));
  }

  /** @throws StoreError */
  watermark(device: string, journal: string): Promise<Watermark> {
    return this.#watermarks.ask({ device, journal });
  }

  /** What was told of the overlaps of a device's journals, the newest first. @throws StoreError */
  overlaps(device: string): Promise<ToldOverlaps[]> {
    return this.#overlaps.ask(device);
  }

  /**
   * Stores rows in the format of `row-format.ts`. Resolves once they are on disk.
   *
   * @throws StoreError. By then nothing of it is still running; {@link storedAt} shows what was stored. `fenced`
   * when another process has claimed one of the slots: then nothing was stored
   */
  append(rows: Buffer, { claims, ...options }: AppendOptions): Promise<void> {
    const { database } = this.engine;
    const settings: EngineSettings = { ...rowSettings, ...this.#settings };
    return this.engine.insertRows(rows, {
      table: 'millrace.log_arrivals',
      format: 'CSV',
      settings,
      ...options,
      ...(claims?.size && { fence: { claims, structure: rowStructure, database } }),
    });
  }

  /** The lines stored under one time of arrival. @throws StoreError */
  storedAt(receivedMs: number): Promise<JournalSeqs[]> {
    return readStoredAt(this.engine, receivedMs);
  }

  /** The newest claim on each slot. @throws StoreError */
  fences(): Promise<Map<number, number>> {
    return readFences(this.engine);
  }

  /**
   * Makes claims known. When it resolves, nothing that was admitted under an earlier one will be stored any more, but
   * by a replica that did not answer and comes back.
   *
   * @throws StoreError
   */
  async fence(claims: ReadonlyMap<number, number>): Promise<void> {
    const others = this.#replicas.map(async (replica) => {
      // Asked first, since an insert would wait for as long as the server is silent.
      await replica.query('SELECT 1 AS ok');
      await fenceServer(replica, claims);
    });
    // A shard must not wait for a server that is gone for good.
    for (const other of others) other.catch(() => undefined);
    await fenceServer(this.engine, claims);
    for (const outcome of await Promise.allSettled(others)) {
      if (outcome.status === 'rejected' && !isSilent(outcome.reason)) throw outcome.reason;
    }
  }
}

async function fenceServer(engine: LogEngine, claims: ReadonlyMap<number, number>): Promise<void> {
  await writeFences(engine, claims);
  await (engine as Partial<FencedEngine>).insertsOver?.();
}

function isSilent(error: unknown): boolean {
  return error instanceof StoreError && error.engineCode === undefined;
}
