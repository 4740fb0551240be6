import { MillraceError } from '@millrace/wire';
import { expect, test } from 'vitest';
import { searchQuery, tailQuery } from '../../src/http/parameters.ts';
import { validate } from '../../src/http/validation.ts';

const check = validate({ schema: searchQuery, method: 'GET', url: '/', httpPart: 'querystring' });
const run = (query: unknown) => check(query) as { value?: unknown; error?: Error };

test('defaults and all parameters', () => {
  expect(run({}).value).toEqual({ limit: 100, order: 'desc' });
  expect(
    run({
      device: 'd',
      service: 'web',
      level: 'warn+',
      stream: 'stderr',
      text: ['connection  refused', 'x'],
      since: '0',
      until: '5',
      limit: '10000',
      order: 'asc',
      cursor: 'c',
    }).value,
  ).toEqual({
    device: 'd',
    service: 'web',
    level: ['warn', 'error'],
    stream: 'stderr',
    text: ['connection', 'refused', 'x'],
    since: 0,
    until: 5,
    limit: 10_000,
    order: 'asc',
    cursor: 'c',
  });
});

test.each<[Record<string, unknown>, RegExp]>([
  [{ limit: '0' }, /^limit: must be a number from 1 to 10000$/],
  [{ limit: '10001' }, /^limit:/],
  [{ limit: 'ten' }, /^limit:/],
  [{ limit: '1e3' }, /^limit:/],
  [{ level: 'loud' }, /^level: must be levels of debug, info, warn, error/],
  [{ level: 'warn-' }, /^level:/],
  [{ stream: 'stdin' }, /^stream: must be stdout or stderr$/],
  [{ since: 'yesterday' }, /^since: must be ms since 1970/],
  [{ until: '-1' }, /^until:/],
  [{ order: 'up' }, /^order: must be asc or desc$/],
  [{ device: ['a', 'b'] }, /^device: must be given once/],
  [{ cursor: 'x'.repeat(1001) }, /^cursor:/],
  [{ text: 'x'.repeat(1001) }, /^text:/],
  [{ text: Array(21).fill('x') }, /^text:/],
  [{ servce: 'web' }, /^"servce": no such parameter \(there are device, service, level/],
  [{ limit: '0', order: 'up' }, /^limit: .*; order: /],
])('%j is refused by name', (query, message) => {
  const { error } = run(query);
  expect(error).toBeInstanceOf(MillraceError);
  expect((error as MillraceError).code).toBe('PARAMETER_INVALID');
  expect((error as MillraceError).detail).toMatch(message);
});

test('the tail knows no times and no limit', () => {
  const tail = validate({ schema: tailQuery, method: 'GET', url: '/', httpPart: 'querystring' });
  expect((tail({ since: '1h' }) as { error: Error }).error.message).toMatch(/"since": no such parameter/);
});
