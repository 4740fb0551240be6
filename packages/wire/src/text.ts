const encoder = new TextEncoder();

/** Bytes that `text` takes in UTF-8. */
export function utf8Length(text: string): number {
  let bytes = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) bytes += 1;
    else if (unit < 0x800) bytes += 2;
    else if (unit >= 0xd800 && unit < 0xdc00 && i + 1 < text.length) {
      const low = text.charCodeAt(i + 1);
      if (low >= 0xdc00 && low < 0xe000) {
        bytes += 4;
        i++;
      } else bytes += 3;
    } else bytes += 3;
  }
  return bytes;
}

/**
 * Cuts `text` to at most `maxBytes` of UTF-8, the mark included, and never inside a character. The mark says
 * how many bytes went (it is left out where `maxBytes` has no room for it). Returns the text unchanged when it fits.
 *
 * @param missingBytes what was cut off behind `text` before; then it is marked in any case, with all that is missing
 */
export function truncateUtf8(text: string, maxBytes: number, missingBytes = 0): string {
  // Three bytes is the most that one UTF-16 unit can take: most lines are cleared by this alone.
  if (missingBytes === 0 && text.length * 3 <= maxBytes) return text;
  const total = utf8Length(text);
  if (missingBytes === 0 && total <= maxBytes) return text;
  // The mark's own length depends on the number in it; reserve for the longest that can occur.
  const reserved = `… [truncated ${total + missingBytes} bytes]`.length + 2;
  const hasMark = reserved <= maxBytes;
  const room = new Uint8Array(Math.max(0, hasMark ? maxBytes - reserved : maxBytes));
  const { read, written } = encoder.encodeInto(text, room);
  if (!hasMark) return text.slice(0, read);
  return `${text.slice(0, read)}… [truncated ${total - written + missingBytes} bytes]`;
}
