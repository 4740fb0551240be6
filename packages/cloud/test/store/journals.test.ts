import { encodeLine } from '@millrace/wire';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { hostileText } from '../../../wire/test/messages/arbitraries.ts';
import { contentOf } from '../../src/ingest/line-content.ts';
import { deviceStatsSql } from '../../src/store/device-stats.ts';
import type { LogStore } from '../../src/store/index.ts';
import { journalsSettings } from '../../src/store/journals.ts';
import { repeatKey } from '../../src/store/repeats.ts';
import { append, places, type StorePlace } from './open-stores.ts';

/* What the store knows of journals: which of their lines it has, which it was told of, and what is missing. */

describe.each(places)('journals, $name', ({ make }) => {
  let place: StorePlace;
  let store: LogStore;

  beforeAll(async () => {
    place = await make();
    store = await place.open();
  });
  afterAll(async () => {
    await store?.close();
    await place?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await store.engine.command('TRUNCATE TABLE millrace.logs');
    await store.engine.command('TRUNCATE TABLE millrace.repeats');
  });

  test('device statistics and the watermark come from the projection', async () => {
    await append(store, [{ message: 'abc' }, { message: 'de', fields: { a: 1 } }], {
      device: 'one',
      receivedMs: 1e12 + Date.now() - 1e12,
    });
    await append(store, [{ message: 'xyz' }], { device: 'two', journal: 'journal02', firstSeq: 70_000 });
    // 70 001 to 79 999 are missing; another journal's seqs have nothing to do with it.
    await append(store, [{ message: 'w' }], { device: 'two', journal: 'journal02', firstSeq: 80_000 });
    await append(store, [{ message: 'v' }], { device: 'two', journal: 'journal03', firstSeq: 7 });
    const stats = await store.deviceStats();
    expect(stats.map(({ device, lines, bytes, missing }) => [device, lines, bytes, missing])).toEqual([
      ['one', 2, 5 + '{"a":1}'.length, 0],
      ['two', 3, 5, 9999],
    ]);
    expect(Math.abs((stats[0]?.lastSeen ?? 0) - Date.now())).toBeLessThan(10_000);
    const plan = await store.engine.query<{ explain: string }>(
      `EXPLAIN ${deviceStatsSql()}`,
      journalsSettings,
    );
    expect(plan.map((row) => row.explain).join('\n')).toContain('(day_marks)');
  });

  test('the watermark names every hole', async () => {
    const at = { journal: 'holes0001' };
    expect(await store.watermark('dev', 'holes0001')).toEqual({ max: 0, holes: [] });
    await append(store, [{ message: '' }, { message: '' }], { ...at, firstSeq: 3 });
    await append(store, [{ message: '' }], { ...at, firstSeq: 7 });
    await append(store, [{ message: '' }], { ...at, firstSeq: 65_536 });
    await append(store, [{ message: '' }], { ...at, firstSeq: 200_000 });
    await append(store, [{ message: '' }], { ...at, firstSeq: 200_002 });
    await append(store, [{ message: '' }], { journal: 'other0001', firstSeq: 5 });
    await append(store, [{ message: '' }], { ...at, device: 'elsewhere', firstSeq: 5 });
    expect(await store.watermark('dev', 'holes0001')).toEqual({
      max: 200_002,
      holes: [
        { from: 1, to: 2 },
        { from: 5, to: 6 },
        { from: 8, to: 65_535 },
        { from: 65_537, to: 199_999 },
        { from: 200_001, to: 200_001 },
      ],
    });
  });

  test('lines are recognised by the same content as their rows', async () => {
    const lines = fc.sample(
      fc.record({
        message: hostileText,
        timestamp: fc.integer({ min: 0, max: 9_000_000_000_000 }),
        serviceName: fc.option(hostileText, { nil: undefined }),
        containerId: fc.option(hostileText, { nil: undefined }),
        isStdErr: fc.boolean(),
        isSystem: fc.boolean(),
        source: fc.option(
          fc.record({ type: fc.constantFrom('container' as const, 'system' as const), name: hostileText }),
          { nil: undefined },
        ),
      }),
      { numRuns: 200, seed: 7 },
    );
    const texts = lines.map((line) => encodeLine(line));
    await append(store, texts);
    const contents = texts.map((text) => contentOf(Buffer.from(text)));
    const received = await store.received(
      'dev',
      ['journal01'],
      contents.map((content) => content?.timestampMs ?? 0),
    );
    const keys = received?.toSorted((a, b) => a.seq - b.seq).map(({ key }) => key);
    expect(keys).toEqual(contents.map((content) => content && repeatKey(content)));
  });

  test('what was received names rows and repeats, of the times and journals asked for', async () => {
    const at = (timestamp: number) => ({ timestamp, message: 'x', containerId: 'c1' });
    await append(store, [at(1), at(2), at(3), { ...at(2), source: { type: 'manager', name: 'agent' } }]);
    await append(store, [at(2)], { journal: 'other0001' });
    await append(store, [at(2)], { device: 'elsewhere' });
    const place = { container: 'c1', service: '', sourceName: 'unknown' };
    const key = repeatKey({ ...place, isStdErr: false, timestampMs: 2, message: 'x' });
    const repeats = [{ seq: 9, key, timestampMs: 2 }];
    const save = { device: 'dev', journal: 'journal02', repeats, retentionDays: 30 };
    // Its first attempt had happened, though it reported failure.
    await store.saveRepeats({ ...save, token: 'repeat-1' });
    await store.saveRepeats({ ...save, token: 'repeat-2' });
    const received = await store.received('dev', ['journal01', 'journal02'], [2, 5]);
    expect(received?.toSorted((a, b) => a.seq - b.seq)).toEqual([
      { journal: 'journal01', seq: 2, key, isStored: true },
      { journal: 'journal02', seq: 9, key, isStored: false },
    ]);
    const parts = [{ journal: 'journal01', from: 2 }];
    expect(await store.timesOf('dev', parts)).toEqual({ fromMs: 2, toMs: 3 });
    expect(await store.timesOf('dev', [{ journal: 'journal01', from: 5 }])).toBeUndefined();
  });

  test('repeated lines count as received', async () => {
    const at = { journal: 'repeats01' };
    await append(store, [{ message: '' }, { message: '' }], { ...at, firstSeq: 3 });
    await append(store, [{ message: '' }], { ...at, firstSeq: 70_000 });
    const repeats = [1, 5, 6, 69_999].map((seq) => ({ seq, key: 'k', timestampMs: 1 }));
    const save = { device: 'dev', journal: 'repeats01', repeats, retentionDays: 30 };
    await store.saveRepeats({ ...save, token: 'received-1' });
    await store.saveRepeats({ ...save, token: 'received-2' });
    const holes = [
      { from: 2, to: 2 },
      { from: 7, to: 69_998 },
    ];
    expect(await store.watermark('dev', 'repeats01')).toEqual({ max: 70_000, holes });
    const [stats] = await store.deviceStats();
    expect(stats).toMatchObject({ device: 'dev', lines: 3, missing: 1 + 69_998 - 7 + 1 });
    expect(await store.gaps('dev', 10)).toEqual(
      holes.map(({ from, to }) => ({
        ...{ journal: 'repeats01', from, to, lines: to - from + 1 },
        since: expect.any(Number),
      })),
    );
    expect(await store.gaps('dev', 1)).toMatchObject([{ from: 7 }]);
  });

  test('what was told of overlaps is kept, and what was told first holds', async () => {
    const tell = (journal: string, from: number) =>
      store.saveOverlaps({
        device: 'dev',
        told: { journal, overlaps: [['journal00', from]] },
        token: `${journal} ${from}`,
      });
    await tell('journal01', 5);
    await tell('journal01', 7);
    await store.saveOverlaps({ device: 'x', told: { journal: 'journal09', overlaps: [] }, token: 'x' });
    expect(await store.overlaps('dev')).toEqual([{ journal: 'journal01', overlaps: [['journal00', 5]] }]);
    const before = Date.now();
    await until(() => Date.now() > before);
    await tell('journal02', 8);
    expect((await store.overlaps('dev')).map(({ journal }) => journal)).toEqual(['journal02', 'journal01']);
    expect(
      await Promise.all(
        ['x', 'dev', 'nobody', 'x'].map(async (device) => (await store.overlaps(device)).length),
      ),
    ).toEqual([1, 2, 0, 1]);
  });

  test('of journals asked for together each gets its own answer', async () => {
    const places = Array.from({ length: 12 }, (_, i) => ({
      device: `d${i % 4}`,
      journal: `journal${10 + i}`,
    }));
    const all = (i: number) => ({ max: 2 + i, holes: i % 3 === 0 && i > 0 ? [{ from: 3, to: 1 + i }] : [] });
    for (const [i, place] of places.entries()) {
      if (i === 5) continue;
      await append(store, [{ message: 'one' }, { message: 'two' }], { ...place, firstSeq: 1 });
      // Every third has a hole; the others are whole, and so are read from the projection alone.
      const rest = Array.from({ length: i % 3 === 0 ? Math.min(i, 1) : i }, () => ({ message: 'more' }));
      if (rest.length > 0) await append(store, rest, { ...place, firstSeq: 3 + i - rest.length });
    }
    const asked = places.map(({ device, journal }) => store.watermark(device, journal));
    expect(await Promise.all(asked)).toEqual(
      places.map((_, i) => (i === 5 ? { max: 0, holes: [] } : all(i))),
    );
    // The same journal id at another device is another journal.
    expect(await store.watermark('d1', 'journal10')).toEqual({ max: 0, holes: [] });
  });
});
