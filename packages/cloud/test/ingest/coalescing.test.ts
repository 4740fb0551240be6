import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { Ingest } from '../../src/ingest/index.ts';
import { silent } from '../store/open-stores.ts';
import { batch, upTo } from './batches.ts';
import { FaultyStore } from './faulty-store.ts';

const fast = { lingerMs: 0, retryMinMs: 1, retryMaxMs: 2 };

test('what comes while an insert runs goes together in the next', async () => {
  const faulty = new FaultyStore();
  const gate = Promise.withResolvers<void>();
  faulty.gate = gate.promise;
  const ingest = new Ingest({ store: faulty.connect().store, log: silent, limits: fast });
  const first = ingest.acceptPayload('dev-0', batch('journal01', 1, 1));
  await until(() => faulty.appends === 1);
  const others = upTo(50).map((i) => ingest.acceptPayload(`dev-${i}`, batch('journal01', 1, 1)));
  await until(() => ingest.stats().lines === 51);
  gate.resolve();
  await Promise.all([first, ...others]);
  expect(faulty.appends).toBe(2);
  expect(faulty.rows).toHaveLength(51);
  await ingest.close();
});

test('while the store is down senders wait, memory stays bounded, and nothing is lost (bounded)', async () => {
  const faulty = new FaultyStore();
  const gate = Promise.withResolvers<void>();
  faulty.gate = gate.promise;
  const maxWaitingBytes = 200_000;
  const ingest = new Ingest({
    store: faulty.connect().store,
    log: silent,
    limits: { ...fast, maxWaitingBytes, maxFlightBytes: 50_000 },
  });
  const streams = upTo(5).map((i) => ingest.openStream(`dev-${i}`, { via: 'http' }));
  let accepted = 0;
  const sending = streams.map(async (stream) => {
    for (let i = 0; i < 20; i++) {
      await stream.write(batch('journal01', i * 100 + 1, i * 100 + 100));
      accepted++;
    }
    await stream.end();
  });
  await until(() => ingest.stats().waitingBytes >= maxWaitingBytes);
  const before = accepted;
  expect(before).toBeLessThan(100);
  // One batch of each stream may have passed the check before the limit was reached.
  expect(ingest.stats().waitingBytes).toBeLessThan(maxWaitingBytes + 5 * 20_000);
  faulty.faults = ['before', 'half', 'after', 'before'];
  gate.resolve();
  await Promise.all(sending);
  for (const i of upTo(5)) expect(faulty.seqs(`dev-${i}`, 'journal01')).toEqual(upTo(2000));
  expect(ingest.stats().commits.failures).toBe(4);
  await ingest.close();
});

test('streams that keep coming while the store is down are turned away', async () => {
  const faulty = new FaultyStore();
  faulty.failingReads = Number.POSITIVE_INFINITY;
  const ingest = new Ingest({
    store: faulty.connect().store,
    log: silent,
    limits: { ...fast, maxWaitingBytes: 50_000, closeTimeoutMs: 10 },
  });
  const bytes = batch('journal01', 1, 100);
  const outcomes = upTo(50).map(async (i) => {
    const stream = ingest.openStream(`dev-${i}`, { via: 'http' });
    const results = await Promise.allSettled([stream.write(bytes), stream.write(bytes)]);
    // What was refused once takes no more: the stream has a hole there.
    return results.map((result) => (result.status === 'rejected' ? String(result.reason.code) : 'taken'));
  });
  expect(ingest.stats().heldBytes).toBeLessThanOrEqual(50_000);
  expect(ingest.stats().heldBytes).toBeGreaterThan(30_000);
  // Those that waited go on once the store answers.
  faulty.failingReads = 0;
  const all = await Promise.all(outcomes);
  expect(all.flat().filter((outcome) => outcome === 'OVERLOADED').length).toBeGreaterThan(80);
  expect(all.flat().filter((outcome) => outcome === 'taken').length).toBeGreaterThan(3);
  await until(() => ingest.stats().heldBytes === 0);
  await ingest.close();
});

