/** What one query may hold. Beyond it is refused, so that no query costs more than these allow. */
export const queryLimits = {
  /** UTF-16 code units. */
  maxLength: 4096,
  /** Parentheses and negations inside one another. */
  maxDepth: 32,
  maxTerms: 64,
  maxRegexes: 4,
  maxRegexLength: 512,
  /** `*` and `?` in one word. */
  maxWildcards: 16,
  /** Keys inside one another in the name of a field: what is deeper is shown as text, see packages/wire/src/fields.ts. */
  maxFieldDepth: 8,
  maxFieldLength: 256,
  /** Devices that fleets and tags may stand for: each is named to the store, some 40 bytes apiece. */
  maxDevices: 100_000,
} as const;
