import { encodeLine, type LogInput } from '@millrace/wire';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { anyCharacter } from '../../../../tests/support/text-arbitraries.ts';
import { LogCursor, type Pass } from '../../src/docker/cursor.ts';
import { LineReader } from '../../src/docker/lines.ts';
import { type LogStream, Resume } from '../../src/docker/position.ts';
import { combine, ruleSchema } from '../../src/shape/rules.ts';
import { BatchJournal } from './files/batch-journal.ts';

// What a process that died still held must not come back.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const id = 'c'.repeat(64);
const key = `docker:${id}`;

/** One line of a container's log; `gap` is the time since the line before, in ns, 0 for a coarse clock. */
const entry = fc.record({
  stream: fc.constantFrom<LogStream>('out', 'err'),
  gap: fc.constantFrom(0, 1, 1_000_000, 20_000_000_000),
  text: fc.oneof(
    fc.constantFrom(
      ...[
        '{"level":"warn","msg":"json"}',
        '{"msg":"ä \u2028 😀"}',
        '{',
        '',
        'plain',
        '\tindented',
        'ERROR x',
      ],
      ...['Traceback (most recent call last):', '{"bad":"\xff"}', `{"long":"${'x'.repeat(11_000)}"}`],
    ),
    fc
      .string({ unit: anyCharacter, maxLength: 20 })
      .map((text) => `{"s":"\b\t\f\r\x1b\\\\${text.replaceAll('\n', '')}`),
  ),
  /** Its first half comes by itself, as that of a line that is longer than 16 KB. */
  isSplit: fc.constantFrom(false, false, false, true),
});
interface Entry {
  stream: LogStream;
  gap: number;
  text: string;
  isSplit: boolean;
}

interface Frame {
  nanos: string;
  bytes: Buffer;
}

/** As the engine sends them. The second half of a line comes behind the next line, where that is of the other stream. */
function framesOf(entries: readonly Entry[]): Frame[] {
  let ns = 1_790_000_000n * 1_000_000_000n;
  const frames: Frame[] = [];
  const halves: Partial<Record<LogStream, Frame>> = {};
  const end = (stream: LogStream) => {
    const half = halves[stream];
    if (half) frames.push(half);
    halves[stream] = undefined;
  };
  for (const { stream, gap, text, isSplit } of entries) {
    ns += BigInt(gap);
    const bytes = Buffer.from(`${text}\n`, text.includes('\xff') ? 'latin1' : 'utf8');
    const nanos = String(ns);
    end(stream);
    const half = isSplit ? bytes.length >> 1 : 0;
    if (half > 0) {
      frames.push(frameOf(stream, nanos, bytes.subarray(0, half)));
      halves[stream] = frameOf(stream, nanos, bytes.subarray(half));
    } else frames.push(frameOf(stream, nanos, bytes));
    end(stream === 'out' ? 'err' : 'out');
  }
  end('out');
  end('err');
  return frames;
}

function frameOf(stream: LogStream, nanos: string, text: Buffer): Frame {
  const second = new Date(Number(nanos.slice(0, -9)) * 1000).toISOString().slice(0, 19);
  const payload = Buffer.concat([Buffer.from(`${second}.${nanos.slice(-9)}Z `), text]);
  const header = Buffer.alloc(8);
  header[0] = stream === 'err' ? 2 : 1;
  header.writeUInt32BE(payload.length, 4);
  return { nanos, bytes: Buffer.concat([header, payload]) };
}

interface Life {
  isShort: boolean;
  /** After how many chunks it dies; without, it ends in order. */
  chunks?: number;
  framesPerChunk: number;
  isFollowed: boolean;
  multiline: 'traces' | 'off';
  rules?: boolean;
}

/** One life of the agent: reads on from what was saved, and dies with lines still held or not yet in a sealed batch. */
function live(log: readonly Frame[], journal: BatchJournal, life: Life): void {
  const cursor = new LogCursor({
    container: { id, name: 'wéb', labels: {} },
    saved: journal.position(key),
    startMs: () => 0,
    multiline: life.multiline,
    ...(life.rules && { rules: combine([ruleSchema.parse({ drop: ['^plain'] })]) }),
    deliver: (line, position) => journal.log(line, position),
    ...(life.isShort && { encoded: journal }),
  });
  let chunks = 0;
  let isFollowed = life.isFollowed;
  for (let isDone = false; !isDone; isFollowed = false) {
    const { since } = cursor.resumePoint(1_900_000_000_000, 0);
    const pass = passOver(cursor, isFollowed);
    const rest = log.filter(({ nanos }) => nanos >= since);
    while (rest.length > 0 && !pass.isDoubtful) {
      if (chunks++ === life.chunks) {
        journal.crash();
        return;
      }
      pass.lines.push(Buffer.concat(rest.splice(0, life.framesPerChunk).map(({ bytes }) => bytes)));
      for (let line = pass.lines.next(); line && !pass.isDoubtful; line = pass.lines.next())
        cursor.take(line, pass);
      void cursor.added();
    }
    isDone = !pass.isDoubtful;
  }
  void cursor.flush();
  journal.seal();
}

