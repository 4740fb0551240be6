import { PassThrough } from 'node:stream';
import { MillraceError } from '@millrace/wire';
import { expect, test } from 'vitest';
import { errorReport } from '../../src/terminal/error-report.ts';
import { programLog } from '../../src/terminal/program-log.ts';

function output(isTTY: boolean): PassThrough & { isTTY: boolean; text: () => string } {
  const stream = new PassThrough();
  return Object.assign(stream, { isTTY, text: () => String(stream.read() ?? '') });
}

test('a terminal gets lines for people', () => {
  const stream = output(true);
  const log = programLog(stream, { NO_COLOR: '1' }).child({ program: 'agent' });
  log.warn({ lines: 3, err: new Error('broken') }, 'two\nlines \x1b[2J');
  expect(stream.text()).toMatch(
    /^\d\d:\d\d:\d\d\.\d{3} warn {2}agent two\\nlines \\x1b\[2J lines=3 error=broken\n$/,
  );
});

test('a terminal gets colours unless NO_COLOR says otherwise', () => {
  const stream = output(true);
  programLog(stream, {}).error('m');
  expect(stream.text()).toContain('\x1b[31merror\x1b[0m');
});

test('a pipe gets one JSON object per line', () => {
  const stream = output(false);
  programLog(stream, {}).info({ a: 1 }, 'hello');
  expect(JSON.parse(stream.text())).toEqual({ level: 'info', time: expect.any(Number), a: 1, msg: 'hello' });
});

test('LOG_LEVEL decides how much, and a wrong one is told by name', () => {
  const stream = output(false);
  programLog(stream, { LOG_LEVEL: 'warn' }).info('quiet');
  expect(stream.text()).toBe('');
  expect(() => programLog(stream, { LOG_LEVEL: 'loud' })).toThrow(/LOG_LEVEL="loud": must be one of trace/);
});

test('an error of ours is told as what it is, what happened and what to do', () => {
  const error = new MillraceError('CONFIG_INVALID', 'A="1": wrong | B="2": also wrong');
  expect(errorReport(error, {}, {})).toBe(
    'millrace: A setting has a wrong value (CONFIG_INVALID)\n  A="1": wrong\n  B="2": also wrong\n  Correct the value and start again.\n',
  );
});

test('an error that nobody foresaw keeps its stack', () => {
  expect(errorReport(new TypeError('odd'), {}, {})).toMatch(/^millrace: TypeError: odd\n {4}at /);
  expect(errorReport('text', {}, {})).toBe('millrace: text\n');
});
