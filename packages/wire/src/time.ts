const unitsMs: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** What a store's DateTime64(3) and `Date` both hold: 1970 to 2282. Exclusive. */
export const maxTimeMs = 9_877_000_000_000;

/** The forms of {@link parseTime}, for an error. */
export const timeForms =
  'ms since 1970, an ISO 8601 time such as 2026-01-31T08:00:00Z, or an age such as 10m, 2h or 1d';

/**
 * Reads a point in time as people and programs write it: milliseconds since 1970 (`1696195200000`), ISO 8601
 * (`2023-10-01T20:00:00Z`, `2023-10-01`; UTC unless it says otherwise), or how long before `nowMs` (`90s`, `10m`,
 * `1.5h`, `1d`, `1w`).
 *
 * @returns milliseconds since 1970, or `undefined` when it is none of these
 */
export function parseTime(text: string, nowMs: number): number | undefined {
  const age = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d|w)$/.exec(text);
  if (age) return Math.max(0, Math.round(nowMs - Number(age[1]) * (unitsMs[age[2] as string] as number)));
  if (/^\d{1,13}$/.test(text)) return Number(text) < maxTimeMs ? Number(text) : undefined;
  // `Date.parse` takes much that is no ISO time, and reads it in local time.
  const iso = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?$/.exec(text);
  if (!iso) return undefined;
  const [, clock, , , zone] = iso;
  const ms = Date.parse(clock && !zone ? `${text}Z` : text);
  return ms >= 0 && ms < maxTimeMs ? ms : undefined;
}
