import { describe, expect, test } from 'vitest';
import { type ErrorCode, errorCatalogue, errorText, MillraceError } from '../../src/index.ts';

const codes = Object.keys(errorCatalogue) as ErrorCode[];

describe.each(codes)('%s', (code) => {
  const entry = errorCatalogue[code];

  test('has a code, a status, a title and an action that a person can follow', () => {
    expect(code).toMatch(/^[A-Z]+(_[A-Z]+)*$/);
    expect(entry.status).toBeGreaterThanOrEqual(400);
    expect(entry.status).toBeLessThan(600);
    expect(entry.title).toMatch(/^[A-Z].*[^.]$/);
    expect(entry.action).toMatch(/^[A-Z].*\.$/);
  });

  test('says in its message what happened and what to do', () => {
    const cause = new Error('why');
    const error = new MillraceError(code, 'the thing broke', { cause });
    expect(error.message).toBe(`${code}: the thing broke. ${entry.action}`);
    expect(error).toMatchObject({
      name: 'MillraceError',
      code,
      detail: 'the thing broke',
      status: entry.status,
      cause,
    });
    expect(error.toProblem()).toEqual({
      type: `urn:millrace:error:${code}`,
      title: entry.title,
      status: entry.status,
      code,
      detail: 'the thing broke',
      action: entry.action,
    });
    expect(JSON.stringify(error.toProblem())).not.toContain('why');
  });
});

test('no two titles are the same', () => {
  const titles = codes.map((code) => errorCatalogue[code].title);
  expect(new Set(titles).size).toBe(titles.length);
});

test('errorText finds words for anything thrown', () => {
  expect(errorText(new Error('broken'))).toBe('broken');
  expect(errorText(Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' }))).toBe('ECONNREFUSED');
  expect(errorText(new TypeError())).toBe('TypeError');
  expect(errorText('text')).toBe('text');
  expect(errorText(undefined)).toBe('undefined');
});
