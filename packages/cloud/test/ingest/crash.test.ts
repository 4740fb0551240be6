import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { startClickHouse } from '../../../../tests/support/clickhouse.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { Ingest } from '../../src/ingest/index.ts';
import { openStore } from '../../src/store/index.ts';
import { silent } from '../store/open-stores.ts';
import { batch } from './batches.ts';

const journal = 'journal01';
const batchLines = 200;

interface Receiver extends AsyncDisposable {
  acked: () => number;
  ended: () => boolean;
  kill: () => Promise<void>;
}

/** Starts a receiver and sends it the batches behind `acked`, as fast as it takes them. */
async function startReceiver(dataDir: string, acked: number, total: number): Promise<Receiver> {
  let highest = acked;
  const server = createServer((socket) => {
    // A killed process leaves a broken connection behind.
    socket.on('error', () => undefined);
    createInterface({ input: socket })
      .on('line', (line) => {
        highest = Number(line);
      })
      .on('error', () => undefined);
    void (async () => {
      for (let first = acked + 1; first <= total && socket.writable; first += batchLines) {
        const bytes = batch(journal, first, Math.min(first + batchLines - 1, total));
        if (!socket.write(bytes)) await until(() => !socket.writableNeedDrain || socket.closed);
      }
      socket.end();
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const program = join(import.meta.dirname, 'receiver.ts');
  // A stdin full of what looks like rows must not find its way into the store.
  const child = spawn(process.execPath, [program, dataDir, String(port)], {
    stdio: ['pipe', 'inherit', 'inherit'],
    env: { ...process.env, UV_THREADPOOL_SIZE: '16' },
  });
  child.stdin?.on('error', () => undefined);
  child.stdin?.write(
    `1\x1f${Date.now()}\x1f30\x1fstdin\x1fjournal01\x1f{"message":"from stdin"}\n`.repeat(1000),
  );
  const ended = () => child.exitCode !== null || child.signalCode !== null;
  const kill = async () => {
    const exit = once(child, 'exit');
    if (ended()) return;
    child.kill('SIGKILL');
    await exit;
  };
  return {
    acked: () => highest,
    ended,
    kill,
    [Symbol.asyncDispose]: async () => {
      await kill();
      server.close();
    },
  };
}

test('a receiver that is killed again and again stores every line once (no loss, no duplicates)', async () => {
  await using dir = await tempDir();
  const total = 30_000;
  let acked = 0;
  let kills = 0;
  for (let round = 0; acked < total; round++) {
    await using receiver = await startReceiver(dir.path, acked, total);
    if (round < 5) {
      // Killed with inserts on their way: after the first acknowledgement, and each time some more.
      const target = acked + 1 + round * 1500;
      await until(() => receiver.acked() >= target || receiver.ended(), { timeoutMs: 60_000 });
      await receiver.kill();
      kills++;
    } else await until(receiver.ended, { timeoutMs: 100_000, what: 'the receiver to finish' });
    acked = receiver.acked();
    await using store = await openStore({ dataDir: dir.path, log: silent });
    const { max, holes } = await store.watermark('dev', journal);
    // Whatever was acknowledged is there, and nothing is there twice.
    expect(holes).toEqual([]);
    expect(max).toBeGreaterThanOrEqual(acked);
    expect(await store.countLines('dev')).toBe(max);
  }
  expect(kills).toBe(5);
  await using store = await openStore({ dataDir: dir.path, log: silent });
  expect(await store.watermark('dev', journal)).toEqual({ max: total, holes: [] });
  expect(await store.countLines()).toBe(total);
}, 180_000);

test('a data folder that another process uses is refused with the reason', async () => {
  await using dir = await tempDir();
  // More than it takes in at once, so that it holds on to the folder.
  await using receiver = await startReceiver(dir.path, 0, 1_000_000);
  await until(() => receiver.acked() > 0, { timeoutMs: 60_000 });
  await expect(openStore({ dataDir: dir.path, log: silent })).rejects.toMatchObject({
    code: 'DATA_DIR_UNUSABLE',
    detail: expect.stringContaining('used by process '),
  });
  await writeFile(join(dir.path, 'file'), '');
  await expect(openStore({ dataDir: join(dir.path, 'file/store'), log: silent })).rejects.toMatchObject({
    code: 'DATA_DIR_UNUSABLE',
  });
});

test('a server that is killed and comes back loses nothing and doubles nothing', async () => {
  await using server = await startClickHouse();
  await using store = await openStore({ url: server.url, log: silent });
  await using ingest = new Ingest({
    store,
    log: silent,
    limits: { maxFlightBytes: 100_000, retryMinMs: 10, retryMaxMs: 50 },
  });
  const total = 20_000;
  let through = 0;
  const stream = ingest.openStream('dev', {
    via: 'http',
    onAck: (ack) => {
      through = ack.through;
    },
  });
  const sending = (async () => {
    for (let first = 1; first <= total; first += batchLines)
      await stream.write(batch(journal, first, first + batchLines - 1));
    await stream.end();
  })();
  for (const target of [1, 5000, 10_000]) {
    await until(() => through >= target, { timeoutMs: 60_000 });
    await server.kill();
    await server.start();
  }
  await sending;
  expect(through).toBe(total);
  expect(await store.watermark('dev', journal)).toEqual({ max: total, holes: [] });
  expect(await store.countLines()).toBe(total);
  expect(ingest.stats().commits.failures).toBeGreaterThan(0);
});
