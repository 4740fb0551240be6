import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { encodeHeader, encodeLine, limits, lineId, type StoredLine } from '@millrace/wire';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type AdmittedLines, Ingest } from '../../src/ingest/index.ts';
import type { LogStore } from '../../src/store/index.ts';
import { places, type StorePlace, silent } from '../store/open-stores.ts';
import { batch, upTo } from './batches.ts';

const journal = 'journal01';

describe.each(places)('ingest, $name', ({ make }) => {
  let place: StorePlace;
  let store: LogStore;
  let ingest: Ingest;
  let tailed: AdmittedLines[];
  let device: string;
  let devices = 0;

  beforeAll(async () => {
    place = await make();
    store = await place.open();
  });
  afterAll(async () => {
    await ingest?.close();
    await store?.close();
    await place?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await ingest?.close();
    tailed = [];
    device = `dev-${++devices}`;
    ingest = new Ingest({ store, log: silent, onAdmitted: (lines) => tailed.push(lines) });
  });

  const stored = async (): Promise<StoredLine[]> => {
    const { logs } = await store.search({ device, limit: 10_000, order: 'asc' });
    return logs.toSorted((a, b) => (a.seq ?? 0) - (b.seq ?? 0));
  };
  const messages = async () => (await stored()).map((line) => line.message);
  const send = (payload: string | Buffer) => ingest.acceptPayload(device, Buffer.from(payload));

  test('batches over a stream, cut anywhere, arrive once and in order', async () => {
    const bytes = Buffer.concat([batch(journal, 1, 700), batch(journal, 701, 1000)]);
    for (let copy = 0; copy < 2; copy++) {
      const acks: number[] = [];
      const stream = ingest.openStream(device, { via: 'http', onAck: ({ through }) => acks.push(through) });
      for (let at = 0; at < bytes.length; at += 777) await stream.write(bytes.subarray(at, at + 777));
      await stream.end();
      expect(acks.at(-1)).toBe(1000);
    }
    const lines = await stored();
    expect(lines.map((line) => line.seq)).toEqual(upTo(1000));
    expect(lines.every((line) => line.message === `line ${line.seq}`)).toBe(true);
    expect(lines[0]).toMatchObject({ device, id: lineId(journal, 1), serviceName: 'web', level: 'info' });
    expect(ingest.stats()).toMatchObject({ lines: 1000, duplicates: 1000, rewritten: 0, gaps: 0 });
  });

  test('another process that takes over knows what is stored', async () => {
    await send(batch(journal, 1, 10));
    await send(batch(journal, 15, 20));
    const other = new Ingest({ store, log: silent });
    const { acks } = await other.acceptPayload(device, batch(journal, 1, 25));
    await other.close();
    expect(acks).toEqual([{ journal, through: 25 }]);
    expect((await stored()).map((line) => line.seq)).toEqual(upTo(25));
    expect(other.stats()).toMatchObject({ lines: 9, duplicates: 16 });
  });

  test.each<[string, () => Buffer, string[]]>([
    [
      'one LogMessage',
      () => Buffer.from('{"message":"one","timestamp":1760000000000,"level":"warn"}'),
      ['one'],
    ],
    ['an array', () => Buffer.from('[{"message":"a"},{"message":"b"}]'), ['a', 'b']],
    ['count and logs', () => Buffer.from('{"count":2,"logs":[{"message":"a"},{"message":"b"}]}'), ['a', 'b']],
    ['NDJSON', () => Buffer.from('{"message":"a"}\n\n{"message":"b"}\r\n{"message":"c"}'), ['a', 'b', 'c']],
    ['a batch', () => batch(journal, 1, 2), ['line 1', 'line 2']],
    ['a batch without the last newline', () => batch(journal, 1, 2).subarray(0, -1), ['line 1', 'line 2']],
    ['a gzip array', () => gzipSync('[{"message":"a"},{"message":"b"}]'), ['a', 'b']],
    ['zstd of count and logs', () => zstdCompressSync('{"count":1,"logs":[{"message":"a"}]}'), ['a']],
    ['one gzip message over several lines', () => gzipSync('{\n  "message": "a"\n}\n'), ['a']],
    [
      'a gzip array that was cut short',
      () => gzipSync('[{"message":"a"},{"mess'),
      ['[{"message":"a"},{"mess'],
    ],
    ['a gzip batch', () => gzipSync(batch(journal, 1, 2)), ['line 1', 'line 2']],
    [
      'gzip of several members',
      () => Buffer.concat([gzipSync(batch(journal, 1, 2)), gzipSync(batch(journal, 3, 3))]),
      ['line 1', 'line 2', 'line 3'],
    ],
    ['gzip of plain lines', () => gzipSync('{"message":"a"}\nplain\n'), ['a', 'plain']],
    ['a zstd batch', () => zstdCompressSync(batch(journal, 1, 2)), ['line 1', 'line 2']],
    [
      'zstd of several frames',
      () => Buffer.concat([zstdCompressSync(batch(journal, 1, 2)), zstdCompressSync(batch(journal, 3, 3))]),
      ['line 1', 'line 2', 'line 3'],
    ],
    ['plain text', () => Buffer.from('hello there'), ['hello there']],
    ['lines of text', () => Buffer.from('one\ntwo\n'), ['one', 'two']],
    ['a JSON string', () => Buffer.from('"hello"'), ['hello']],
    ['a number', () => Buffer.from('42'), ['42']],
    ['null', () => Buffer.from('null'), ['null']],
    [
      'an array of anything',
      () => Buffer.from('["a",1,null,[2],{"msg":"m"}]'),
      ['a', '1', 'null', '[2]', 'm'],
    ],
    ['broken JSON', () => Buffer.from('{"message":"cut'), ['{"message":"cut']],
    ['foreign names', () => Buffer.from('{"msg":"m","level":"WARNING","time":1760000000}'), ['m']],
    ['binary', () => Buffer.from([0xff, 0xfe, 0x00, 0x41]), ['\ufffd\ufffd\0A']],
    ['separators', () => Buffer.from('a\x1fb\x1fc'), ['a\x1fb\x1fc']],
    ['nothing', () => Buffer.alloc(0), []],
    ['an empty array', () => Buffer.from('[]'), []],
  ])('a message: %s', async (_, payload, expected) => {
    await ingest.acceptPayload(device, payload());
    expect(await messages()).toEqual(expected);
  });

  test('lines that carry an id of ours are stored once, however they come', async () => {
    const line = (seq: number) => ({
      id: lineId(journal, seq),
      message: `m${seq}`,
      timestamp: 1_760_000_000_000,
    });
    await send(JSON.stringify(line(1)));
    await send(JSON.stringify({ count: 3, logs: [line(1), line(2), line(3)] }));
    const { acks } = await send(JSON.stringify([line(3), line(4), { message: 'without' }, line(5)]));
    expect(acks).toEqual([{ journal, through: 5 }]);
    await send(batch(journal, 1, 6));
    const lines = await stored();
    expect(lines.filter((one) => one.id.startsWith(journal)).map((one) => one.seq)).toEqual(upTo(6));
    expect(lines).toHaveLength(7);
    expect(lines.find((one) => one.message === 'without')?.id).toMatch(/^cloud[0-9a-z]+-\d+$/);
  });

  test('truncated gzip keeps what was whole; a resend completes it', async () => {
    const noise = (seq: number) => `line ${seq} ${Math.sin(seq)} ${Math.cos(seq)}`;
    const whole = gzipSync(batch(journal, 1, 500, noise));
    const { acks } = await ingest.acceptPayload(device, whole.subarray(0, whole.length >> 1));
    const got = (await stored()).length;
    expect(got).toBeGreaterThan(100);
    expect(got).toBeLessThan(500);
    expect(acks).toEqual([{ journal, through: got }]);
    await ingest.acceptPayload(device, whole);
    expect(await messages()).toEqual(upTo(500).map(noise));
  });

  test('damaged gzip is refused as a whole, and counted', async () => {
    const damaged = gzipSync(batch(journal, 1, 500));
    damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] as number) ^ 0x55;
    await expect(ingest.acceptPayload(device, damaged)).rejects.toMatchObject({ code: 'BODY_INVALID' });
    expect(await stored()).toHaveLength(0);
    expect(ingest.stats().rejected.damaged).toBe(1);
    const garbage = Buffer.from([0x1f, 0x8b, 1, 2, 3]);
    await expect(ingest.acceptPayload(device, garbage)).rejects.toMatchObject({ code: 'BODY_INVALID' });
    await ingest.acceptPayload(device, gzipSync(batch(journal, 1, 500)));
    expect(await stored()).toHaveLength(500);
  });

  test('a gzip bomb is refused, and what came before the limit is kept', async () => {
    const bomb = gzipSync(Buffer.concat([batch(journal, 1, 3), Buffer.alloc(64 * 1024 * 1024, 'x')]));
    expect(bomb.length).toBeLessThan(100_000);
    await expect(ingest.acceptPayload(device, bomb)).rejects.toMatchObject({ code: 'BOMB_REFUSED' });
    const lines = await stored();
    const whole = lines.filter((line) => line.id.startsWith(journal));
    expect(whole.map((line) => line.message)).toEqual(['line 1', 'line 2', 'line 3']);
    expect(lines.length).toBeLessThanOrEqual(4);
    expect(ingest.stats().rejected.bomb).toBe(1);
    const many = gzipSync(Buffer.alloc(20 * 1024 * 1024, '1\n'));
    const small = new Ingest({ store, log: silent, limits: { maxInflatedBytes: 4000 } });
    await expect(small.acceptPayload(`${device}-b`, many)).rejects.toMatchObject({ code: 'BOMB_REFUSED' });
    await small.close();
    const tooLarge = new Ingest({ store, log: silent, limits: { maxPayloadBytes: 10 } });
    await expect(tooLarge.acceptPayload(device, Buffer.alloc(11))).rejects.toMatchObject({
      code: 'BODY_TOO_LARGE',
    });
    await tooLarge.close();
  });

  test('truncated zstd keeps its whole blocks; a resend completes it', async () => {
    const noise = (seq: number) => `line ${seq} ${Math.sin(seq)} ${Math.cos(seq)}`;
    const whole = zstdCompressSync(batch(journal, 1, 5000, noise));
    const { acks } = await ingest.acceptPayload(device, whole.subarray(0, whole.length >> 1));
    const got = (await stored()).length;
    expect(got).toBeGreaterThan(100);
    expect(got).toBeLessThan(5000);
    expect(acks).toEqual([{ journal, through: got }]);
    await ingest.acceptPayload(device, whole);
    expect((await stored()).map((line) => line.seq)).toEqual(upTo(5000));
  });

  test('damaged zstd is refused as a whole, and so is a zstd bomb once it is over the limit', async () => {
    const params = { [constants.ZSTD_c_checksumFlag]: 1 };
    const damaged = zstdCompressSync(batch(journal, 1, 500), { params });
    damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] as number) ^ 0x55;
    await expect(ingest.acceptPayload(device, damaged)).rejects.toMatchObject({ code: 'BODY_INVALID' });
    expect(await stored()).toHaveLength(0);
    expect(ingest.stats().rejected.damaged).toBe(1);
    const bomb = zstdCompressSync(Buffer.concat([batch(journal, 1, 3), Buffer.alloc(40 * 1024 * 1024, 'x')]));
    await expect(ingest.acceptPayload(device, bomb)).rejects.toMatchObject({ code: 'BOMB_REFUSED' });
    const whole = (await stored()).filter((line) => line.id.startsWith(journal));
    expect(whole.map((line) => line.message)).toEqual(['line 1', 'line 2', 'line 3']);
    expect(ingest.stats().rejected.bomb).toBe(1);
  });

  test('a line of 5 MB is kept truncated, and its neighbours whole', async () => {
    const long = encodeLine({ message: 'x' }).replace('"x"', `"${'é'.repeat(2_500_000)}"`);
    const header = encodeHeader({ journal, first: 1, count: 3, levels: [0, 3, 0, 0], sealed: 0 });
    const bytes = Buffer.from(
      `${header}{"message":"before"}\n${long}\n{"message":"after"}\n${long}\n{"message":"loose"}\n`,
    );
    const stream = ingest.openStream(device, { via: 'http' });
    for (let at = 0; at < bytes.length; at += 65_536) await stream.write(bytes.subarray(at, at + 65_536));
    await stream.end();
    const lines = await stored();
    const batched = lines.filter((line) => line.id.startsWith(journal));
    expect(batched.map((line) => line.seq)).toEqual([1, 2, 3]);
    expect(batched[0]?.message).toBe('before');
    expect(batched[2]?.message).toBe('after');
    const message = batched[1]?.message ?? '';
    expect(message).toMatch(/^\{"timestamp".*é… \[line longer than 1048576 bytes, truncated\]$/);
    expect(Buffer.byteLength(message)).toBeLessThanOrEqual(limits.maxMessageBytes);
    expect(lines).toHaveLength(5);
    expect(ingest.stats()).toMatchObject({ oversized: 2, lines: 5 });
  });

  test('hostile lines in a batch are kept, each under its own seq, and harm no neighbour', async () => {
    const deep = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
    const hostile: [line: string | Buffer, message: unknown][] = [
      ['{"message":"fine"}', 'fine'],
      ['{"message":"a"}{"message":"b"}', '{"message":"a"}{"message":"b"}'],
      ['{"message":"a"};', '{"message":"a"};'],
      ['not json', 'not json'],
      ['[1,2,3]', '[1,2,3]'],
      ['"text"', 'text'],
      ['{"message":"sep\x1fdevice\x1f"}', '{"message":"sep\x1fdevice\x1f"}'],
      ['{"message":"cr"}\r', 'cr'],
      ['{\r"message":"cr inside"}', 'cr inside'],
      ['  {"message":"spaces"}  ', 'spaces'],
      ['{"message":"lone \\ud800"}', 'lone \ufffd'],
      [Buffer.from([...Buffer.from('{"message":"'), 0xff, ...Buffer.from('"}')]), '\ufffd'],
      ['{"message":"nul \\u0000"}', 'nul \0'],
      [`{"message":"deep","fields":{"a":${deep(500)}}}`, 'deep'],
      [`{"message":${deep(200_000)}}`, expect.any(String)],
      ['{"message":"big","fields":{"n":123456789012345678901234567890}}', 'big'],
      ['{"message":"e","fields":{"n":1e400}}', 'e'],
      ['{"message":{"a":1}}', '{"a":1}'],
      [`{"message":"${'y'.repeat(200_000)}"}`, expect.stringMatching(/^y+… \[truncated \d+ bytes\]$/)],
      ['{"device":"victim","journal":"victim001","seq":1,"message":"x"}', 'x'],
      ['{"message":"last"}', 'last'],
    ];
    const header = encodeHeader({
      journal,
      first: 1,
      count: hostile.length,
      levels: [0, 0, 0, 0],
      sealed: 0,
    });
    const bytes = Buffer.concat([
      Buffer.from(header),
      ...hostile.flatMap(([line]) => [Buffer.from(line), Buffer.from('\n')]),
    ]);
    const { acks } = await ingest.acceptPayload(device, bytes);
    expect(acks).toEqual([{ journal, through: hostile.length }]);
    const lines = await stored();
    expect(lines.map((line) => line.seq)).toEqual(upTo(hostile.length));
    expect(lines.map((line) => line.message)).toEqual(hostile.map(([, message]) => message));
    expect(lines.every((line) => line.device === device)).toBe(true);
    expect(await store.countLines('victim')).toBe(0);
    expect(lines[15]?.fields).toEqual({ n: 1.2345678901234568e29 });
    expect(lines[13]?.fields).toEqual({ a: JSON.parse(deep(500)) });
    expect(ingest.stats().commits.failures).toBe(0);
    // The very same lines without a batch.
    await ingest.acceptPayload(device, bytes.subarray(header.length));
    expect((await stored()).length).toBe(2 * hostile.length);
  });

  test('a device whose clock is wrong loses nothing', async () => {
    const times = [0, 5, 86_400_000, 1_760_000_000_000, 4_102_444_800_000, 9_876_999_999_999, 1e18];
    const lines = times.map((timestamp, i) => `{"message":"${i}","timestamp":${timestamp}}\n`).join('');
    const header = encodeHeader({ journal, first: 1, count: times.length, levels: [0, 7, 0, 0], sealed: 0 });
    const before = Date.now();
    await send(header + lines);
    const got = await stored();
    expect(got.slice(0, 6).map((line) => line.timestamp)).toEqual(times.slice(0, 6));
    expect(got[6]?.timestamp).toBeGreaterThanOrEqual(before);
    const found = await store.search({ device, since: 0, until: 1000, limit: 10, order: 'desc' });
    expect(found.logs.map((line) => line.message)).toEqual(['1', '0']);
  });

  test('the tail shows each line once, at admission, as a search does afterwards', async () => {
    const lines = [
      { message: 'plain', timestamp: 1_760_000_000_000 },
      {
        message: 'full',
        timestamp: 1_760_000_000_001,
        level: 'warn' as const,
        isStdErr: true,
        serviceName: 'web',
        serviceId: 7,
        containerId: 'c1',
        appId: 1001,
        fields: { a: { b: [1, 2.5, null] } },
      },
      {
        message: 'agent',
        timestamp: 1_760_000_000_002,
        isSystem: true,
        source: { type: 'manager' as const, name: 'agent' },
      },
      { message: 'lone \ud800', timestamp: 1_760_000_000_003, appId: 'shop', fields: { big: 2 ** 70 } },
      { message: '', timestamp: 1_760_000_000_004 },
      { message: '{"status":500,"big":123456789012345678901234567890}', timestamp: 1_760_000_000_005 },
      { message: 'status=500 took=1.5', timestamp: 1_760_000_000_006 },
      { message: '{"status":500}', timestamp: 1_760_000_000_007, fields: { given: true } },
    ];
    const odd = [
      '{"message":5,"level":"WARNING","isSystem":true}',
      'text',
      '{"nothing":1}',
      '{"message":"x","source":{"type":"system"}}',
    ];
    const texts = [...lines.map((line) => encodeLine(line)), ...odd];
    const header = encodeHeader({ journal, first: 1, count: texts.length, levels: [0, 0, 0, 0], sealed: 0 });
    const payload = `${header}${texts.join('\n')}\n${texts.join('\n')}\n`;
    await send(payload);
    await send(`${header}${texts.join('\n')}\n`);
    const shown = tailed.flatMap((run) => run.messages());
    const key = (line: StoredLine) => line.id;
    expect(shown.map(key).toSorted()).toEqual((await stored()).map(key).toSorted());
    expect(shown.toSorted((a, b) => key(a).localeCompare(key(b)))).toEqual(
      (await stored()).toSorted((a, b) => key(a).localeCompare(key(b))),
    );
    expect(shown).toHaveLength(2 * texts.length);
    const fields = (await stored()).flatMap((line) => (/status/.test(line.message) ? [line.fields] : []));
    expect(fields).toContainEqual({ status: 500, big: 1.2345678901234568e29 });
    expect(fields).toContainEqual({ status: 500, took: 1.5 });
    expect(fields.filter((one) => one?.given)).toHaveLength(2);
  });

  test('nobody listens, nothing is decoded; a listener that throws harms nobody', async () => {
    const seen: string[] = [];
    const stop = ingest.subscribe((lines) => seen.push(...lines.messages().map((line) => line.message)));
    ingest.subscribe(() => {
      throw new Error('broken watcher');
    });
    await send('{"message":"a"}');
    stop();
    await send('{"message":"b"}');
    expect(seen).toEqual(['a']);
    expect(await messages()).toEqual(['a', 'b']);
  });

  test('many devices at once', async () => {
    const names = upTo(40).map((i) => `${device}-${i}`);
    await Promise.all(
      names.map(async (name) => {
        const stream = ingest.openStream(name, { via: 'http' });
        for (let i = 0; i < 5; i++) await stream.write(batch(journal, i * 20 + 1, i * 20 + 20));
        await stream.end();
      }),
    );
    const stats = (await store.deviceStats()).filter((row) => names.includes(row.device));
    expect(stats.map((row) => row.lines)).toEqual(names.map(() => 100));
    expect(ingest.stats().commits.flights).toBeLessThan(30);
  });

  test('a device name that cannot be is refused', async () => {
    for (const name of ['', 'a\nb', 'a\x1fb', 'x'.repeat(257), '\ud800']) {
      await expect(ingest.acceptPayload(name, Buffer.from('x'))).rejects.toMatchObject({
        code: 'PARAMETER_INVALID',
      });
      expect(() => ingest.openStream(name, { via: 'http' })).toThrow(/PARAMETER_INVALID/);
    }
  });
});
