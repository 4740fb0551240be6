import fc from 'fast-check';

const printable = 0x7f - 0x20;

/** Those that can be printed first: fast-check prefers what is small, and shrinks to it. */
function nth(n: number): string {
  if (n < printable) return String.fromCodePoint(n + 0x20);
  if (n < 0x7f) return String.fromCodePoint(n - printable);
  return String.fromCodePoint(n < 0xd800 ? n : n + 0x800);
}

function placeOf(character: unknown): number {
  const code = typeof character === 'string' ? character.codePointAt(0) : undefined;
  if (code === undefined) throw new Error('no character');
  if (code >= 0xe000) return code - 0x800;
  if (code >= 0x7f) return code;
  return code >= 0x20 ? code - 0x20 : code + printable;
}

/**
 * Any one character that Unicode has room for, none of them half of a pair. As `fc.string({ unit: 'binary' })` has them,
 * whose table of a million characters takes a second to make in each process.
 */
export const anyCharacter = fc.integer({ min: 0, max: 0x10ffff - 0x800 }).map(nth, placeOf);
