import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LogCursor, type Pass } from '../../src/docker/cursor.ts';
import { LineReader, type LogLine } from '../../src/docker/lines.ts';
import { type LogStream, Resume } from '../../src/docker/position.ts';
import { LocalLogBackend } from '../../src/logging/local-backend.ts';
import type { Json } from '../../src/logging/types.ts';
import { combine, type Rules, ruleSchema } from '../../src/shape/rules.ts';

// What a process that died still held must not come back.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** One line of a container's log; `gap` is the time since the line before, in ns, 0 for a coarse clock. */
const entry = fc.record({
  stream: fc.constantFrom<LogStream>('out', 'err'),
  gap: fc.constantFrom(0, 1, 20_000_000_000),
  text: fc.constantFrom(
    '{"a":1}',
    'plain',
    '\tindented',
    'panic: x',
    'Traceback (most recent call last):',
    '',
  ),
});

interface Written {
  stream: LogStream;
  nanos: string;
  message: string;
}

interface Life {
  /** After how many new lines it dies; without, it ends in order. */
  reads?: number;
  rules?: Rules;
}

function passOver(cursor: LogCursor): Pass {
  return {
    isFollowed: false,
    isRotated: false,
    lines: new LineReader(),
    resume: new Resume(cursor.current),
    newLines: 0,
    newBytes: 0,
    isDoubtful: false,
    isGapTold: false,
  };
}

function lineOf({ stream, nanos, message }: Written): LogLine {
  const source = Buffer.from(message);
  const end = source.length;
  return { stream, nanos, ms: 0, source, start: 0, end, cutBytes: 0, isUnfinished: false };
}

/** One life of the agent: reads on from what was saved, and dies with lines still held. */
function live(
  log: Written[],
  saved: Json | undefined,
  got: Written[],
  { reads, rules }: Life,
): Json | undefined {
  let position = saved;
  const cursor = new LogCursor({
    container: { id: 'c'.repeat(64), name: 'web', labels: {} },
    saved,
    rules,
    startMs: () => 0,
    deliver: ({ message, isStdErr }, { value }) => {
      got.push({ stream: isStdErr ? 'err' : 'out', nanos: '', message });
      position = JSON.parse(JSON.stringify(value)) as Json;
    },
  });
  const { since } = cursor.resumePoint(10_000_000, 0);
  const pass = passOver(cursor);
  for (const line of log.filter(({ nanos }) => nanos >= since)) {
    if (reads !== undefined && pass.newLines >= reads) return position;
    cursor.take(lineOf(line), pass);
  }
  void cursor.flush();
  return position;
}

test('a process that dies with lines held: they are read again, and no other line is', () => {
  fc.assert(
    fc.property(
      fc.array(entry, { maxLength: 30 }),
      fc.array(fc.nat(12), { maxLength: 5 }),
      fc.constantFrom(undefined, combine([ruleSchema.parse({ drop: ['^plain', 'indented 7'] })])),
      (entries, lives, rules) => {
        let nanos = 1_000_000_000;
        const log = entries.map(({ stream, gap, text }, i): Written => {
          nanos += gap;
          return {
            stream,
            nanos: String(nanos).padStart(19, '0'),
            message: `${text}${text === '' ? '' : ` ${i}`}`,
          };
        });
        const got: Written[] = [];
        let saved: Json | undefined;
        for (const reads of lives) saved = live(log, saved, got, { reads, rules });
        live(log, saved, got, { rules });
        const whole: Written[] = [];
        live(log, undefined, whole, { rules });
        for (const stream of ['out', 'err']) {
          const of = (lines: Written[]) =>
            lines.filter((line) => line.stream === stream).map((line) => line.message);
          expect(of(got)).toEqual(of(whole));
          if (!rules) expect(of(got).join('\n')).toBe(of(log).join('\n'));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('where rules drop everything, the position is saved all the same, now and then', async () => {
  await using backend = new LocalLogBackend();
  const rules = combine([ruleSchema.parse({ minLevel: 'error' })]);
  const container = { id: 'c'.repeat(64), name: 'web', labels: {} };
  const cursor = new LogCursor({
    ...{ container, saved: undefined, rules, startMs: () => 0 },
    deliver: () => {
      throw new Error('nothing is to be handed on');
    },
    move: (position) => backend.move(position),
  });
  const pass = passOver(cursor);
  const write = (i: number) =>
    cursor.take(
      lineOf({ stream: 'out', nanos: String(i).padStart(19, '0'), message: '{"level":"info"}' }),
      pass,
    );
  const saved = async () => {
    await backend.journal.flush();
    return backend.position(cursor.key);
  };
  vi.useRealTimers();
  vi.useFakeTimers({ toFake: ['performance'] });
  write(1);
  expect(await saved()).toBeUndefined();
  vi.advanceTimersByTime(10_000);
  for (let i = 2; i <= 5; i++) write(i);
  expect(await saved()).toMatchObject({ out: { last: '2'.padStart(19, '0') } });
});
