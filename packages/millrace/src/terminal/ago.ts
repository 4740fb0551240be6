const units = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
] as const;

/** A time between two moments as people say it: `3 min`, `2 h`, `5 d`. */
export function span(ms: number): string {
  for (const [unit, length] of units) {
    if (ms >= length) return `${Math.floor(ms / length)} ${unit}`;
  }
  return '0 s';
}

/** How long ago a moment was. */
export function ago(thenMs: number, nowMs: number): string {
  const ms = nowMs - thenMs;
  return ms < 1000 ? 'now' : `${span(ms)} ago`;
}
