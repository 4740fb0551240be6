/** Lower case of A–Z alone, as ClickHouse's `lower` has it. */
export function asciiLower(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/** The number that a value in a query stands for, when it is one: `500`, `-1`, `0.25`. */
export function numberIn(text: string): number | undefined {
  return /^-?[0-9]{1,15}(\.[0-9]{1,15})?$/.test(text) ? Number(text) : undefined;
}
