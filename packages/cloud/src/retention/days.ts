/** Days are those of UTC everywhere: devices and processes of one cloud are in many places. */

export const dayMs = 86_400_000;

/** `2026-11-20` */
export function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

/** Ms since 1970. */
export function startOfDay(day: string): number {
  return Date.parse(`${day}T00:00:00Z`);
}

/**
 * How long lines can be kept. Few, since lines of one day and of one of these share a partition: each more would make
 * parts smaller and inserts dearer.
 */
export const retentionClasses = [1, 3, 7, 14, 30, 90, 365] as const;
