import type { LogInput } from '@millrace/wire';

/**
 * Why lines could not be captured: their file was rotated away before it was opened, was cut before it was read to
 * its end, or was compressed in a way that is not read here.
 */
export const gapReasons = ['rotated', 'cut', 'compressed'] as const;
export type GapReason = (typeof gapReasons)[number];

/** A stretch of a log that nobody could read. How many lines it had is not known. */
export interface Gap {
  reason: GapReason;
  /** Whole files that were missed, and bytes: at least so many, where anything is known. */
  files?: number;
  bytes?: number;
  /** Times of the lines before and behind it, in ms since 1970. */
  fromMs?: number;
  toMs?: number | undefined;
}

/** How often each happened, and how many bytes at least were missed. */
export type GapCounts = Record<GapReason, { gaps: number; bytes: number }>;

export function noGaps(): GapCounts {
  return {
    rotated: { gaps: 0, bytes: 0 },
    cut: { gaps: 0, bytes: 0 },
    compressed: { gaps: 0, bytes: 0 },
  };
}

export function countGap(counts: GapCounts, { reason, bytes = 0 }: Gap): void {
  counts[reason].gaps++;
  counts[reason].bytes += bytes;
}

const what: Record<GapReason, string> = {
  rotated: 'rotated away before they could be read',
  cut: 'cut away before they could be read',
  compressed: 'compressed before they could be read',
};

/**
 * The line that puts a gap on record, in the place where the lines should be:
 *
 *   lines of web are missing between 2026-11-20T12:41:25.567Z and 2026-11-20T12:41:25.601Z: rotated away before they
 *   could be read (at least 300000 bytes in 3 files)
 *
 * with `fields: {gap: "rotated", files: 3, bytes: 300000, from: "…", to: "…"}`. Where neither files nor bytes are known
 * it may be that none is missing.
 */
export function gapLine(gap: Gap, service: Pick<LogInput, 'serviceName'>): LogInput {
  const { reason, files, bytes, fromMs, toMs } = gap;
  const from = isoTime(fromMs);
  const to = isoTime(toMs);
  const isCertain = bytes !== undefined || files !== undefined;
  const between = from && to ? ` between ${from} and ${to}` : to ? ` before ${to}` : '';
  const size = [bytes !== undefined && `${bytes} bytes`, files !== undefined && filesText(files)]
    .filter(Boolean)
    .join(' in ');
  return {
    ...service,
    message: `lines of ${service.serviceName} ${isCertain ? 'are' : 'may be'} missing${between}: ${what[reason]}${
      size ? ` (at least ${size})` : ''
    }`,
    timestamp: toMs ?? Date.now(),
    level: 'warn',
    source: { type: 'manager', name: 'capture' },
    isSystem: true,
    isStdErr: false,
    fields: {
      gap: reason,
      ...(files !== undefined && { files }),
      ...(bytes !== undefined && { bytes }),
      ...(from && { from }),
      ...(to && { to }),
    },
  };
}

function filesText(files: number): string {
  return `${files} ${files === 1 ? 'file' : 'files'}`;
}

function isoTime(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : new Date(ms).toISOString();
}
