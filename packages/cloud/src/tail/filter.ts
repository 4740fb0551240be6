import type { Level, LogMessage } from '@millrace/wire';

/** Which lines someone wants to see. All conditions must hold; one that is left out always does. */
export interface LineFilter {
  device?: string;
  service?: string;
  levels?: readonly Level[];
  stream?: 'stdout' | 'stderr';
  /** Every one must occur in the message, also inside words, in any case of A–Z: as the store's search has it. */
  words?: readonly string[];
}

/** Compiles a filter's conditions on the line itself; the device is the caller's to compare, once for many lines. */
export function lineMatcher(filter: LineFilter): (line: LogMessage) => boolean {
  const { service, stream } = filter;
  const levels = filter.levels && new Set(filter.levels);
  const words = filter.words?.map(asciiLower).filter((word) => word !== '') ?? [];
  return (line) => {
    if (service !== undefined && (line.serviceName ?? '') !== service) return false;
    if (levels && !levels.has(line.level)) return false;
    if (stream !== undefined && line.isStdErr !== (stream === 'stderr')) return false;
    if (words.length === 0) return true;
    const message = asciiLower(line.message);
    return words.every((word) => message.includes(word));
  };
}

function asciiLower(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
