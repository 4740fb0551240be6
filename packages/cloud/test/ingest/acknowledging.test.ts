import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { type Ack, Ingest } from '../../src/ingest/index.ts';
import { silent } from '../store/open-stores.ts';
import { batch, upTo } from './batches.ts';
import { FaultyStore } from './faulty-store.ts';

const journal = 'journal01';

function setup(limits = {}) {
  const faulty = new FaultyStore();
  const { store } = faulty.connect();
  const ingest = new Ingest({
    store,
    log: silent,
    limits: { lingerMs: 0, retryMinMs: 1, retryMaxMs: 2, ...limits },
  });
  const message = async (first: number, last: number, redelivered = false) =>
    (await ingest.acceptPayload('dev', batch(journal, first, last), { redelivered })).acks;
  return { faulty, ingest, message };
}

test('no acknowledgement precedes the commit (ack after commit)', async () => {
  const { faulty, ingest } = setup();
  const gate = Promise.withResolvers<void>();
  faulty.gate = gate.promise;
  const acks: Ack[] = [];
  const stream = ingest.openStream('dev', { via: 'http', onAck: (ack) => acks.push(ack) });
  await stream.write(batch(journal, 1, 5));
  await until(() => faulty.appends === 1);
  // A second connection brings the same lines while the first copy is on its way.
  const again = ingest.openStream('dev', { via: 'http', onAck: (ack) => acks.push(ack) });
  await again.write(batch(journal, 1, 5));
  expect(acks).toEqual([]);
  expect(ingest.stats().duplicates).toBe(5);
  gate.resolve();
  await Promise.all([stream.end(), again.end()]);
  expect(acks).toEqual([
    { journal, through: 5 },
    { journal, through: 5 },
  ]);
  expect(faulty.seqs('dev', journal)).toEqual(upTo(5));
  await ingest.close();
});

test('a sender that goes back is not told of more than is stored', async () => {
  const { faulty, ingest } = setup();
  const first = Promise.withResolvers<void>();
  const second = Promise.withResolvers<void>();
  faulty.gate = first.promise;
  const acks: Ack[] = [];
  const stream = ingest.openStream('dev', { via: 'http', onAck: (ack) => acks.push(ack) });
  await stream.write(batch(journal, 11, 20));
  await until(() => faulty.appends === 1);
  faulty.gate = second.promise;
  // These go into the next insert, and an acknowledgement of 20 would cover them.
  await stream.write(batch(journal, 1, 5));
  first.resolve();
  await until(() => faulty.appends === 2);
  expect(faulty.rows).toHaveLength(10);
  expect(acks).toEqual([]);
  second.resolve();
  await stream.end();
  expect(acks).toEqual([{ journal, through: 20 }]);
  await ingest.close();
});

test('a batch that is known is acknowledged at once and not stored again', async () => {
  const { faulty, ingest } = setup();
  const acks: Ack[] = [];
  const stream = ingest.openStream('dev', { via: 'http', onAck: (ack) => acks.push(ack) });
  await stream.write(batch(journal, 1, 5));
  await until(() => acks.length === 1);
  await stream.write(batch(journal, 1, 5));
  expect(acks).toEqual([
    { journal, through: 5 },
    { journal, through: 5 },
  ]);
  await stream.write(batch(journal, 4, 8));
  await stream.end();
  expect(acks.at(-1)).toEqual({ journal, through: 8 });
  expect(faulty.rows).toHaveLength(8);
  expect(ingest.stats()).toMatchObject({ lines: 8, duplicates: 7 });
  await ingest.close();
});

test('over HTTP a jump ahead is a gap, and no obstacle', async () => {
  const { faulty, ingest } = setup();
  const acks: Ack[] = [];
  const stream = ingest.openStream('dev', { via: 'http', onAck: (ack) => acks.push(ack) });
  await stream.write(batch(journal, 1, 2));
  await stream.write(batch(journal, 11, 12));
  await stream.end();
  expect(acks.at(-1)).toEqual({ journal, through: 12 });
  expect(ingest.stats()).toMatchObject({ gaps: 1, gapLines: 8 });
  // The hole can still be filled.
  const late = ingest.openStream('dev', { via: 'http' });
  await late.write(batch(journal, 1, 12));
  await late.end();
  expect(faulty.seqs('dev', journal)).toEqual(upTo(12));
  await ingest.close();
});

