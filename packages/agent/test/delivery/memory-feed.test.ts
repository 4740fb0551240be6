import { gunzipSync } from 'node:zlib';
import { BatchDecoder, decodePart, limits, parseHeader } from '@millrace/wire';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EncodedBatch, halve } from '../../src/logging/feed-batch.ts';
import { MemoryFeed } from '../../src/logging/memory-feed.ts';
import type { FeedBatch } from '../../src/logging/types.ts';

async function nextOf(feed: MemoryFeed): Promise<FeedBatch> {
  const batch = await feed.next();
  if (!batch) throw new Error('the feed has ended');
  return batch;
}

test('lines come out as they went in, in batches that fit the wire', async () => {
  const feed = new MemoryFeed();
  expect(feed.journal).toMatch(/^[0-9a-z]{16}$/);
  expect(new MemoryFeed().journal).not.toBe(feed.journal);
  for (let i = 1; i <= 5000; i++)
    feed.log({ message: `line ${i} ${'x'.repeat(i % 300)}`, level: 'warn', timestamp: i });
  const seen: string[] = [];
  while (seen.length < 5000) {
    const batch = await nextOf(feed);
    const { header } = batch;
    expect(header).toMatchObject({ journal: feed.journal, first: seen.length + 1 });
    expect(header.levels).toEqual([0, 0, header.count, 0]);
    expect(header.count).toBeLessThanOrEqual(limits.maxBatchLines);
    const member = batch.gzip();
    expect(batch.gzip()).toBe(member);
    const text = gunzipSync(member);
    expect(text.length).toBeLessThanOrEqual(limits.maxBatchBytes);
    expect(parseHeader(text.toString().split('\n')[0] ?? '')).toEqual(header);
    const [part] = new BatchDecoder().push(text);
    if (!part) throw new Error('no part');
    expect(decodePart(part)).toEqual(batch.messages());
    seen.push(...batch.messages().map(({ message }) => message));
  }
  expect(seen.at(-1)).toBe(`line 5000 ${'x'.repeat(5000 % 300)}`);
  expect(feed.lag()).toEqual({ lines: 5000, lost: 0 });
  feed.ack(feed.journal, 4000);
  feed.ack('anotherjournal', 5000);
  expect(feed.lag().lines).toBe(1000);
  feed.rewind();
  expect((await nextOf(feed)).header.first).toBe(4001);
});

test('next() waits, wakes for a line, and ends with its signal or the feed', async () => {
  const feed = new MemoryFeed();
  const giveUp = new AbortController();
  const waiting = feed.next(giveUp.signal);
  giveUp.abort();
  expect(await waiting).toBeUndefined();
  expect(await feed.next(giveUp.signal)).toBeUndefined();
  const next = feed.next();
  feed.log({ message: 'one' });
  feed.log({ message: 'two' });
  expect((await next)?.header.count).toBe(2);
  const last = feed.next();
  feed.close();
  expect(await last).toBeUndefined();
});

