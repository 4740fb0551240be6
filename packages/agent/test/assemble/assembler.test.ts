import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import {
  type AssembledLine,
  Assembler,
  lingerMs,
  type Multiline,
  maxGroupBytes,
  maxGroupLines,
  maxGroupMs,
  traceMs,
} from '../../src/assemble/assembler.ts';
import { levelOf } from '../../src/classify/level.ts';
import { apart, singles, traces } from './traces.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** An assembler and what it released; a line's mark is its number. */
function assembling(multiline: Multiline = 'traces') {
  const released: AssembledLine<number>[] = [];
  const assembler = new Assembler<number>({ multiline, release: (line) => void released.push(line) });
  let number = 0;
  return {
    released,
    flush: () => assembler.flush(),
    push(text: string, stream: 'out' | 'err' = 'out') {
      const bytes = Buffer.from(`\t${text}\t`);
      const end = bytes.length - 1;
      const level = levelOf(bytes, 1, end);
      number++;
      const line = { stream, message: text, timestampMs: number, level, mark: number };
      return assembler.push(line, bytes, 1, end);
    },
    messages: () => released.map(({ message }) => message),
  };
}

test.each(Object.entries(traces))('one message: %s', (_, trace) => {
  const { push, flush, messages, released } = assembling();
  push('before');
  for (const line of trace.split('\n')) push(line);
  push('after');
  flush();
  expect(messages()).toEqual(['before', trace, 'after']);
  const lines = trace.split('\n').length;
  expect(released[1]).toMatchObject({ timestampMs: 2, mark: 1 + lines });
});

test.each(Object.entries(traces))('what follows is not drawn in: %s', (_, trace) => {
  for (const single of singles) {
    const { push, flush, messages } = assembling();
    for (const line of [...trace.split('\n'), single, single]) push(line);
    flush();
    expect(messages()).toEqual([trace, single, single]);
  }
});

test.each(Object.entries(apart))('messages of their own: %s', (_, lines) => {
  for (const isLate of [false, true]) {
    const { push, flush, messages, released } = assembling();
    for (const line of lines.join('\n').split('\n')) push(line);
    if (isLate) vi.advanceTimersByTime(maxGroupMs);
    else flush();
    expect(messages()).toEqual(lines);
    const marks = released.map(({ mark }) => mark);
    expect(marks).toEqual(marks.toSorted((a, b) => a - b));
    expect(vi.getTimerCount()).toBe(0);
  }
});

test('the same trace twice is two messages, and two streams do not mix', () => {
  for (const trace of Object.values(traces)) {
    const { push, flush, released } = assembling();
    for (const line of [...trace.split('\n'), 'between', ...trace.split('\n')]) {
      push(line, 'err');
      push(line, 'out');
    }
    flush();
    for (const stream of ['out', 'err']) {
      const messages = released.filter((line) => line.stream === stream).map(({ message }) => message);
      expect(messages).toEqual([trace, 'between', trace]);
    }
  }
});

test('a trace without a level of its own is an error; others keep theirs', () => {
  const levels = (lines: string[]) => {
    const { push, flush, released } = assembling();
    for (const line of lines) push(line);
    flush();
    return released.map(({ level }) => level);
  };
  expect(levels((traces.node as string).split('\n'))).toEqual(['error']);
  expect(levels((traces['java alone'] as string).split('\n'))).toEqual(['error']);
  expect(levels((traces['go http'] as string).split('\n'))).toEqual(['error']);
  expect(levels((traces['node behind text'] as string).split('\n'))).toEqual(['error']);
  for (const frame of ['at a.B.c(B.java:3)', 'at A.B(String[] args)', 'at A.B() in C.cs:line 3', 'at f:12']) {
    expect(levels(['Failed:', `   ${frame}`])).toEqual(['error']);
  }
  expect(levels(['Today:', '  at 12 (room 3)', '  at noon', '  at 12'])).toEqual([undefined]);
  expect(levels((traces['java.util.logging'] as string).split('\n'))).toEqual(['warn']);
  expect(levels((traces['asp.net info'] as string).split('\n'))).toEqual(['info']);
  expect(levels(['WARN slow', '\tat com.example.Main.main(Main.java:5)'])).toEqual(['warn']);
  expect(levels(['Configuration:', '  port: 8080'])).toEqual([undefined]);
});

test('JSON is never held; other lines for a moment, traces a little longer', () => {
  const { push, messages } = assembling();
  push('{"level":"info"}');
  expect(messages()).toEqual(['{"level":"info"}']);
  push('plain');
  vi.advanceTimersByTime(lingerMs - 2);
  expect(messages()).toHaveLength(1);
  vi.advanceTimersByTime(2);
  expect(messages()).toHaveLength(2);
  push('panic: x');
  vi.advanceTimersByTime(traceMs - 2);
  push('');
  vi.advanceTimersByTime(traceMs - 2);
  expect(messages()).toHaveLength(2);
  vi.advanceTimersByTime(2);
  expect(messages().at(-1)).toBe('panic: x\n');
});

