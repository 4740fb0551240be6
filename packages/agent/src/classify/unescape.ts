import { maxHeadBytes } from './text-level.ts';

/** The last result of {@link unescapeHead}; one for the process, see `word`. */
const head = { bytes: Buffer.alloc(maxHeadBytes), length: 0 };

/**
 * The beginning of a JSON string's contents without its escapes: as much as {@link textLevel} looks at. Characters
 * above ASCII that are escaped become a byte that is none of text. Valid until the next call.
 */
export function unescapeHead(source: Buffer, start: number, end: number): Readonly<typeof head> {
  const { bytes } = head;
  let length = 0;
  for (let i = start; i < end && length < maxHeadBytes; length++) {
    const byte = source[i] as number;
    if (byte !== 0x5c) {
      bytes[length] = byte;
      i++;
      continue;
    }
    const escaped = source[i + 1] as number;
    if (escaped === 0x75) {
      bytes[length] = hexByte(source, i + 2);
      i += 6;
    } else {
      bytes[length] = controls[escaped] ?? escaped;
      i += 2;
    }
  }
  head.length = length;
  return head;
}

/**
 * All of a JSON string's contents without its escapes. A character above ASCII that is escaped becomes as many bytes as
 * UTF-8 has for it, none of text. Returns the length in `target`, or -1 when it does not fit for certain.
 */
export function unescapeInto(target: Buffer, source: Buffer, start: number, end: number): number {
  if (end - start > target.length) return -1;
  let length = 0;
  for (let i = start; i < end; ) {
    const byte = source[i] as number;
    if (byte !== 0x5c) {
      target[length++] = byte;
      i++;
      continue;
    }
    const escaped = source[i + 1] as number;
    if (escaped === 0x75) {
      const value = hexByte(source, i + 2);
      target[length++] = value;
      if (value === 0x80) target[length++] = target[length++] = value;
      i += 6;
    } else {
      target[length++] = controls[escaped] ?? escaped;
      i += 2;
    }
  }
  return length;
}

/** b, f, n, r, t. */
const controls: Readonly<Record<number, number>> = { 98: 8, 102: 12, 110: 10, 114: 13, 116: 9 };

function hexByte(source: Buffer, at: number): number {
  let value = 0;
  for (let i = at; i < at + 4; i++) {
    const byte = (source[i] ?? 0) | 0x20;
    // The digits 0–9 have this bit set already.
    value = value * 16 + (byte >= 0x61 ? byte - 0x57 : byte - 0x30);
  }
  return value < 0x80 ? value : 0x80;
}
