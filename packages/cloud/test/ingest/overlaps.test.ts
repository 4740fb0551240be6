import { encodeHeader, encodeLine, type Overlap } from '@millrace/wire';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { type Ack, Ingest } from '../../src/ingest/index.ts';
import { silent } from '../store/open-stores.ts';
import { upTo } from './batches.ts';
import { FaultyStore } from './faulty-store.ts';

const before = 'journal01';
const after = 'journal02';

interface Line {
  message: string;
  timestamp?: number;
  containerId?: string | undefined;
  serviceName?: string | undefined;
  isStdErr?: boolean;
  source?: { type: 'manager' | 'system'; name: string };
}

/** Line n of a container, as its engine's log has it. */
const line = (n: number): Line => ({ message: `line ${n}`, timestamp: 1_760_000_000_000 + n });
const numbered = (from: number, to: number): Line[] =>
  Array.from({ length: to - from + 1 }, (_, i) => line(from + i));

/** A batch that begins with seq `first`. */
function batch(journal: string, first: number, lines: Line[], overlaps?: readonly Overlap[]): Buffer {
  const count = lines.length;
  const header = encodeHeader({ journal, first, count, levels: [0, count, 0, 0], sealed: 1, overlaps });
  const text = lines.map((each) => encodeLine({ containerId: 'c1', serviceName: 'web', ...each }));
  return Buffer.from(`${header}${text.join('\n')}\n`);
}

function setup(faulty = new FaultyStore()) {
  const { store } = faulty.connect();
  const ingest = new Ingest({ store, log: silent, limits: { lingerMs: 0, retryMinMs: 1, retryMaxMs: 2 } });
  const send = async (...batches: Buffer[]) => {
    const acks: Ack[] = [];
    const stream = ingest.openStream('dev', { via: 'http', onAck: (ack) => acks.push(ack) });
    for (const bytes of batches) await stream.write(bytes);
    await stream.end();
    return acks.at(-1)?.through;
  };
  return { faulty, ingest, send };
}

const messages = (store: FaultyStore) =>
  store.rows.map((row) => JSON.parse(row.line).message as string).sort();
const expected = (lines: Line[]) => lines.map((each) => each.message).sort();

test('lines that come again under a new journal id are acknowledged, and stored once', async () => {
  const { faulty, ingest, send } = setup();
  expect(await send(batch(before, 1, numbered(1, 20)))).toBe(20);
  // The device's journal ends with seq 12 now; what is behind it is read again, and more.
  const overlaps = [[before, 13]] as const;
  expect(await send(batch(after, 1, numbered(13, 16), overlaps))).toBe(4);
  expect(await send(batch(after, 5, numbered(17, 30), overlaps))).toBe(18);
  expect(messages(faulty)).toEqual(expected(numbered(1, 30)));
  expect(ingest.stats()).toMatchObject({ lines: 30, repeated: 8, duplicates: 0 });
  await ingest.close();
});

test('a repetition is never taken for another line that only looks like it', async () => {
  const { faulty, ingest, send } = setup();
  const at = { timestamp: 1_760_000_000_000 };
  await send(batch(before, 1, [{ ...at, message: 'x' }]));
  const overlaps = [[before, 1]] as const;
  const lines: Line[] = [
    { ...at, message: 'y' },
    { ...at, message: 'x', timestamp: at.timestamp + 1 },
    { ...at, message: 'x', isStdErr: true },
    { ...at, message: 'x', containerId: 'c2' },
    { ...at, message: 'x', source: { type: 'manager', name: 'agent' } },
  ];
  await send(batch(after, 1, lines, overlaps));
  expect(faulty.seqs('dev', after)).toEqual(upTo(5));
  // This one is the same.
  expect(await send(batch(after, 6, [{ ...at, message: 'x' }], overlaps))).toBe(6);
  expect(faulty.seqs('dev', after)).toEqual(upTo(5));
  await ingest.close();
});

test('two units of a system that say the same at once are two', async () => {
  const { faulty, ingest, send } = setup();
  const unit = (name: string): Line => ({
    ...{ message: 'Started.', timestamp: 1, source: { type: 'system', name } },
    ...{ containerId: undefined, serviceName: undefined },
  });
  await send(batch(before, 1, [unit('ssh')]));
  await send(batch(after, 1, [unit('cron'), unit('ssh')], [[before, 1]]));
  expect(faulty.seqs('dev', after)).toEqual([1]);
  await ingest.close();
});

test('of equal lines as many are stored as there are, over a restart as well', async () => {
  const { faulty, ingest, send } = setup();
  const same = (n: number) => Array.from({ length: n }, () => ({ message: 'tick', timestamp: 1 }));
  await send(batch(before, 1, same(3)));
  const overlaps = [[before, 2]] as const;
  // Five were written in that millisecond, one is in the part that the device kept, two were sent and are read again.
  await send(batch(after, 1, same(1), overlaps));
  await ingest.close();
  const again = setup(faulty);
  await again.send(batch(after, 2, same(3), overlaps));
  expect(faulty.rows).toHaveLength(5);
  expect(faulty.repeats).toHaveLength(2);
  // Sent once more, nothing of it is new.
  expect(await again.send(batch(after, 1, same(4), overlaps))).toBe(4);
  expect(faulty.rows).toHaveLength(5);
  await again.ingest.close();
});