test('a trace that goes on and on is cut by time, by lines and by bytes, and no line is missing', () => {
  const slow = assembling();
  slow.push('panic: x');
  for (let i = 0; i < 60; i++) {
    slow.push(`\tframe ${i}`);
    vi.advanceTimersByTime(50);
  }
  slow.flush();
  expect(slow.released.length).toBeGreaterThan(2);
  expect(slow.released.length).toBeLessThan(3 + (60 * 50) / (maxGroupMs - traceMs));
  expect(slow.messages().join('\n').split('\n')).toHaveLength(61);

  const long = assembling();
  long.push('panic: x');
  for (let i = 0; i < 2 * maxGroupLines; i++) long.push(`\tframe ${i}`);
  long.flush();
  expect(long.messages().map((message) => message.split('\n').length)).toEqual([
    maxGroupLines,
    maxGroupLines,
    1,
  ]);
  expect(long.released.every(({ level }) => level === 'error')).toBe(true);

  const wide = assembling();
  wide.push('panic: x');
  for (let i = 0; i < 10; i++) wide.push(`\t${'x'.repeat(maxGroupBytes / 4)}`);
  wide.flush();
  for (const message of wide.messages())
    expect(Buffer.byteLength(message)).toBeLessThanOrEqual(maxGroupBytes);
  expect(wide.messages().join('\n').split('\n')).toHaveLength(11);

  const wideMessage = assembling();
  wideMessage.push('Error: x');
  for (let i = 0; i < 4; i++) wideMessage.push('y'.repeat(maxGroupBytes / 4));
  wideMessage.push('    at f (/a.js:1:2)');
  wideMessage.flush();
  for (const message of wideMessage.messages())
    expect(Buffer.byteLength(message)).toBeLessThanOrEqual(maxGroupBytes);
  expect(wideMessage.messages().join('\n').split('\n')).toHaveLength(6);
});

test('off: every line for itself, at once', () => {
  const { push, messages } = assembling('off');
  const lines = Object.values(traces).join('\n').split('\n');
  for (const line of lines) push(line);
  expect(messages()).toEqual(lines);
});

test('by the start of a message: everything up to the next one belongs to it', () => {
  const { push, messages } = assembling({ startsMessage: (line) => line.startsWith('>>') });
  for (const line of ['lost', '>> one', 'more', '{"a":1}', '>> two']) push(line);
  vi.advanceTimersByTime(traceMs + 1);
  expect(messages()).toEqual(['lost', '>> one\nmore\n{"a":1}', '>> two']);
});

test('while the receiver is busy no timer hands on more', async () => {
  const gate = Promise.withResolvers<void>();
  const released: string[] = [];
  const assembler = new Assembler<number>({
    multiline: 'traces',
    release: ({ message }) => {
      released.push(message);
      return gate.promise;
    },
  });
  const line = (message: string) => {
    const bytes = Buffer.from(message);
    return assembler.push(
      { stream: 'out', message, timestampMs: 0, level: undefined, mark: 0 },
      bytes,
      0,
      bytes.length,
    );
  };
  line('one');
  const taken = line('two');
  vi.advanceTimersByTime(1000);
  expect(released).toEqual(['one']);
  gate.resolve();
  await taken;
  vi.advanceTimersByTime(1000);
  expect(released).toEqual(['one', 'two']);
});

test('whatever comes when: each stream has its lines once and in order, and marks only grow', () => {
  const any = fc.constantFrom(...Object.values(traces).join('\n').split('\n'), ...singles);
  // What most often leaves lines in doubt.
  const doubtful = fc.constantFrom('Error: x', 'second', '', '  third', '\tat a.B.c(B.java:5)', 'panic: x');
  const text = fc.oneof(any, doubtful);
  const step = fc.record({
    text,
    stream: fc.constantFrom('out' as const, 'err' as const),
    pauseMs: fc.constantFrom(0, 0, 0, 1, lingerMs, traceMs, maxGroupMs),
  });
  const multiline = fc.constantFrom<Multiline>('traces', 'off', {
    startsMessage: (line) => line.length > 20,
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), multiline, (steps, how) => {
      const { push, flush, released } = assembling(how);
      for (const { text: line, stream, pauseMs } of steps) {
        push(line, stream);
        vi.advanceTimersByTime(pauseMs);
      }
      flush();
      for (const stream of ['out', 'err'] as const) {
        const mine = released.filter((line) => line.stream === stream);
        const texts = steps.filter((line) => line.stream === stream).map((line) => line.text);
        expect(mine.map(({ message }) => message).join('\n')).toBe(texts.join('\n'));
        const marks = mine.map(({ mark }) => mark);
        expect(marks).toEqual(marks.toSorted((a, b) => a - b));
      }
      expect(vi.getTimerCount()).toBe(0);
    }),
    { numRuns: 300 },
  );
});
