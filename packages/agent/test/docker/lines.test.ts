import { limits } from '@millrace/wire';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EngineLogError, LineReader, type LogLine } from '../../src/docker/lines.ts';
import { msOf } from '../../src/docker/timestamp.ts';

const pieceBytes = 16 * 1024;

interface Written {
  stderr: boolean;
  text: Buffer;
  ms: number;
}

/** What dockerd makes of a line without a terminal: one frame per 16 KB, all with the same stamp. */
function frames({ stderr, text, ms }: Written, ended = true): Buffer {
  const whole = ended ? Buffer.concat([text, Buffer.from('\n')]) : text;
  const parts: Buffer[] = [];
  for (let at = 0; at < whole.length; at += pieceBytes) {
    parts.push(frame(stderr ? 2 : 1, Buffer.concat([stamp(ms), whole.subarray(at, at + pieceBytes)])));
  }
  return Buffer.concat(parts);
}

function frame(stream: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(payload.length, 4);
  return Buffer.concat([header, payload]);
}

/** The same with a terminal: the pieces follow each other, each with the stamp. */
function terminal({ text, ms }: Written, ended = true): Buffer {
  const whole = ended ? Buffer.concat([text, Buffer.from('\r\n')]) : text;
  const parts: Buffer[] = [];
  for (let at = 0; at < whole.length; at += pieceBytes) {
    parts.push(stamp(ms), whole.subarray(at, at + pieceBytes));
  }
  return Buffer.concat(parts);
}

function stamp(ms: number): Buffer {
  return Buffer.from(`${new Date(ms).toISOString().slice(0, -1)}123456Z `);
}

/** Feeds bytes cut at the given places, and collects the lines. */
function readAll(bytes: Buffer, cuts: number[], reader = new LineReader()) {
  const lines: { stream: string; ms: number; text: string }[] = [];
  const at = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const cut of [...at, bytes.length]) {
    const chunk = Buffer.from(bytes.subarray(from, cut));
    reader.push(chunk);
    from = cut;
    for (let line = reader.next(); line; line = reader.next()) lines.push(plain(line));
    // A connection reads into the same memory again.
    chunk.fill('X');
  }
  return { lines, unfinished: reader.unfinished().map(plain) };
}

function plain(line: LogLine) {
  return {
    stream: line.stream,
    ms: msOf(line.second, line.nano),
    text: line.source.toString('utf8', line.start, line.end),
  };
}

const text = fc.oneof(
  { weight: 8, arbitrary: fc.uint8Array({ maxLength: 80 }) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.integer({ min: pieceBytes - 3, max: 3 * pieceBytes }), fc.nat(255))
      .map(([length, byte]) => new Uint8Array(length).fill(byte)),
  },
);
const written = fc.record({
  stderr: fc.boolean(),
  text: text.map((bytes) => Buffer.from(bytes.filter((byte) => byte !== 0x0a && byte !== 0x0d))),
  ms: fc.integer({ min: Date.UTC(1971), max: Date.UTC(2200) }),
});
const cuts = fc.array(fc.nat(200_000), { maxLength: 40 });

test('frames cut anywhere give the lines that were written', () => {
  fc.assert(
    fc.property(fc.array(written, { maxLength: 12 }), cuts, (all, places) => {
      const bytes = Buffer.concat(all.map((line) => frames(line)));
      const { lines, unfinished } = readAll(bytes, places);
      expect(lines).toEqual(
        all.map((line) => ({
          stream: line.stderr ? 'err' : 'out',
          ms: line.ms,
          text: line.text.toString('utf8'),
        })),
      );
      expect(unfinished).toEqual([]);
    }),
  );
});

test("a terminal's stream cut anywhere gives the lines that were written", () => {
  fc.assert(
    fc.property(fc.array(written, { maxLength: 12 }), cuts, (all, places) => {
      const { lines, unfinished } = readAll(Buffer.concat(all.map((line) => terminal(line))), places);
      expect(lines).toEqual(
        all.map(({ ms, text: bytes }) => ({ stream: 'out', ms, text: bytes.toString('utf8') })),
      );
      expect(unfinished).toEqual([]);
    }),
  );
});

test('pieces of the two streams may alternate', () => {
  const [a, b] = [
    { stderr: false, text: Buffer.alloc(40_000, 'a'), ms: 1_000 },
    { stderr: true, text: Buffer.alloc(40_000, 'b'), ms: 2_000 },
  ] as const;
  const [out, err] = [frames(a), frames(b)];
  const size = pieceBytes + 8 + stamp(0).length;
  const mixed: Buffer[] = [];
  for (let at = 0; at < out.length; at += size)
    mixed.push(out.subarray(at, at + size), err.subarray(at, at + size));
  const { lines } = readAll(Buffer.concat(mixed), [77, 20_000]);
  expect(lines.map(({ text: line }) => line)).toEqual([a.text.toString(), b.text.toString()]);
});

test('a line that was never ended is a line when another begins, and at the end', () => {
  const half = { stderr: false, text: Buffer.from('half'), ms: 1_000 };
  const next = { stderr: false, text: Buffer.from('next'), ms: 2_000 };
  const bytes = Buffer.concat([frames(half, false), frames(next), frames({ ...half, ms: 3_000 }, false)]);
  const { lines, unfinished } = readAll(bytes, []);
  expect(lines.map(({ text: line }) => line)).toEqual(['half', 'next']);
  expect(unfinished.map(({ text: line, ms }) => [line, ms])).toEqual([['half', 3_000]]);
  expect(readAll(terminal(half, false), []).unfinished.map(({ text: line }) => line)).toEqual(['half']);
});

