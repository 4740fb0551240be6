import type { Level } from '@millrace/wire';

/**
 * The words that loggers use for levels, in lower case. More than `parseLevel` knows, which reads values that were
 * given as levels: these are looked for in text, so each must be a word that stands for nothing else there.
 */
const words: Readonly<Record<Level, readonly string[]>> = {
  debug: [
    ...['trace', 'trc', 'trce', 'trac', 'verbose', 'vrb', 'debug', 'dbg', 'dbug', 'debu'],
    ...['fine', 'finer', 'finest', 'silly'],
  ],
  info: ['info', 'inf', 'information', 'informational', 'notice', 'note', 'log', 'config'],
  warn: ['warn', 'warning', 'wrn', 'deprecated'],
  error: [
    ...[
      'err',
      'erro',
      'eror',
      'error',
      'fail',
      'severe',
      'crit',
      'critical',
      'crt',
      'alert',
      'alrt',
      'emerg',
    ],
    ...['emergency', 'fatal', 'fata', 'ftl', 'panic', 'pani', 'pnc', 'dpanic'],
  ],
};

/** Most letters of a word above. */
const maxLetters = 13;

/** An open hash table, sparse enough that most lookups take one step. */
const slotBits = 9;
const slots = 1 << slotBits;
const heads = new Int32Array(slots);
const tails = new Int32Array(slots);
const slotLevels: (Level | undefined)[] = new Array(slots).fill(undefined);

/**
 * The word that was read last, see {@link readWord}. One for the process: reading is never interleaved, and an
 * object for each word would be most of the garbage of classifying a line.
 */
export const word = {
  /** Behind its last letter. */
  end: 0,
  letters: 0,
  /** Its first six letters, five bits each, and those behind them. */
  head: 0,
  tail: 0,
  /** How many of the letters are capitals. */
  capitals: 0,
};

/** Reads the letters A–Z in any case from `at` on, into {@link word}. */
export function readWord(bytes: Buffer, at: number, end: number): void {
  let head = 0;
  let tail = 0;
  let capitals = 0;
  let i = at;
  for (; i < end; i++) {
    const byte = bytes[i] as number;
    const lower = byte | 0x20;
    if (lower < 0x61 || lower > 0x7a) break;
    if (byte < 0x61) capitals++;
    // Letters past the thirteenth fall out at the top; the count tells such words from all of ours.
    if (i - at < 6) head = (head << 5) | (byte & 31);
    else tail = (tail << 5) | (byte & 31);
  }
  word.end = i;
  word.letters = i - at;
  word.head = head;
  word.tail = tail;
  word.capitals = capitals;
}

/** The level that the word read last stands for. */
export function wordLevel(): Level | undefined {
  const { letters, head, tail } = word;
  if (letters < 3 || letters > maxLetters) return undefined;
  for (let slot = slotOf(head, tail); ; slot = (slot + 1) & (slots - 1)) {
    if (heads[slot] === head && tails[slot] === tail) return slotLevels[slot];
    if (heads[slot] === 0) return undefined;
  }
}

/** The packed form of a word of up to six letters, to compare `word.head` with. */
export function packed(text: string): number {
  let head = 0;
  for (const char of text) head = (head << 5) | (char.charCodeAt(0) & 31);
  return head;
}

function slotOf(head: number, tail: number): number {
  return Math.imul(head ^ Math.imul(tail, 0x9e3779b1), 0x85ebca6b) >>> (32 - slotBits);
}

for (const [level, ofLevel] of Object.entries(words)) {
  for (const text of ofLevel) {
    const head = packed(text.slice(0, 6));
    const tail = packed(text.slice(6));
    let slot = slotOf(head, tail);
    while (heads[slot] !== 0) slot = (slot + 1) & (slots - 1);
    heads[slot] = head;
    tails[slot] = tail;
    slotLevels[slot] = level as Level;
  }
}
