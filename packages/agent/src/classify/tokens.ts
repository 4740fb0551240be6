/** The bytes that the head of a line is made of. All functions look at `bytes[at]` up to `end`, exclusive. */

export function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

export function isLetter(byte: number | undefined): boolean {
  const lower = (byte ?? 0) | 0x20;
  return lower >= 0x61 && lower <= 0x7a;
}

/** Behind the control sequence of a terminal that begins at `at`: ESC [ … letter. */
export function skipAnsi(bytes: Buffer, at: number, end: number): number {
  let i = at + 1;
  if (bytes[i] !== 0x5b) return i;
  for (i++; i < end; i++) {
    const byte = bytes[i] as number;
    if (byte >= 0x40 && byte <= 0x7e) return i + 1;
  }
  return end;
}

/** Behind spaces and control sequences. */
export function skipBlank(bytes: Buffer, from: number, end: number): number {
  let at = from;
  while (at < end) {
    const byte = bytes[at];
    if (byte === 0x20 || byte === 0x09) at++;
    else if (byte === 0x1b) at = skipAnsi(bytes, at, end);
    else break;
  }
  return at;
}

/** Behind the token at `at`: up to white space, a bar, a bracket, a backslash or a control sequence. */
export function tokenEnd(bytes: Buffer, from: number, end: number): number {
  let at = from;
  for (; at < end; at++) {
    const byte = bytes[at] as number;
    if (byte <= 0x20 || byte === 0x7c || byte === 0x5b || byte === 0x5c) break;
  }
  return at;
}

/** Where the bracket that opens at `at` closes; `end` when it does not. Brackets inside are not counted. */
export function bracketEnd(bytes: Buffer, from: number, end: number): number {
  const open = bytes[from];
  const close = open === 0x28 ? 0x29 : (open as number) + 2;
  for (let at = from + 1; at < end; at++) if (bytes[at] === close) return at;
  return end;
}

/** Behind the quoted text that begins at `from`, behind its quote. */
export function quotedEnd(bytes: Buffer, from: number, end: number): number {
  let at = from;
  while (at < end && bytes[at] !== 0x22) at += bytes[at] === 0x5c ? 2 : 1;
  return at + 1;
}

/** Where the key of a pair `key=value` ends, or -1 when the token is none. */
export function keyEnd(bytes: Buffer, from: number, to: number): number {
  for (let at = from; at < to; at++) {
    const byte = bytes[at] as number;
    if (byte === 0x3d) return at > from ? at : -1;
    if (!isLetter(byte) && !isDigit(byte) && byte !== 0x5f && byte !== 0x2e && byte !== 0x2d && byte !== 0x2f)
      return -1;
  }
  return -1;
}

/** A time of day (`12:00`), or seconds since 1970. */
export function hasClock(bytes: Buffer, from: number, to: number): boolean {
  let digits = 0;
  for (let at = from; at < to; at++) {
    const byte = bytes[at] as number;
    if (isDigit(byte)) {
      if (++digits === 10) return true;
    } else {
      if (byte === 0x3a && digits > 0 && isDigit(bytes[at + 1]) && at + 1 < to) return true;
      digits = 0;
    }
  }
  return false;
}

/** Whether `text` lies at `at`. */
export function holds(bytes: Buffer, at: number, end: number, text: string): boolean {
  if (end - at < text.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}
