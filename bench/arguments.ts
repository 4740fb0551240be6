/** The value of an option of a bench. @throws Error that names the option and what it takes */
export function wholeNumber(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new Error(`${name} takes a whole number from ${least} to ${most}`);
  }
  return value;
}
