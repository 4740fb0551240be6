import type { Level, StoredLine } from '@millrace/wire';
import { mayRead, type Query, queryPredicate, type Scope } from '../query/index.ts';
import { asciiLower } from '../query/text.ts';

/** Which lines someone wants to see. All conditions must hold; one that is left out always does. */
export interface LineFilter {
  /** Whose lines the watcher may see, whatever else is asked for. */
  scope: Scope;
  device?: string;
  service?: string;
  levels?: readonly Level[];
  stream?: 'stdout' | 'stderr';
  /** Every one must occur in the message, also inside words, in any case of A–Z: as the store's search has it. */
  words?: readonly string[];
  query?: Query;
}

/** Whether a filter may let lines of a device through: asked once for many lines. */
export function deviceMatches({ scope, device: wanted }: LineFilter, device: string): boolean {
  return (wanted === undefined || wanted === device) && mayRead(scope, device);
}

/** Compiles a filter's conditions on the line itself, beside those of {@link deviceMatches}. */
export function lineMatcher(filter: LineFilter): (line: StoredLine) => boolean {
  const { service, stream, query } = filter;
  const levels = filter.levels && new Set(filter.levels);
  const words = filter.words?.map(asciiLower).filter((word) => word !== '') ?? [];
  const matchesQuery = query && queryPredicate(query);
  return (line) => {
    if (service !== undefined && (line.serviceName ?? '') !== service) return false;
    if (levels && !levels.has(line.level)) return false;
    if (stream !== undefined && line.isStdErr !== (stream === 'stderr')) return false;
    if (words.length > 0) {
      const message = asciiLower(line.message);
      if (!words.every((word) => message.includes(word))) return false;
    }
    return !matchesQuery || matchesQuery(line);
  };
}
