import { encodeLine, levelRank, levels } from '@millrace/wire';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../../tests/support/tmp.ts';
import { LineEncoder } from '../../../src/docker/encoder.ts';
import { FolderDisk } from '../../../src/journal/disk.ts';
import { Journal } from '../../../src/journal/journal.ts';
import { walkMembers } from '../../../src/journal/member.ts';
import { LocalLogBackend } from '../../../src/logging/local-backend.ts';
import type { EncodedLine, PositionSource } from '../../../src/logging/types.ts';
import { BatchJournal } from './batch-journal.ts';
import { LogWriter } from './log-writer.ts';
import { TestReader } from './test-reader.ts';

const fields = {
  source: { type: 'container' as const, name: 'wéb "1"' },
  serviceName: 'wéb "1"',
  serviceId: 7,
  appId: 'shop',
  containerId: 'c'.repeat(64),
  isSystem: false,
};

test('an encoded line is the one that wire makes', () => {
  const line = fc.record({
    message: fc.string({ unit: 'grapheme', maxLength: 300 }),
    ms: fc.integer({ min: 1_000_000_000_000, max: 4_000_000_000_000 }),
    isStdErr: fc.boolean(),
    level: fc.constantFrom(...levels),
  });
  const encoders = [
    new LineEncoder(fields),
    new LineEncoder({ ...fields, appId: undefined, serviceName: 'b' }),
  ];
  fc.assert(
    fc.property(fc.array(line, { minLength: 1, maxLength: 8 }), (lines) => {
      lines.forEach(({ message, ms, isStdErr, level }, i) => {
        const text = Buffer.from(`"${JSON.stringify(message)}`);
        const encoder = encoders[i % 2] as LineEncoder;
        const [second, milli] = [Math.floor(ms / 1000), ms % 1000];
        const made = encoder.encode(text, 2, text.length - 1, second, milli, isStdErr, levelRank(level));
        const own = i % 2 === 0 ? fields : { ...fields, appId: undefined, serviceName: 'b' };
        expect(made.bytes.toString('utf8', made.start, made.end)).toBe(
          `${encodeLine({ ...own, message, timestamp: ms, isStdErr, level })}\n`,
        );
        expect(made.level).toBe(levelRank(level));
      });
    }),
  );
});

test('lines that go the short way: levels, fields and streams as on the long one, and what cannot takes that', async () => {
  await using dir = await tempDir();
  const read = async (isEncoded: boolean) => {
    const writer = new LogWriter(dir.path, isEncoded ? 'a'.repeat(64) : 'b'.repeat(64));
    writer.write('stdout', '{"level":"warn","msg":"json <b> \u2028 ä"}\n');
    writer.write('stderr', '{"msg":"no level"}\n');
    writer.write('stderr', '{"level":10,"msg":"pino"}\n');
    writer.write('stdout', 'plain [ERROR] text\n');
    writer.write('stdout', `{"long":"${'x'.repeat(70_000)}"}\n`);
    writer.write('stdout', '{"half":');
    writer.write('stdout', '"line"}\n');
    writer.write('stdout', '{"with":"attrs"}\n', { tag: 'x' });
    // By a clock that was never set.
    writer.append('{"log":"{\\"boot\\":1}\\n","stream":"stdout","time":"1970-01-01T00:00:12.5Z"}\n');
    const journal = new BatchJournal();
    await new TestReader(writer, journal, { isEncoded, multiline: 'traces' }).readAll();
    return { lines: journal.lines.map((line) => comparable(line)), encodedLines: journal.encodedLines };
  };
  const [short, long] = [await read(true), await read(false)];
  expect(short.lines).toEqual(long.lines);
  expect(short.lines).toHaveLength(8);
  expect([short.encodedLines, long.encodedLines]).toEqual([3, 0]);
});

/** As the wire has it: what is at its default is left out. */
function comparable(line: Parameters<typeof encodeLine>[0]): object {
  return JSON.parse(encodeLine({ ...line, containerId: 'same' }));
}

test('the journal: encoded and other lines mixed, seen by queries and watchers, with the positions behind them', async () => {
  await using dir = await tempDir();
  const encoder = new LineEncoder(fields);
  const encode = (n: number): EncodedLine => {
    const text = Buffer.from(`{\\"n\\":${n}}`);
    return encoder.encode(text, 0, text.length, 1_790_000_000, n % 1000, n % 5 === 0, n % 5 === 0 ? 3 : 1);
  };
  const total = 10_000;
  {
    const journal = new Journal({ disk: new FolderDisk(dir.path) });
    const local = new LocalLogBackend({ journal });
    const seen: string[] = [];
    const stop = journal.watch((text) => seen.push((JSON.parse(text) as { message: string }).message));
    const source = { key: 'docker:x', position: { n: 0 } } satisfies PositionSource;
    for (let n = 1; n <= total; n++) {
      if (n % 7 === 0) {
        journal.append(
          { ...fields, message: `{"n":${n}}`, timestamp: 1_790_000_000_000 },
          { key: 'docker:x', value: { n } },
        );
      } else local.encoded.add(encode(n), source);
      source.position.n = n;
      if (n % 100 === 0) await local.encoded.flush();
    }
    stop();
    expect(seen).toEqual(Array.from({ length: total }, (_, i) => `{"n":${i + 1}}`));
    await journal.flush();
    const [last] = await local.getLogs({ limit: 1, order: 'desc' });
    expect(last).toMatchObject({
      message: `{"n":${total}}`,
      seq: total,
      level: 'error',
      isStdErr: true,
      appId: 'shop',
    });
    expect(journal.stats().lines).toBe(total);
    await journal.abandon();
  }
  await using journal = new Journal({ disk: new FolderDisk(dir.path) });
  expect(journal.position('docker:x')).toEqual({ n: total });
  const cursor = journal.cursor('cloud');
  let read = 0;
  while (read < total) {
    const batch = await cursor.next();
    for (const { message } of batch?.messages() ?? []) expect(message).toBe(`{"n":${++read}}`);
    const errors = batch?.messages().filter(({ level }) => level === 'error').length;
    expect(batch?.header.levels[3]).toBe(errors);
  }
});

test('a batch that is full in front of a line has the position in front of it', async () => {
  await using dir = await tempDir();
  const encoder = new LineEncoder(fields);
  const text = Buffer.from('x'.repeat(1_000));
  const source = { key: 'docker:x', position: 0 };
  {
    await using journal = new Journal({ disk: new FolderDisk(dir.path) });
    for (let n = 1; n <= 250; n++) {
      journal.encoded.add(encoder.encode(text, 0, text.length, 1_790_000_000, 0, false, 1), source);
      source.position = n;
    }
  }
  const disk = new FolderDisk(dir.path);
  const [name = ''] = disk.list();
  const { members } = walkMembers(disk.read(name, 0, disk.size(name)));
  let lines = 0;
  const positions: [number, unknown][] = [];
  for (const { header } of members.filter(({ header: { count } }) => count > 0)) {
    lines += header.count;
    positions.push([lines, header.positions?.['docker:x']]);
  }
  expect(positions.length).toBeGreaterThan(1);
  for (const [count, position] of positions) expect(position).toBe(count);
  expect(lines).toBe(250);
});