function passOver(cursor: LogCursor, isFollowed: boolean): Pass {
  return {
    ...{ isFollowed, isRotated: false, lines: new LineReader(), resume: new Resume(cursor.current) },
    ...{ newLines: 0, newBytes: 0, isDoubtful: false, isGapTold: false },
  };
}

/** As the wire has it, in the order of its stream. */
function linesOf(journal: BatchJournal, isStdErr: boolean): object[] {
  const wire = (line: LogInput) => JSON.parse(encodeLine(line)) as object;
  return journal.lines.filter((line) => (line.isStdErr ?? false) === isStdErr).map(wire);
}

const life = fc.record({
  chunks: fc.nat(6),
  framesPerChunk: fc.integer({ min: 1, max: 6 }),
  isFollowed: fc.boolean(),
  isShort: fc.boolean(),
});

test('by the short way come the lines that come by the long one, each once, whatever dies in between', () => {
  let encoded = 0;
  fc.assert(
    fc.property(
      fc.array(entry, { maxLength: 30 }),
      fc.array(life, { maxLength: 4 }),
      fc.constantFrom<'traces' | 'off'>('traces', 'off'),
      fc.constantFrom(false, false, true),
      (entries, lives, multiline, rules) => {
        const log = framesOf(entries);
        const last = { isShort: true, framesPerChunk: 3, isFollowed: true, multiline, rules };
        const journal = new BatchJournal();
        for (const each of lives) live(log, journal, { ...each, multiline, rules });
        live(log, journal, last);
        const long = new BatchJournal();
        live(log, long, { ...last, isShort: false });
        for (const isStdErr of [false, true])
          expect(linesOf(journal, isStdErr)).toEqual(linesOf(long, isStdErr));
        // One more life finds nothing new.
        const { length } = journal.lines;
        live(log, journal, last);
        expect(journal.lines).toHaveLength(length);
        encoded += journal.encodedLines;
        expect(long.encodedLines).toBe(0);
      },
    ),
    { numRuns: 500 },
  );
  expect(encoded).toBeGreaterThan(500);
});

test('which lines go the short way', () => {
  const encodedOf = (text: string, options: Partial<Life> = {}, before: Entry[] = []) => {
    const journal = new BatchJournal();
    const entries = [...before, { stream: 'out' as const, gap: 5, text, isSplit: false }];
    live(framesOf(entries), journal, {
      ...{ isShort: true, framesPerChunk: 9, isFollowed: true, multiline: 'traces' as const },
      ...options,
    });
    expect(journal.lines).toHaveLength(entries.length);
    return journal.encodedLines;
  };
  expect(encodedOf('{"a":1}')).toBe(1);
  expect(encodedOf('plain')).toBe(0);
  expect(encodedOf('plain', { multiline: 'off' })).toBe(1);
  expect(encodedOf('{"a":1}', { rules: true })).toBe(0);
  expect(encodedOf('{"bad":"\xff"}')).toBe(0);
  expect(encodedOf(`{"long":"${'x'.repeat(11_000)}"}`)).toBe(0);
  // Behind what may be continued; of the other stream, it does not matter.
  expect(encodedOf('{"a":1}', {}, [{ stream: 'out', gap: 1, text: 'plain', isSplit: false }])).toBe(0);
  expect(encodedOf('{"a":1}', {}, [{ stream: 'err', gap: 1, text: 'plain', isSplit: false }])).toBe(1);
});

test('a followed stream that goes back in time, or repeats itself, is doubted behind lines that went the short way, too', () => {
  const second = 1_000_000_000;
  const at = (seconds: number, text: string) => ({
    nanos: String(1_790_000_000n * 1_000_000_000n + BigInt(seconds * second)),
    text,
  });
  const read = (lines: { nanos: string; text: string }[], isFollowed: boolean) => {
    const journal = new BatchJournal();
    const cursor = new LogCursor({
      ...{ container: { id, name: 'web', labels: {} }, saved: undefined, startMs: () => 0, encoded: journal },
      deliver: (line, position) => journal.log(line, position),
    });
    const pass = passOver(cursor, isFollowed);
    for (const { nanos, text } of lines) {
      const { bytes } = frameOf('out', nanos, Buffer.from(`${text}\n`));
      pass.lines.push(bytes);
      for (let line = pass.lines.next(); line && !pass.isDoubtful; line = pass.lines.next())
        cursor.take(line, pass);
      void cursor.added();
      // A connection's memory is not ours for longer.
      bytes.fill(0x58);
    }
    return { isDoubtful: pass.isDoubtful, lines: journal.lines.length };
  };
  const [a, b] = ['{"a":1}', '{"b":2}'];
  expect(read([at(1, a), at(2, b), at(1, a)], true)).toEqual({ isDoubtful: true, lines: 2 });
  expect(read([at(1, a), at(1, a)], true)).toEqual({ isDoubtful: true, lines: 1 });
  expect(read([at(1, a), at(1, b), at(2, b)], true)).toEqual({ isDoubtful: false, lines: 3 });
  expect(read([at(1, a), at(1, a), at(0, a)], false)).toEqual({ isDoubtful: false, lines: 3 });
});
