import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import {
  type ClickHouseServer,
  startClickHouse,
  startClickHouseCluster,
} from '../../../../tests/support/clickhouse.ts';
import { copyNewStore } from '../../../../tests/support/cloud-template.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { type LogStore, openStore } from '../../src/store/index.ts';
import type { Retention } from '../../src/store/retention-plan.ts';
import { encodeRows } from '../../src/store/row-format.ts';

export const silent = pino({ level: 'silent' });

/** A place for a store, kept over several openings. */
export interface StorePlace extends AsyncDisposable {
  open(options?: { textIndex?: boolean }): Promise<LogStore>;
}

export interface NamedPlace {
  name: string;
  make: () => Promise<StorePlace>;
}

/** The two engines that all tests of the store run on. */
export const places: readonly NamedPlace[] = [
  {
    name: 'embedded',
    make: async () => {
      const dir = await memoryDir();
      await copyNewStore(join(dir.path, 'store'));
      return {
        open: (options) => openStore({ dataDir: join(dir.path, 'store'), log: silent, ...options }),
        [Symbol.asyncDispose]: () => rm(dir.path, { recursive: true, force: true, maxRetries: 5 }),
      };
    },
  },
  {
    name: 'server',
    make: async () => {
      const server: ClickHouseServer = await startClickHouse();
      return {
        open: (options) => openStore({ url: server.url, log: silent, ...options }),
        [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
      };
    },
  },
];

/** Those and three servers of which each has the lines of some devices: for all that reads lines. */
export const placesAndCluster: readonly NamedPlace[] = [
  ...places,
  {
    name: 'cluster',
    make: async () => {
      const { name, url, ...cluster } = await startClickHouseCluster();
      return {
        open: (options) => openStore({ url, cluster: name, log: silent, ...options }),
        [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
      };
    },
  },
];

let tokens = 0;

/** Appends lines with consecutive seqs; each is JSON text, or an object. */
export async function append(
  store: LogStore,
  lines: (string | object)[],
  options: {
    device?: string;
    journal?: string;
    firstSeq?: number;
    receivedMs?: number;
    retention?: Retention;
    token?: string;
  } = {},
): Promise<void> {
  const texts = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line)));
  const run = {
    device: options.device ?? 'dev',
    journal: options.journal ?? 'journal01',
    firstSeq: options.firstSeq ?? 1,
    count: lines.length,
    lines: Buffer.from(texts.map((text) => `${text}\n`).join('')),
  };
  const { receivedMs = Date.now(), retention = 30 } = options;
  const rows = encodeRows(run, { receivedMs, retention });
  await store.append(rows, {
    rows: lines.length,
    token: options.token ?? `test-${++tokens}`,
    lane: store.laneOf(run.device),
  });
}
