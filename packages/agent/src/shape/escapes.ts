/**
 * A text without the escapes of JSON behind which a character hides that could stand as it is: `\/`, and `\u0040` for
 * what is neither a quote, a backslash, a control character nor half of a pair. JSON stays JSON by that, and means the
 * same. In JSON within JSON there are several backslashes.
 */
export function withoutEscapes(text: string): string {
  if (!text.includes('\\')) return text;
  if (text === last.text) return last.plain;
  const plain = text.replace(hiding, (found, hex: string | undefined) => {
    if (hex === undefined) return '/';
    const code = Number.parseInt(hex, 16);
    const isHeld = code < 0x20 || code === 0x22 || code === 0x5c || code === 0x7f;
    return isHeld || (code >= 0xd800 && code <= 0xdfff) ? found : String.fromCharCode(code);
  });
  last = { text, plain };
  return plain;
}

/** A line is looked at for one kind of secret after another. */
let last = { text: '', plain: '' };

const hiding = /(?<!\\)\\+(?:\/|u([0-9a-fA-F]{4}))/g;