test('the first copy may still be on its way to the store', async () => {
  const { faulty, ingest, send } = setup();
  const gate = Promise.withResolvers<void>();
  faulty.gate = gate.promise;
  const acks: Ack[] = [];
  const stream = ingest.openStream('dev', { via: 'http', onAck: (ack) => acks.push(ack) });
  await stream.write(batch(before, 1, numbered(1, 10)));
  await until(() => faulty.appends === 1);
  const second = send(batch(after, 1, numbered(1, 10), [[before, 1]]));
  await until(() => faulty.told.length === 1);
  // Not before it is known that the first copy is there to stay.
  expect(faulty.repeats).toEqual([]);
  gate.resolve();
  expect(await second).toBe(10);
  await stream.end();
  expect(acks).toEqual([{ journal: before, through: 10 }]);
  expect(messages(faulty)).toEqual(expected(numbered(1, 10)));
  await ingest.close();
});

test('two connections that bring the two copies at once', async () => {
  const { faulty, ingest, send } = setup();
  await send(batch(after, 1, numbered(1, 2), [[before, 6]]));
  await Promise.all([
    send(batch(before, 6, numbered(10, 200))),
    send(batch(after, 3, numbered(10, 200), [[before, 6]])),
    send(batch(before, 6, numbered(10, 200))),
  ]);
  expect(messages(faulty)).toEqual(expected([...numbered(1, 2), ...numbered(10, 200)]));
  await ingest.close();
});

test('a process that died while the disk failed: its lines come again under the id that the disk knows', async () => {
  const { faulty, ingest, send } = setup();
  await send(batch(before, 1, numbered(1, 10)));
  await send(batch(after, 1, numbered(11, 20), [[before, 11]]));
  await ingest.close();
  // Nobody tells the cloud again: it has kept what it was told.
  const again = setup(faulty);
  expect(await again.send(batch(before, 11, numbered(11, 30)))).toBe(30);
  expect(messages(faulty)).toEqual(expected(numbered(1, 30)));
  expect(await again.send(batch(before, 31, numbered(31, 40)))).toBe(40);
  expect(messages(faulty)).toEqual(expected(numbered(1, 40)));
  await again.ingest.close();
});

test('two processes that died one after the other, and neither knew of the other', async () => {
  const { faulty, ingest, send } = setup();
  const overlaps = [[before, 11]] as const;
  await send(batch(before, 1, numbered(1, 10)));
  await send(batch(after, 1, numbered(11, 20), overlaps));
  await send(batch('journal03', 1, numbered(11, 25), overlaps));
  await send(batch(before, 11, numbered(11, 30)));
  expect(messages(faulty)).toEqual(expected(numbered(1, 30)));
  await ingest.close();
});

test('after a restart what was repeated is no gap', async () => {
  const { faulty, ingest, send } = setup();
  await send(batch(before, 1, numbered(1, 20)));
  const overlaps = [[before, 11]] as const;
  await send(batch(after, 1, numbered(1, 1), overlaps));
  await send(batch(after, 2, numbered(11, 30), overlaps));
  await ingest.close();
  const again = setup(faulty);
  const { acks, stored } = await again.ingest.acceptPayload(
    'dev',
    batch(after, 22, numbered(31, 32), overlaps),
  );
  expect(acks).toEqual([{ journal: after, through: 23 }]);
  expect(stored).toEqual([{ journal: after, ranges: [{ from: 1, to: 23 }] }]);
  expect(again.ingest.stats().gaps).toBe(0);
  await again.ingest.close();
});

test('lines of another time are not compared, and devices without overlaps are never asked about', async () => {
  const { faulty, ingest, send } = setup();
  const overlaps = [[before, 1]] as const;
  await send(batch(before, 1, numbered(1, 10)));
  expect(faulty.receivedReads).toBe(0);
  await send(batch(after, 1, numbered(1, 20), overlaps));
  expect(faulty.receivedReads).toBe(1);
  for (let n = 21; n < 100; n += 10) await send(batch(after, n, numbered(n, n + 9), overlaps));
  expect(faulty.receivedReads).toBe(1);
  await ingest.close();
});

test('nobody is acknowledged before what it repeats is noted', async () => {
  const { faulty, ingest, send } = setup();
  await send(batch(before, 1, numbered(1, 10)));
  faulty.noteFaults = ['before', 'after', 'before', 'after'];
  faulty.failingReads = 5;
  expect(await send(batch(after, 1, numbered(1, 12), [[before, 1]]))).toBe(12);
  expect(messages(faulty)).toEqual(expected(numbered(1, 12)));
  expect(new Set(faulty.repeats.map(({ seq }) => seq)).size).toBe(10);
  await ingest.close();
});
