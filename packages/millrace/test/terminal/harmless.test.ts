import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { anyCharacter } from '../../../../tests/support/text-arbitraries.ts';
import { harmless } from '../../src/terminal/harmless.ts';

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
const control = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029]/;
const esc = '\x1b';

test.each([
  ['plain text, tabs\tand ünïcode 😀', 'plain text, tabs\tand ünïcode 😀'],
  ['a\nb\rc', 'a\\nb\\rc'],
  [`${esc}[2J${esc}[H`, '\\x1b[2J\\x1b[H'],
  [`${esc}]0;title\x07`, '\\x1b]0;title\\x07'],
  ['\x9b31m\x85', '\\x9b31m\\x85'],
  ['file\u202egnp.exe', 'file\\u202egnp.exe'],
  ['\0\x08\x7f', '\\x00\\x08\\x7f'],
])('%j is shown as %j', (text, shown) => {
  expect(harmless(text)).toBe(shown);
  expect(harmless(text, { keepColours: true })).toBe(shown);
});

test('colours are kept on a terminal and end with the text, and dropped in a pipe', () => {
  const text = `${esc}[1;31mred${esc}[0m and ${esc}[38:5:1mmore`;
  expect(harmless(text, { keepColours: true })).toBe(`${text}${esc}[0m`);
  expect(harmless(text)).toBe('red and more');
});

test('whatever comes in, nothing that a terminal acts on goes out but colours', () => {
  const pieces = fc.oneof(
    fc.string({ unit: anyCharacter }),
    fc.constantFrom(esc, '[', '31m', `${esc}[`, `${esc}[0m`, `${esc}[1A`, ';', '\x9b', '\u2066', '\n'),
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 12 }), (texts) => {
      const text = texts.join('');
      expect(harmless(text)).not.toMatch(control);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: a colour begins with one
      expect(harmless(text, { keepColours: true }).replace(/\x1b\[[0-9;:]*m/g, '')).not.toMatch(control);
    }),
    { numRuns: 1000 },
  );
});
