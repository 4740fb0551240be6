import type { StoredLine } from '@millrace/wire';
import { expect, test } from 'vitest';
import { formatLine } from '../../src/logs/format.ts';

// biome-ignore lint/suspicious/noControlCharactersInRegex: a colour begins with one
const colours = /\u001b\[[0-9;]*m/g;

const line = {
  id: 'journal00-1',
  device: 'kitchen',
  message: 'it broke\n\tat a.B.c\u001b[2J\n2026-01-01 forged',
  timestamp: Date.UTC(2026, 0, 1),
  level: 'error',
  source: { type: 'container', name: 'web' },
  isStdErr: true,
  isSystem: false,
} as StoredLine;

test('a trace is shown over several lines on a terminal, each behind a bar, and on one line in a pipe', () => {
  const shown = formatLine(line, { json: false, colourful: true }).replace(colours, '');
  const [first, ...rest] = shown.split('\n');
  expect(first).toMatch(/ kitchen web error it broke$/);
  expect(rest).toEqual(['│ \tat a.B.c\\x1b[2J', '│ 2026-01-01 forged', '']);
  const piped = formatLine(line, { json: false, colourful: false });
  expect(piped).toMatch(/ web error it broke\\n\tat a\.B\.c\\x1b\[2J\\n2026-01-01 forged\n$/);
  expect(JSON.parse(formatLine(line, { json: true, colourful: true }))).toEqual(line);
});
