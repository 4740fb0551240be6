// A colour (SGR) sequence, or a character that moves the cursor, reorders text or says other things to a terminal.
const active =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach a terminal
  /(\x1b\[[0-9;:]{0,64}m)|[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * Makes a container's text safe to print on one line: it can neither clear the screen, nor retitle the window,
 * nor forge another line. Colours are kept (and end with the text) or dropped; everything else that a terminal
 * acts on is shown as an escape.
 */
export function harmless(text: string, { keepColours = false } = {}): string {
  let hasColour = false;
  const safe = text.replace(active, (found, colour: string | undefined) => {
    if (colour === undefined) return visible(found);
    hasColour = true;
    return keepColours ? colour : '';
  });
  return hasColour && keepColours ? `${safe}\x1b[0m` : safe;
}

const named: Record<string, string> = { '\n': '\\n', '\r': '\\r' };

function visible(character: string): string {
  const code = character.charCodeAt(0);
  return (
    named[character] ??
    (code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`)
  );
}