test('a message that got lost is not acknowledged by the next one', async () => {
  const { message, ingest } = setup();
  expect(await message(1, 10)).toEqual([{ journal, through: 10 }]);
  // 11 to 20 got lost on the way.
  expect(await message(21, 30)).toEqual([{ journal, through: 10 }]);
  expect(await message(31, 40)).toEqual([{ journal, through: 10 }]);
  // Once it comes after all, everything is there.
  expect(await message(11, 20)).toEqual([{ journal, through: 40 }]);
  await ingest.close();
});

test('what is stored is named, whatever is missing below and whoever sent it in which order', async () => {
  const { ingest, message } = setup();
  const ranges = async (first: number, last: number) =>
    (await ingest.acceptPayload('dev', batch(journal, first, last))).stored;
  await message(1, 10);
  // A backlog and fresh lines by turns, and 11 to 20 of the backlog lost on the way.
  expect(await ranges(1001, 1010)).toEqual([{ journal, ranges: [{ from: 1001, to: 1010 }] }]);
  expect(await ranges(21, 30)).toEqual([{ journal, ranges: [{ from: 21, to: 30 }] }]);
  expect(await ranges(1011, 1020)).toEqual([{ journal, ranges: [{ from: 1001, to: 1020 }] }]);
  expect(await ranges(11, 20)).toEqual([{ journal, ranges: [{ from: 1, to: 30 }] }]);
  await ingest.close();
});

test('the first message ever may be a second one', async () => {
  const { message, ingest } = setup();
  expect(await message(11, 20)).toEqual([]);
  expect(await message(1, 10)).toEqual([{ journal, through: 20 }]);
  await ingest.close();
});

test('lines that a sender no longer has stop blocking once it has gone back to its cursor', async () => {
  const { message, ingest } = setup();
  expect(await message(101, 110)).toEqual([]);
  expect(await message(111, 120)).toEqual([]);
  // A broker that repeats itself proves nothing …
  expect(await message(101, 110, true)).toEqual([]);
  // … but the sender, who begins where it was acknowledged, does.
  expect(await message(101, 110)).toEqual([{ journal, through: 120 }]);
  expect(await message(121, 130)).toEqual([{ journal, through: 130 }]);
  await ingest.close();
});

test('after a restart a hole in the store blocks as well', async () => {
  const { faulty, ingest, message } = setup();
  await message(1, 10);
  await message(21, 30);
  await ingest.close();
  const again = new Ingest({ store: faulty.connect().store, log: silent, limits: { lingerMs: 0 } });
  const accept = async (first: number, last: number) =>
    (await again.acceptPayload('dev', batch(journal, first, last))).acks;
  expect(await accept(31, 40)).toEqual([{ journal, through: 10 }]);
  expect(await accept(11, 20)).toEqual([{ journal, through: 40 }]);
  await again.close();
});

test('messages of one device are taken in order, even if one is slow to unpack', async () => {
  const { gzipSync } = await import('node:zlib');
  const { ingest } = setup();
  const first = ingest.acceptPayload('dev', gzipSync(batch(journal, 1, 2000)));
  const second = ingest.acceptPayload('dev', batch(journal, 2001, 2002));
  expect((await first).acks.length).toBe(1);
  expect((await second).acks).toEqual([{ journal, through: 2002 }]);
  expect(ingest.stats().gaps).toBe(0);
  await ingest.close();
});

test('an aborted stream acknowledges nothing more; what it brought is stored', async () => {
  const { faulty, ingest } = setup();
  const gate = Promise.withResolvers<void>();
  faulty.gate = gate.promise;
  const acks: Ack[] = [];
  const stream = ingest.openStream('dev', { via: 'http', onAck: (ack) => acks.push(ack) });
  await stream.write(batch(journal, 1, 3));
  stream.abort();
  gate.resolve();
  await until(() => faulty.rows.length === 3);
  expect(acks).toEqual([]);
  await expect(stream.write(batch(journal, 4, 5))).rejects.toMatchObject({ code: 'STORE_FAILED' });
  expect(ingest.stats().streams).toBe(0);
  await ingest.close();
});

test('a listener for acknowledgements that throws harms nobody', async () => {
  const { faulty, ingest } = setup();
  const stream = ingest.openStream('dev', {
    via: 'http',
    onAck: () => {
      throw new Error('the socket is gone');
    },
  });
  await stream.write(batch(journal, 1, 3));
  await stream.end();
  expect(faulty.rows).toHaveLength(3);
  await ingest.close();
});
