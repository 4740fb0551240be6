import { encodeLine, MillraceError } from '@millrace/wire';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import type { LogStore } from '../../src/store/index.ts';
import { migrate, migrations } from '../../src/store/migrations/index.ts';
import { append, places, type StorePlace, silent } from './open-stores.ts';

describe.each(places)('log store, $name', ({ make }) => {
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

  const messages = async (query: Partial<Parameters<LogStore['search']>[0]> = {}) => {
    const { logs } = await store.search({ limit: 1000, order: 'asc', ...query });
    return logs.map((line) => line.message);
  };

  test('a second migration does nothing, and lines survive reopening', async () => {
    await append(store, [{ message: 'kept' }]);
    expect(await migrate(store.engine, silent)).toEqual([]);
    await store.close();
    store = await place.open();
    expect(await messages()).toEqual(['kept']);
    expect(await migrate(store.engine, silent)).toEqual([]);
  });

  test('a migration that was cut off half way is finished', async () => {
    await store.engine.command('DROP TABLE millrace.log_settle');
    await store.engine.command('TRUNCATE TABLE millrace.migrations');
    expect(await migrate(store.engine, silent)).toEqual(migrations.map((step) => step.version));
    await append(store, [{ message: 'works' }]);
    expect(await messages()).toEqual(['works']);
  });

  test('a store that a newer program made is refused', async () => {
    const future = { version: 99, name: 'future', statements: ['SELECT 1'] };
    await migrate(store.engine, silent, [...migrations, future]);
    await expect(migrate(store.engine, silent)).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
    await store.engine.command('ALTER TABLE millrace.migrations DELETE WHERE version = 99');
    await store.engine.command('OPTIMIZE TABLE millrace.migrations FINAL');
  });

  test('a line comes back as it went in', async () => {
    const line = {
      message: 'Grüße 👋 "quoted" \\ back\ttab\u0000nul\n2nd',
      timestamp: 1696195200123,
      level: 'warn' as const,
      source: { type: 'manager' as const, name: 'agent' },
      serviceId: 1001,
      serviceName: 'web',
      containerId: 'abc123',
      isStdErr: true,
      isSystem: true,
      appId: 'shop',
      fields: { latency: 12.5, nested: { a: [1, null, 'x'] }, empty: '' },
    };
    const receivedMs = Date.now();
    await append(store, [encodeLine(line)], { firstSeq: 7, receivedMs });
    const { logs } = await store.search({ limit: 10, order: 'asc' });
    expect(logs).toEqual([{ ...line, id: 'journal01-7', seq: 7, device: 'dev', receivedAt: receivedMs }]);
  });

  test('defaults are those of the wire', async () => {
    await append(store, [
      { message: 'a', timestamp: 5 },
      { message: 'b', timestamp: 6, isStdErr: true },
    ]);
    const { logs } = await store.search({ limit: 10, order: 'asc' });
    expect(logs.map(({ receivedAt, ...line }) => line)).toEqual([
      {
        id: 'journal01-1',
        message: 'a',
        timestamp: 5,
        level: 'info',
        source: { type: 'container', name: 'unknown' },
        isStdErr: false,
        isSystem: false,
        seq: 1,
        device: 'dev',
      },
      {
        id: 'journal01-2',
        message: 'b',
        timestamp: 6,
        level: 'error',
        source: { type: 'container', name: 'unknown' },
        isStdErr: true,
        isSystem: false,
        seq: 2,
        device: 'dev',
      },
    ]);
  });

  test('a payload cannot write into another device (identity)', async () => {
    const hostile = [
      '{"message":"a","device":"victim","journal":"victim0001","seq":999,"received":0,"retention_days":1}',
      '{"message":"b"}{"device":"victim","message":"second object"}',
      '{"message":"c"},{"device":"victim","message":"second object"}',
      '{"message":"d"};',
      '{"message":"e"}; DROP TABLE millrace.logs;',
      '{"message":"f"}]',
      '{"message":"g", "i.device":"victim", "i":{"device":"victim"}, "j":1}',
      '{"message":"h","message":"again"}',
      '{"message":"i\'); DROP TABLE millrace.logs; --"}',
      '"k","victim","x"',
      '\\N',
      '(1,2)',
      ';',
      '{"message":"last"}',
    ];
    await append(store, hostile, { device: 'attacker' });
    await append(store, [{ message: 'victim line' }], { device: 'victim' });
    expect(await store.countLines('attacker')).toBe(hostile.length);
    expect(await store.countLines()).toBe(hostile.length + 1);
    const { logs } = await store.search({ limit: 100, order: 'asc', device: 'attacker' });
    const bySeq = logs.toSorted((a, b) => (a.seq ?? 0) - (b.seq ?? 0));
    expect(bySeq.map((line) => line.seq)).toEqual(hostile.map((_, i) => i + 1));
    expect(bySeq.every((line) => line.id.startsWith('journal01-'))).toBe(true);
    // What is no single JSON object is kept whole, as text.
    expect(bySeq[0]?.message).toBe('a');
    expect(bySeq[1]?.message).toBe(hostile[1]);
    expect(bySeq[3]?.message).toBe(hostile[3]);
    expect(bySeq[4]?.message).toBe(hostile[4]);
    expect(bySeq[12]?.message).toBe(';');
    expect(bySeq[13]?.message).toBe('last');
  });

  test('hostile device names stay names', async () => {
    const names = [
      "o'brien",
      '"quoted"',
      'a,b',
      '\\N',
      '日本',
      "x') OR 1=1 --",
      ' padded ',
      '\ufeffbom',
      '{a}',
    ];
    for (const device of names) await append(store, [{ message: device }], { device });
    for (const device of names) {
      const { logs } = await store.search({ limit: 10, order: 'asc', device });
      expect(logs.map((line) => [line.device, line.message])).toEqual([[device, device]]);
    }
    expect((await store.deviceStats()).map((row) => row.device).toSorted()).toEqual(names.toSorted());
  });

  test('wrong types and broken JSON are kept, next to lines that are right', async () => {
    const odd = [
      '{"message":5,"timestamp":"soon","level":7,"isStdErr":"yes","serviceId":"x","source":3,"fields":[1]}',
      '{"message":{"a":1},"timestamp":-1,"appId":{}}',
      '{"message":null}',
      '{"no":"message"}',
      '{"message":"cut',
      '{"message":"lone \\ud800"}',
      `{"message":"m","fields":${'['.repeat(3000)}${']'.repeat(3000)}}`,
      '{"message":"huge","timestamp":1e400}',
      '{"message":"raw\u0000nul"}',
      '{}',
    ];
    const receivedMs = Date.now();
    await append(store, ['{"message":"first"}', ...odd, '{"message":"last"}'], { receivedMs });
    const { logs } = await store.search({ limit: 100, order: 'asc' });
    const text = logs.map((line) => line.message);
    expect(text).toEqual(['first', '5', '{"a":1}', ...odd.slice(2), 'last']);
    expect(logs.every((line) => line.timestamp === receivedMs)).toBe(true);
    expect(logs.every((line) => line.level === 'info')).toBe(true);
  });

  test('the same rows under the same token are stored once', async () => {
    const at = { receivedMs: Date.now(), token: 'same' };
    await append(store, [{ message: 'once' }], at);
    await append(store, [{ message: 'once' }], at);
    // The token decides, not the rows: another store would compare them, ours must not have to.
    await append(store, [{ message: 'lost, since tokens must not be used twice' }], { ...at, firstSeq: 9 });
    await append(store, [{ message: 'other' }], { firstSeq: 2 });
    expect(await messages()).toEqual(['once', 'other']);
  });

  test('rows that cannot be read are an error that blames the rows', async () => {
    const failing = store.append(Buffer.from('1\x1fnot enough\n'), { rows: 1, token: 'bad' });
    await expect(failing).rejects.toMatchObject({ code: 'STORE_FAILED', rowsRefused: true });
    const failingQuery = store.engine.query('SELECT nonsense FROM nowhere');
    await expect(failingQuery).rejects.toMatchObject({ code: 'STORE_FAILED', rowsRefused: false });
  });

  test('one insert becomes one part, however spread its times are', async () => {
    await store.engine.command('SYSTEM STOP MERGES millrace.logs');
    const lines = Array.from({ length: 2000 }, (_, i) => ({
      message: `${i}`,
      timestamp: i * 1e9,
      serviceName: `s${i % 50}`,
    }));
    await append(store, lines);
    const [parts] = await store.engine.query<{ n: number }>(
      `SELECT count() AS n FROM system.parts WHERE database = 'millrace' AND table = 'logs' AND active`,
    );
    await store.engine.command('SYSTEM START MERGES millrace.logs');
    expect(parts?.n).toBe(1);
    expect(await store.countLines()).toBe(2000);
  });

  test('the text index can be switched off and on; searches find the same', async () => {
    await append(store, [{ message: 'Connection refused by 10.0.0.1' }, { message: 'unconnected' }]);
    for (const textIndex of [false, false, true]) {
      await store.close();
      store = await place.open({ textIndex });
      const indexes = await store.engine.query<{ name: string }>(
        `SELECT name FROM system.data_skipping_indices WHERE database = 'millrace' AND table = 'logs' AND type = 'text'`,
      );
      expect(indexes.length).toBe(textIndex ? 1 : 0);
      expect(await messages({ words: ['connect'] })).toHaveLength(2);
      expect(await messages({ words: ['connection REFUSED by 10.0'] })).toHaveLength(1);
    }
  });

  test('lines that come in are stored without indexes over messages, which merging makes', async () => {
    const builtIndexes = async () => {
      const built = await store.engine.query<{ name: string }>(
        `SELECT name FROM system.data_skipping_indices WHERE database = 'millrace' AND table = 'logs' AND data_compressed_bytes > 0`,
      );
      return built.map(({ name }) => name).sort();
    };
    await store.engine.command('SYSTEM STOP MERGES millrace.logs');
    await append(store, [{ message: 'Connection refused' }]);
    expect(await builtIndexes()).toEqual(['times']);
    await store.engine.command('SYSTEM START MERGES millrace.logs');
    await store.engine.command('OPTIMIZE TABLE millrace.logs FINAL');
    expect(await builtIndexes()).toEqual(['escaped', 'grams', 'times', 'words']);
  });

  test('storedAt names the lines of one time of arrival', async () => {
    const receivedMs = Date.now();
    await append(store, [{ message: 'a' }, { message: 'b' }], { receivedMs });
    await append(store, [{ message: 'c' }], { receivedMs: receivedMs + 1, firstSeq: 3 });
    expect(await store.storedAt(receivedMs)).toEqual([{ device: 'dev', journal: 'journal01', seqs: [1, 2] }]);
  });

  test('a closed store says so, and does not wait for long queries', async () => {
    const slow = store.engine.query(
      'SELECT count() AS n FROM numbers(1000000000000) WHERE sipHash64(number) = 1',
    );
    const outcome = slow.then(
      () => 'done',
      (error: unknown) => (error instanceof MillraceError ? error.code : error),
    );
    await until(async () => {
      const running = await store.engine.query(
        `SELECT 1 AS n FROM system.processes WHERE query LIKE '%sipHash64(number) = 1%'`,
      );
      return running.length > 1;
    });
    const start = performance.now();
    await store.close();
    expect(await outcome).toBe('STORE_FAILED');
    expect(performance.now() - start).toBeLessThan(5000);
    await expect(store.countLines()).rejects.toBeInstanceOf(MillraceError);
    await expect(append(store, [{ message: 'late' }])).rejects.toMatchObject({ code: 'STORE_FAILED' });
    store = await place.open();
    await store.ping();
  });
});