test("a terminal's line that was never ended is parted from the first line of the next run, and only there", () => {
  const half = { stderr: false, text: Buffer.from(`half ${stamp(1_500)}`), ms: 2_000 };
  const next = { stderr: false, text: Buffer.from(`next ${stamp(4_500)}x`), ms: 5_000 };
  const reader = new LineReader();
  reader.restart = { endedAt: '0000000004000000000', startedAt: '0000000006000000000' };
  const { lines } = readAll(Buffer.concat([terminal(half, false), terminal(next)]), [], reader);
  expect(lines.map(({ text: line, ms }) => [line, ms])).toEqual([
    [half.text.toString(), 2_000],
    [next.text.toString(), 5_000],
  ]);
});

test('a line that grows without bound is kept cut, and the next is whole', () => {
  const huge = { stderr: false, text: Buffer.alloc(5_000_000, 'x'), ms: 1_000 };
  const next = { stderr: false, text: Buffer.from('next'), ms: 2_000 };
  for (const encode of [frames, terminal]) {
    const places = Array.from({ length: 100 }, (_, i) => i * 65_536);
    const { lines } = readAll(Buffer.concat([encode(huge), encode(next)]), places);
    expect(lines).toHaveLength(2);
    expect(lines[0]?.text.length).toBeLessThanOrEqual(limits.maxReceivedLineBytes);
    expect(lines[0]?.text.length).toBeGreaterThan(limits.maxReceivedLineBytes * 0.9);
    expect(lines[1]?.text).toBe('next');
  }
});

test('what is missing of a line is counted, wherever its bytes are cut', () => {
  const size = fc.integer({ min: 900, max: 60_000 });
  fc.assert(
    fc.property(size, fc.boolean(), cuts, (length, ended, places) => {
      const line = { stderr: false, text: Buffer.alloc(length, 'x'), ms: 1_000 };
      const count = (bytes: Buffer) => {
        const reader = new LineReader({ maxLineBytes: 1000 });
        const lines: { end: number; start: number; cutBytes: number }[] = [];
        let from = 0;
        for (const cut of [...places.map((at) => at % bytes.length).sort((a, b) => a - b), bytes.length]) {
          reader.push(bytes.subarray(from, cut));
          from = Math.max(from, cut);
          for (let next = reader.next(); next; next = reader.next()) lines.push(next);
        }
        const [first] = [...lines, ...reader.unfinished()];
        return first && first.end - first.start + first.cutBytes;
      };
      expect(count(frames(line, ended))).toBe(length);
      // The stamps between a terminal's pieces count too, and its line's end has two bytes.
      const stamps = Math.ceil((length + 2) / pieceBytes) * stamp(0).length;
      expect(count(terminal(line, ended))).toBeGreaterThanOrEqual(length);
      expect(count(terminal(line, ended))).toBeLessThanOrEqual(length + stamps + 2);
    }),
    { numRuns: 200 },
  );
});

test('one frame of gigabytes is passed over without being held', () => {
  const header = Buffer.alloc(8);
  header[0] = 1;
  header.writeUInt32BE(0xffff_ffff, 4);
  const reader = new LineReader({ maxLineBytes: 1000 });
  reader.push(Buffer.concat([header, stamp(1_000), Buffer.alloc(100_000, 'x')]));
  expect(reader.next()).toBeUndefined();
  const chunk = Buffer.alloc(16 * 1024 * 1024, 'x');
  let left = 0xffff_ffff - stamp(1_000).length - 100_000;
  for (; left > chunk.length; left -= chunk.length) {
    reader.push(chunk);
    expect(reader.next()).toBeUndefined();
  }
  chunk[left - 1] = 0x0a;
  reader.push(chunk.subarray(0, left));
  const line = reader.next() as LogLine;
  expect(line.end - line.start).toBeLessThanOrEqual(1000);
  expect(line.end - line.start + line.cutBytes).toBe(0xffff_ffff - stamp(1_000).length - 1);
});

test('what is no log stream is refused, and what the engine says itself is an error', () => {
  expect(() => readAll(Buffer.from([1, 9, 9, 9, 0, 0, 0, 1, 65]), [])).toThrow('not a frame');
  expect(() => readAll(frame(3, Buffer.from('Error grabbing logs: invalid character')), [])).toThrow(
    EngineLogError,
  );
  const raw = Buffer.concat([
    terminal({ stderr: false, text: Buffer.from('a'), ms: 1 }),
    Buffer.from('Error grabbing logs: x\n'),
  ]);
  expect(() => readAll(raw, [])).toThrow(EngineLogError);
});

test('timestamps of every form are read to the nanosecond', () => {
  const cases: [string, number, number][] = [
    ['2026-11-20T12:41:25.567969173Z', 1_795_178_485, 567_969_173],
    ['2026-11-20T12:41:25.5Z', 1_795_178_485, 500_000_000],
    ['2026-11-20T12:41:25Z', 1_795_178_485, 0],
    ['2026-11-20T14:41:25.000000001+02:00', 1_795_178_485, 1],
    ['1970-01-01T00:00:01.000000001Z', 1, 1],
  ];
  for (const [time, second, nano] of cases) {
    const reader = new LineReader();
    // Twice: the second line of a second takes another path.
    for (let i = 0; i < 2; i++) {
      reader.push(frame(1, Buffer.from(`${time} text\n`)));
      expect(reader.next()).toMatchObject({ second, nano });
    }
  }
});
