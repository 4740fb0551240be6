import type { Level } from '@millrace/wire';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { AssembledLine } from '../../src/assemble/assembler.ts';
import { combine, ruleSchema } from '../../src/shape/rules.ts';
import { noDrops, Shaper, summaryMs } from '../../src/shape/shaper.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** A shaper by one rule; a line's mark is its number. */
function shaping(rule: object) {
  const rules = combine([ruleSchema.parse(rule)]);
  if (!rules) throw new Error('the rule says nothing');
  const lines: AssembledLine<number>[] = [];
  const skipped: number[] = [];
  const drops = noDrops();
  const shaper = new Shaper<number>({
    rules,
    drops,
    deliver: (line) => void lines.push(line),
    skip: ({ mark }) => void skipped.push(mark),
  });
  let mark = 0;
  const take = (message: string, options: { level?: Level; stream?: 'out' | 'err' } = {}) => {
    mark++;
    return shaper.take({
      stream: options.stream ?? 'out',
      message,
      timestampMs: 0,
      level: options.level,
      mark,
    });
  };
  return {
    take,
    flush: () => shaper.flush(),
    lines,
    skipped,
    drops,
    messages: () => lines.map((l) => l.message),
  };
}

test('the least level: what a line does not say, its stream does', () => {
  const { take, messages, drops, skipped } = shaping({ minLevel: 'warn' });
  take('a');
  take('b', { level: 'debug' });
  take('c', { level: 'warn' });
  take('d', { stream: 'err' });
  take('e', { stream: 'err', level: 'info' });
  expect(messages()).toEqual(['c', 'd']);
  expect(drops).toEqual({ level: 3, pattern: 0, repeat: 0, rate: 0 });
  expect(skipped).toEqual([1, 2, 5]);
});

test('patterns: what to drop counts before what to keep', () => {
  const { take, messages, drops } = shaping({ drop: ['(?i)health.?check'], keep: ['^GET', '^POST'] });
  for (const line of ['GET /', 'GET /HealthCheck', 'POST /', 'PUT /']) take(line);
  expect(messages()).toEqual(['GET /', 'POST /']);
  expect(drops.pattern).toBe(2);
});

test("redaction: by name and by patterns of one's own, all of them, in every line that is kept", () => {
  const redact = ['email', 'bearer', { pattern: 'ssn=\\d+', with: 'ssn=$1' }, { pattern: 'pin \\d{4}' }];
  const { take, messages } = shaping({ redact });
  take('a@b.de sent Bearer 12345678 ssn=123 ssn=4 pin 1234');
  expect(messages()).toEqual(['[email] sent Bearer [token] ssn=$1 ssn=$1 [redacted]']);
});

test('a pattern that would take other engines for ever takes no time', () => {
  const { take, messages } = shaping({ drop: ['^(a|a)*$', '(x+x+)+y'] });
  const since = process.hrtime.bigint();
  take(`${'a'.repeat(50_000)}b`);
  take('x'.repeat(50_000));
  expect(Number(process.hrtime.bigint() - since) / 1e6).toBeLessThan(2_000);
  expect(messages()).toHaveLength(2);
});

test('repeats: the first is shown, then how many more there were, per stream', () => {
  const { take, lines, messages, drops, flush } = shaping({ collapseRepeats: true });
  for (const message of ['a', 'a', 'a', 'b', 'b']) take(message);
  take('b', { stream: 'err' });
  flush();
  expect(messages()).toEqual([
    'a',
    'last message repeated 2 times',
    'b',
    'b',
    'last message repeated 1 time',
  ]);
  expect(lines.map(({ mark }) => mark)).toEqual([1, 3, 4, 6, 5]);
  expect(drops.repeat).toBe(3);
  take('b');
  vi.advanceTimersByTime(summaryMs - 1);
  expect(messages()).toHaveLength(5);
  vi.advanceTimersByTime(1);
  expect(messages().at(-1)).toBe('last message repeated 1 time');
});

test('what differs only in what is redacted is a repeat', () => {
  const { take, messages, flush } = shaping({ collapseRepeats: true, redact: ['email'] });
  take('mail to a@b.de');
  take('mail to c@d.de');
  flush();
  expect(messages()).toEqual(['mail to [email]', 'last message repeated 1 time']);
});

test('the rate: a burst of a whole period, then evenly; the summary counts every line that is missing', () => {
  const { take, lines, drops, flush } = shaping({ rateLimit: '10/s' });
  let written = 0;
  const write = (count: number) => {
    for (let i = 0; i < count; i++) take(`line ${++written}`);
  };
  write(100);
  expect(lines).toHaveLength(10);
  vi.advanceTimersByTime(500);
  write(100);
  expect(lines).toHaveLength(15);
  vi.advanceTimersByTime(summaryMs - 501);
  expect(lines).toHaveLength(15);
  vi.advanceTimersByTime(1);
  expect(lines.at(-1)).toMatchObject({
    message: 'dropped 185 lines: more than 10/s',
    level: 'warn',
    mark: 200,
  });
  expect(drops.rate).toBe(185);
  vi.advanceTimersByTime(60_000);
  write(11);
  flush();
  expect(lines.map(({ message }) => message).slice(-2)).toEqual([
    'line 210',
    'dropped 1 line: more than 10/s',
  ]);
  const summed = lines.flatMap(({ message }) => /^dropped (\d+)/.exec(message)?.[1] ?? []).map(Number);
  expect(lines.length - summed.length + summed.reduce((sum, n) => sum + n, 0)).toBe(written);
  expect(vi.getTimerCount()).toBe(0);
});

test('a summary that comes late does not move the mark back', () => {
  const { take, lines, flush } = shaping({ rateLimit: '1/s' });
  take('a');
  take('dropped');
  vi.advanceTimersByTime(1000);
  take('b');
  flush();
  expect(lines.map(({ mark }) => mark)).toEqual([1, 3, 3]);
});
