import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { shapingOf } from '../../src/shape/container-shaping.ts';
import { parseShaping } from '../../src/shape/file.ts';

const page = readFileSync(new URL('../../../../docs/lines.md', import.meta.url), 'utf8');

test('the file in docs/lines.md can be used as it stands', () => {
  const [, yaml = ''] = /```yaml\n(.*?)```/s.exec(page) ?? [];
  const source = { rules: parseShaping(yaml, 'docs/lines.md') };
  const rulesOf = (name: string) => shapingOf({ id: 'x', name, labels: {} }, source).rules;
  expect(rulesOf('web-1')).toMatchObject({
    minLevel: 'info',
    redact: ['email', 'card'],
    rateLimit: { text: '100/s' },
  });
  expect(rulesOf('payments')?.redact).toHaveLength(6);
});

test('the labels in docs/lines.md are understood, with their examples', () => {
  const rows = [...page.matchAll(/^\| `(millrace\.[a-z-]+)` \| `([^`]+)` \|/gm)];
  expect(rows.map(([, label]) => label)).toHaveLength(8);
  const logged: unknown[] = [];
  const labels = Object.fromEntries(rows.map(([, label, example]) => [label, example]));
  const log = { error: (context: unknown) => logged.push(context) };
  const { rules } = shapingOf({ id: 'x', name: 'web', labels }, undefined, log as never);
  expect(logged).toEqual([]);
  expect(rules).toMatchObject({ minLevel: 'info', rateLimit: { text: '100/s' }, collapseRepeats: true });
  expect([rules?.drop.length, rules?.keep.length, rules?.redact.length]).toEqual([1, 1, 3]);
});
