import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PatternMiner } from '../../src/patterns/miner.ts';

function mine(texts: readonly string[]): [string, number][] {
  const miner = new PatternMiner<number>();
  for (const [i, text] of texts.entries()) miner.add(text, 1, i);
  return miner.patterns().map(({ text, lines }) => [text, lines]);
}

test.each<[string, string[], [string, number][]]>([
  [
    'a word that differs becomes a wildcard',
    ['user jane logged in', 'user bob logged in', 'user carol logged in'],
    [['user <*> logged in', 3]],
  ],
  [
    'what has too little in common stays apart',
    ['login ok', 'login failed', 'GET / took <*> ms', 'PUT / took <*> ms'],
    [
      ['GET / took <*> ms', 1],
      ['PUT / took <*> ms', 1],
      ['login failed', 1],
      ['login ok', 1],
    ],
  ],
  [
    'wildcards alone make no two messages alike',
    ['cpu <*> <*> <*> <*> idle', 'cpu <*> <*> <*> <*> busy'],
    [
      ['cpu <*> <*> <*> <*> busy', 1],
      ['cpu <*> <*> <*> <*> idle', 1],
    ],
  ],
  [
    'punctuation separates values, and has to be the same',
    ['msg="done" user=jane took=<*>ms', 'msg="done" user=bob took=<*>ms', 'msg="done", user=bob took=<*>ms'],
    [
      ['msg="done" user=<*> took=<*>ms', 2],
      ['msg="done", user=bob took=<*>ms', 1],
    ],
  ],
  ['blanks count as one, wherever they are', ['  a   b\tc d', ' a b c e'], [[' a b c <*>', 2]]],
  [
    'a pattern that grew into another is one with it',
    ['a b c d e', '<*> b c d e', 'x'],
    [
      ['<*> b c d e', 1],
      ['a b c d e', 1],
      ['x', 1],
    ],
  ],
  ['an empty message is a pattern, too', ['', ''], [['', 2]]],
])('%s', (_name, texts, expected) => {
  expect(mine(texts)).toEqual(expected);
});

test('two patterns that come to read the same are one', () => {
  // The first word is told apart for a hundred words, and no further.
  const texts = Array.from(
    { length: 150 },
    (_, i) => `${String.fromCharCode(97 + (i % 26), 97 + Math.floor(i / 26))} came by again today`,
  );
  const patterns = mine(texts);
  expect(patterns[0]).toEqual(['<*> came by again today', 50]);
  expect(patterns).toHaveLength(101);
});

test('however many words differ, patterns are bounded', () => {
  const texts = Array.from(
    { length: 3000 },
    (_, i) => `job x${i.toString(26).replace(/\d/g, 'z')} q${(i * 7).toString(26).replace(/\d/g, 'y')}`,
  );
  const patterns = mine(texts);
  expect(patterns.length).toBeLessThanOrEqual(200);
  expect(patterns.reduce((sum, [, lines]) => sum + lines, 0)).toBe(3000);
});

test('a long message is cut at its eightieth word', () => {
  const words = Array.from({ length: 200 }, () => 'word').join(' ');
  expect(mine([words, `${words} and more`])).toEqual([
    [`${Array.from({ length: 80 }, () => 'word').join(' ')} …`, 2],
  ]);
});

test('every line is in one pattern, which it fits', () => {
  const word = fc.constantFrom('a', 'b', 'c', 'dd', '<*>', 'x<*>', '…');
  const gap = fc.constantFrom(' ', '  ', '=', ', ', '"');
  const message = fc.array(fc.tuple(gap, word), { maxLength: 6 }).map((parts) => parts.flat().join(''));
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 60 }), (messages) => {
      const miner = new PatternMiner<string>();
      for (const one of messages) miner.add(one, 1, one);
      const patterns = miner.patterns();
      expect(patterns.flatMap(({ members }) => members).sort()).toEqual([...messages].sort());
      expect(new Set(patterns.map(({ text }) => text)).size).toBe(patterns.length);
      for (const { text, lines, members } of patterns) {
        expect(lines).toBe(members.length);
        const fits = new RegExp(`^${text.split('<*>').map(RegExp.escape).join('[^\\s=,"]*')}$`);
        for (const member of members) expect(member.replace(/\s+/g, ' ')).toMatch(fits);
      }
    }),
  );
});
