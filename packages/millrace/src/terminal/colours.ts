const codes = { red: 31, green: 32, yellow: 33, blue: 34, cyan: 36, bold: 1, dim: 2 } as const;

export type Colour = keyof typeof codes;
/** Puts a text in a colour, or leaves it as it is where colours are off. */
export type Paint = (colour: Colour, text: string) => string;

/** Colours are for people: on a terminal, unless `NO_COLOR` is set (https://no-color.org). */
export function wantsColour(
  stream: { isTTY?: boolean },
  env: Record<string, string | undefined> = process.env,
): boolean {
  return stream.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb';
}

export function painter(enabled: boolean): Paint {
  return (colour, text) => (enabled ? `\x1b[${codes[colour]}m${text}\x1b[0m` : text);
}
