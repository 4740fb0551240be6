import type { LogInput } from '@millrace/wire';
import { expect, test } from 'vitest';
import type { SourcePosition } from '../../src/logging/types.ts';
import { type Rule, ruleSchema } from '../../src/shape/rules.ts';
import { ShapedTaker } from '../../src/shape/shaped-taker.ts';

function taking(...rules: Parameters<typeof ruleSchema.parse>[0][]) {
  const source: { rules: readonly Rule[] } = { rules: rules.map((rule) => ruleSchema.parse(rule)) };
  const lines: LogInput[] = [];
  const saved: (SourcePosition | undefined)[] = [];
  const taker = new ShapedTaker({
    taker: {
      log: (line, position) => {
        lines.push(line);
        saved.push(position);
      },
      move: (position) => {
        saved.push(position);
      },
    },
    rules: source,
  });
  const messages = () => lines.map(({ message }) => message);
  return { source, taker, lines, messages, saved };
}

const at = (n: number, key = 'file:1') => ({ key, value: n });

test('a level is looked for where the source knows none', () => {
  const { taker, lines } = taking();
  taker.log({ message: 'level=warn msg=x' });
  taker.log({ message: '{"level":"error"}', level: 'info' });
  taker.log({ message: 'nothing' });
  expect(lines.map(({ level }) => level)).toEqual(['warn', 'info', undefined]);
});

test('rules for all and for one service hold, and others pass as they came', async () => {
  const { taker, lines, messages, saved } = taking(
    { redact: ['email'] },
    { service: 'noisy', minLevel: 'warn' },
    { container: '*', drop: ['.'] },
  );
  taker.log({ message: 'from ann@example.com', serviceName: 'app', fields: { a: 1 } }, at(1));
  taker.log({ message: 'dropped', source: { type: 'system', name: 'noisy' } }, at(2));
  expect(lines).toMatchObject([{ message: 'from [email]', serviceName: 'app', fields: { a: 1 } }]);
  expect(saved).toEqual([at(1)]);
  // What was dropped last is not read again after an orderly end.
  await taker.flush();
  expect(saved).toEqual([at(1), at(2)]);
  expect(messages()).toHaveLength(1);
  expect(taker.drops).toEqual({ level: 1, pattern: 0, repeat: 0, rate: 0 });
});

test('a summary is saved with the place behind the newest line, and no line takes it back', () => {
  const { taker, messages, saved } = taking({ service: 'a', collapseRepeats: true });
  for (const n of [1, 2, 3]) taker.log({ message: 'same', serviceName: 'a' }, at(n));
  taker.log({ message: 'other', serviceName: 'b' }, at(4));
  taker.log({ message: 'end', serviceName: 'a' }, at(5));
  expect(messages()).toEqual(['same', 'other', 'last message repeated 2 times', 'end']);
  const places = saved.flatMap((position) => (position ? [position.value as number] : []));
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(places.at(-1)).toBe(5);
});

test('what a source says of a line stands beside the fields of its message, redacted as that is', () => {
  const { taker, lines } = taking({ service: 'a', redact: ['email'] });
  const fields = { file: '/var/log/a.log' };
  taker.log({ message: '{"mail":"ann@example.com","n":1}', serviceName: 'a', fields });
  taker.log({ message: '{"n":2,"file":"other"}', serviceName: 'b', fields });
  taker.log({ message: '{"n":3}', serviceName: 'b' });
  expect(lines.map((line) => line.fields)).toEqual([
    { mail: '[email]', n: 1, file: '/var/log/a.log' },
    { n: 2, file: '/var/log/a.log' },
    undefined,
  ]);
});

test('what is to be redacted is so in what a source says of a line, too', () => {
  const { taker, lines } = taking({ redact: ['email', { pattern: 'pin=\\d+' }] });
  const fields = { host: 'h', pid: 7, 'ex@1': { user: 'ann@example.com', list: ['pin=12', 3, null] } };
  taker.log({ message: 'm', serviceName: 'a', fields });
  expect(lines[0]?.fields).toEqual({
    ...{ host: 'h', pid: 7 },
    'ex@1': { user: '[email]', list: ['[redacted]', 3, null] },
  });
});

test('changed rules hold for the next line', async () => {
  const { source, taker, messages } = taking();
  taker.log({ message: 'ann@example.com', serviceName: 'a' });
  source.rules = [ruleSchema.parse({ redact: ['email'] })];
  await taker.reshape();
  taker.log({ message: 'ann@example.com', serviceName: 'a' });
  expect(messages()).toEqual(['ann@example.com', '[email]']);
});