test('one line that the store refuses harms no other, of this or any device', async () => {
  const faulty = new FaultyStore();
  const gate = Promise.withResolvers<void>();
  faulty.gate = gate.promise;
  const ingest = new Ingest({ store: faulty.connect().store, log: silent, limits: fast });
  const sent = [
    ingest.acceptPayload('first', batch('journal01', 1, 1)),
    ingest.acceptPayload('good', batch('journal01', 1, 300)),
    ingest.acceptPayload(
      'bad',
      batch('journal01', 1, 300, (seq) => (seq === 77 ? 'REFUSE me ü' : `line ${seq}`)),
    ),
    ingest.acceptPayload('fine', batch('journal01', 1, 300)),
  ];
  gate.resolve();
  await Promise.all(sent);
  for (const device of ['good', 'bad', 'fine']) expect(faulty.seqs(device, 'journal01')).toEqual(upTo(300));
  expect(faulty.rows.filter((row) => /"line \d+"/.test(row.line))).toHaveLength(1 + 3 * 300 - 1);
  expect(faulty.rows.find((row) => row.device === 'bad' && row.seq === 77)?.line).toContain(
    'bytes that the log store refused',
  );
  expect(faulty.appends).toBeLessThan(60);
  await ingest.close();
});

test('a refused line is kept in a plainer form', async () => {
  const faulty = new FaultyStore();
  const { store } = faulty.connect();
  let refused = 0;
  const ingest = new Ingest({
    store: {
      ...store,
      append: async (rows, options) => {
        // Refuses one character anywhere, as some parser might.
        if (rows.includes('ü')) {
          refused++;
          faulty.faults.unshift('refuse');
        }
        await store.append(rows, options);
      },
    },
    log: silent,
    limits: fast,
  });
  await ingest.acceptPayload(
    'dev',
    batch('journal01', 1, 9, (seq) => (seq === 5 ? 'grün' : 'blue')),
  );
  expect(refused).toBeGreaterThan(2);
  expect(faulty.seqs('dev', 'journal01')).toEqual(upTo(9));
  const odd = faulty.rows.find((row) => row.seq === 5);
  expect(odd?.line).toContain('gr??n');
  expect(faulty.rows.filter((row) => row.line.includes('"blue"'))).toHaveLength(8);
  await ingest.close();
});

test('close commits what is held', async () => {
  const faulty = new FaultyStore();
  const ingest = new Ingest({
    store: faulty.connect().store,
    log: silent,
    limits: { ...fast, lingerMs: 60_000 },
  });
  const sent = ingest.acceptPayload('dev', batch('journal01', 1, 9));
  await until(() => ingest.stats().lines === 9);
  expect(faulty.rows).toHaveLength(0);
  await ingest.close();
  await sent;
  expect(faulty.rows).toHaveLength(9);
});

test('close gives up on a store that is down, and acknowledges nothing', async () => {
  const faulty = new FaultyStore();
  faulty.faults = Array(100_000).fill('before');
  const ingest = new Ingest({
    store: faulty.connect().store,
    log: silent,
    limits: { ...fast, closeTimeoutMs: 50 },
  });
  const acks: unknown[] = [];
  const stream = ingest.openStream('dev', { via: 'http', onAck: (ack) => acks.push(ack) });
  await stream.write(batch('journal01', 1, 9));
  const ending = stream.end();
  const message = ingest.acceptPayload('other', batch('journal01', 1, 9));
  const closing = ingest.close();
  await expect(ending).rejects.toMatchObject({ code: 'STORE_FAILED' });
  await expect(message).rejects.toMatchObject({ code: 'STORE_FAILED' });
  await closing;
  expect(acks).toEqual([]);
  const late = ingest.openStream('dev', { via: 'http' });
  await expect(late.write(batch('journal01', 1, 1))).rejects.toMatchObject({ code: 'STORE_FAILED' });
});
