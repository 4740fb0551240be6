import { forEachLine } from '@millrace/wire';
import type { LineContent } from '../store/repeats.ts';

/** From the earliest to the latest of some lines' times, ms since 1970. */
export interface TimeSpan {
  fromMs: number;
  toMs: number;
}

/** Lines as wire's `encodeLine` writes them begin with their time. */
const head = Buffer.from('{"timestamp":');
const zero = 0x30;
/** The store takes the time of arrival for times from here on. */
const maxTimeMs = 9_877_000_000_000;

/** The times of lines; `undefined` when none has any. */
export function timesOf(lines: Uint8Array): TimeSpan | undefined {
  let fromMs = Number.POSITIVE_INFINITY;
  let toMs = Number.NEGATIVE_INFINITY;
  forEachLine(lines, (line) => {
    const timeMs = timeOf(line) ?? contentOf(line)?.timestampMs;
    if (timeMs === undefined) return;
    fromMs = Math.min(fromMs, timeMs);
    toMs = Math.max(toMs, timeMs);
  });
  return toMs >= fromMs ? { fromMs, toMs } : undefined;
}

function timeOf(line: Uint8Array): number | undefined {
  for (let i = 0; i < head.length; i++) if (line[i] !== head[i]) return undefined;
  let timeMs = 0;
  let at = head.length;
  for (; at < line.length; at++) {
    const digit = (line[at] as number) - zero;
    if (digit < 0 || digit > 9) break;
    timeMs = timeMs * 10 + digit;
  }
  return at > head.length ? timeMs : undefined;
}

/**
 * What a line is recognised by, read as the store reads it; `undefined` for one that is never repeated: it has no
 * time or text of its own, or the device program itself wrote it.
 */
export function contentOf(line: Uint8Array): LineContent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(line));
  } catch {
    // Kept as text, under its time of arrival.
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { timestamp, message, isStdErr, isSystem, serviceName, containerId, source } = value as Record<
    string,
    unknown
  >;
  if (!Number.isSafeInteger(timestamp) || typeof message !== 'string') return undefined;
  const timestampMs = timestamp as number;
  if (timestampMs < 0 || timestampMs >= maxTimeMs) return undefined;
  const { type, name } = (source ?? {}) as { type?: unknown; name?: unknown };
  if (type === 'manager') return undefined;
  const service = textOf(serviceName);
  return {
    container: textOf(containerId),
    service,
    sourceName: textOf(name) || service || (isSystem === true ? 'system' : 'unknown'),
    isStdErr: isStdErr === true,
    timestampMs,
    message,
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