test('whatever happens, every line is delivered or counted as lost, and memory stays bounded', async () => {
  const step = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constant('log' as const), lines: fc.integer({ min: 1, max: 30 }) }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('read' as const) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('ack' as const), back: fc.nat(20) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('rewind' as const) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const maxLines = 40;
      const feed = new MemoryFeed({ maxLines });
      const logged = new Set<string>();
      const arrived = new Set<string>();
      /** Handed out since the last rewind, in order: what the far end has got. */
      let underWay: { seq: number; message: string }[] = [];
      let acked = 0;
      const read = async () => {
        const idle = AbortSignal.timeout(0);
        const batch = await feed.next(feed.lag().lines > underWay.length ? undefined : idle);
        for (const { seq, message } of batch?.messages() ?? [])
          underWay.push({ seq: seq as number, message });
      };
      const ack = (through: number) => {
        for (const { seq, message } of underWay) if (seq <= through) arrived.add(message);
        underWay = underWay.filter(({ seq }) => seq > through);
        acked = Math.max(acked, through);
        feed.ack(feed.journal, through);
      };
      for (const action of steps) {
        if (action.do === 'log') {
          for (let i = 0; i < action.lines; i++) {
            const message = `line ${logged.size}`;
            logged.add(message);
            feed.log({ message });
          }
        } else if (action.do === 'read' && feed.lag().lines > underWay.length) await read();
        else if (action.do === 'ack') {
          const last = underWay.at(-1)?.seq;
          if (last) ack(last - Math.min(action.back, underWay.length - 1));
        } else if (action.do === 'rewind') {
          feed.rewind();
          underWay = [];
        }
        // Beyond the bound: a line that tells of lines shed unread, and one of lines shed on their way.
        expect(feed.lag().lines).toBeLessThanOrEqual(maxLines + 2);
      }
      feed.rewind();
      underWay = [];
      feed.log({ message: 'end' });
      while (!arrived.has('end')) {
        await read();
        ack(underWay.at(-1)?.seq ?? 0);
      }
      const told = [...arrived].filter((message) => message.startsWith('lost '));
      const lost = [...logged].filter((message) => !arrived.has(message));
      const counted = told.reduce((sum, message) => sum + Number(/^lost (\d+) lines/.exec(message)?.[1]), 0);
      expect(counted).toBe(lost.length);
      expect(feed.lag().lost).toBe(lost.length);
    }),
    { numRuns: 1000 },
  );
});

test('lines shed while on their way are lost only if they do not arrive', async () => {
  const feed = new MemoryFeed({ maxLines: 10 });
  for (let i = 1; i <= 10; i++) feed.log({ message: `line ${i}` });
  await nextOf(feed);
  for (let i = 11; i <= 15; i++) feed.log({ message: `line ${i}` });
  expect(feed.lag()).toEqual({ lines: 10, lost: 0 });
  feed.ack(feed.journal, 3);
  feed.rewind();
  expect(feed.lag()).toEqual({ lines: 10, lost: 2 });
  const lines = (await nextOf(feed)).messages();
  expect(lines.map(({ seq }) => seq)).toEqual([6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
  expect(lines.at(-1)).toMatchObject({
    message: 'lost 2 lines, seq 4–5: memory full',
    level: 'warn',
    source: { type: 'manager' },
  });
});

test('a batch is halved into two that say the same', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('debug', 'info', 'warn', 'error' as const), { minLength: 2, maxLength: 50 }),
      (levels) => {
        const lines = levels.map((level, i) =>
          JSON.stringify({ timestamp: i, message: `línea ${i}`, level }),
        );
        const whole = new EncodedBatch({
          header: { journal: 'journal1', first: 7, count: lines.length, levels: [0, 0, 0, 0], sealed: 1 },
          lines: Buffer.from(`${lines.join('\n')}\n`),
        });
        const [head, tail] = halve(whole);
        expect([...head.messages(), ...tail.messages()]).toEqual(whole.messages());
        expect(tail.header.first).toBe(7 + head.header.count);
        expect(head.header.count + tail.header.count).toBe(lines.length);
        expect(head.header.levels.reduce((a, b) => a + b)).toBe(head.header.count);
        expect(tail.header.count).toBeGreaterThan(0);
      },
    ),
  );
});

test('a damaged line is shown as text', () => {
  const header = {
    journal: 'journal1',
    first: 1,
    count: 3,
    levels: [0, 3, 0, 0] as [0, 3, 0, 0],
    sealed: 99,
  };
  const batch = new EncodedBatch({
    header,
    lines: Buffer.from('{"message":"a","timestamp":1}\n{"mess\n[1]\n'),
  });
  expect(batch.messages().map(({ message, seq, timestamp }) => ({ message, seq, timestamp }))).toEqual([
    { message: 'a', seq: 1, timestamp: 1 },
    { message: '{"mess', seq: 2, timestamp: 99 },
    { message: '[1]', seq: 3, timestamp: 99 },
  ]);
});
