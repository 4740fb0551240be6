import type { StoredLine } from '@millrace/wire';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseQuery, unlimited } from '../../src/query/index.ts';
import { readExport } from '../../src/store/export.ts';
import type { LogStore } from '../../src/store/index.ts';
import type { Select } from '../../src/store/log-reader.ts';
import { append, places, type StorePlace } from './open-stores.ts';

/** Lines that fall into bursts of one millisecond, far apart, of very different sizes, on two devices. */
const texts = fc.sample(
  fc.record({
    message: fc.oneof(
      fc.constantFrom('x', 'keep me'),
      fc.nat(3000).map((length) => 'y'.repeat(length)),
    ),
    timestamp: fc.oneof(fc.constantFrom(1000, 1001, 500_000), fc.integer({ min: 1000, max: 10_000_000 })),
  }),
  { numRuns: 60, seed: 3 },
);

describe.each(places)('export, $name', ({ make }) => {
  let place: StorePlace;
  let store: LogStore;
  let statements = 0;
  const select: Select = (sql) => {
    statements++;
    return store.engine.query(sql);
  };

  beforeAll(async () => {
    place = await make();
    store = await place.open();
    for (const device of ['a', 'b']) await append(store, texts, { device, journal: `journal0${device}` });
  });
  afterAll(async () => {
    await store.close();
    await place[Symbol.asyncDispose]();
  });

  async function all(pages: AsyncIterable<StoredLine[]>): Promise<{ lines: StoredLine[]; sizes: number[] }> {
    const lines: StoredLine[] = [];
    const sizes: number[] = [];
    for await (const page of pages) {
      sizes.push(page.length);
      lines.push(...page);
    }
    return { lines, sizes };
  }

  test.each([
    ['asc', 7, 1_000_000, 'keep OR y*'],
    ['desc', 50, 4000, '*'],
    ['asc', 1, 1, 'keep'],
    ['desc', 10_000, 100_000, '*'],
  ] as const)(
    '%s, pages of %i lines and %i bytes, gives what a search for %s gives',
    async (order, pageLines, pageBytes, text) => {
      const query = { order, query: parseQuery(text) };
      const expected = (await store.reader(unlimited).search({ ...query, limit: 10_000 })).logs;
      const { lines, pages } = await readExport(select, query, unlimited, { pageLines, pageBytes });
      const exported = await all(pages);
      expect(lines).toBe(expected.length);
      expect(expected.length).toBeGreaterThan(10);
      expect(exported.lines).toEqual(expected);
      expect(Math.max(...exported.sizes)).toBeLessThanOrEqual(pageLines);
    },
  );

  test('lines that arrive meanwhile are left out, before and behind where it is', async () => {
    const device = 'busy';
    const nowMs = Date.now();
    await append(
      store,
      Array.from({ length: 100 }, (_, i) => ({ message: `old ${i}`, timestamp: 10_000 + i * 10 })),
      {
        device,
        receivedMs: nowMs,
      },
    );
    const { lines, pages } = await readExport(select, { device, order: 'asc' }, unlimited, {
      pageLines: 10,
      pageBytes: 1000,
    });
    const first = await pages.next();
    await append(
      store,
      Array.from({ length: 200 }, (_, i) => ({ message: `new ${i}`, timestamp: 9500 + i * 10 })),
      {
        device,
        firstSeq: 101,
        receivedMs: nowMs + 1,
      },
    );
    const rest = await all(pages);
    const messages = [...(first.value as StoredLine[]), ...rest.lines].map(({ message }) => message);
    expect(messages).toEqual(Array.from({ length: 100 }, (_, i) => `old ${i}`));
    expect(lines).toBe(100);
  });

  test('lines that are deleted meanwhile make it fail instead of end', async () => {
    const device = 'deleted';
    await append(
      store,
      Array.from({ length: 20 }, (_, i) => ({ message: `m${i}`, timestamp: i })),
      { device },
    );
    const { pages } = await readExport(select, { device, order: 'asc' }, unlimited, {
      pageLines: 5,
      pageBytes: 1000,
    });
    await pages.next();
    await store.engine.command(
      "ALTER TABLE millrace.logs DELETE WHERE device = 'deleted' SETTINGS mutations_sync = 2",
    );
    await expect(all(pages)).rejects.toMatchObject({
      code: 'STORE_FAILED',
      detail: '15 of 20 lines were deleted during the export',
    });
  });

  test('nothing is read before it is asked for', async () => {
    const { pages } = await readExport(select, { device: 'a', order: 'asc' }, unlimited, {
      pageLines: 20,
      pageBytes: 1e6,
    });
    await pages.next();
    const before = statements;
    await pages.next();
    await pages.next();
    expect(statements - before).toBeLessThanOrEqual(4);
    await pages.return(undefined);
  });

  test('of nothing is empty', async () => {
    const { lines, pages } = await store.reader(unlimited).export({ device: 'nobody', order: 'desc' });
    expect([lines, (await all(pages)).lines]).toEqual([0, []]);
  });
});
