import { setImmediate as yieldToLoop } from 'node:timers/promises';
import { isLevel, type LogMessage, levelRank, withFields } from '@millrace/wire';
import type { DeviceClock } from '../clock/device-clock.ts';
import type { LogQuery } from '../logging/types.ts';
import type { Journal } from './journal.ts';
import { type MemberHeader, walkMembers } from './member.ts';
import { linePosition } from './segment.ts';
import { batchOf } from './stored-member.ts';

const defaultLimit = 1000;

/** True when a line meets all conditions of the query but `limit` and `order`. */
export function matches(line: LogMessage, query: LogQuery): boolean {
  if (query.appId !== undefined && line.appId !== query.appId) return false;
  if (query.serviceName !== undefined && line.serviceName !== query.serviceName) return false;
  if (query.containerId !== undefined && !sameContainer(line.containerId, query.containerId)) return false;
  if (query.level !== undefined && !levelsOf(query).has(line.level)) return false;
  if (query.stream !== undefined && line.isStdErr !== (query.stream === 'stderr')) return false;
  if (query.since !== undefined && line.timestamp < query.since) return false;
  if (query.until !== undefined && line.timestamp >= query.until) return false;
  if (query.contains !== undefined && !line.message.toLowerCase().includes(query.contains.toLowerCase())) {
    return false;
  }
  return true;
}

// As with docker's own commands, the first 12 characters name a container.
function sameContainer(id: string | undefined, asked: string): boolean {
  return id !== undefined && (id === asked || (asked.length >= 12 && id.startsWith(asked)));
}

function levelsOf(query: LogQuery): Set<string> {
  return new Set(typeof query.level === 'string' ? [query.level] : query.level);
}

/**
 * The newest `limit` lines that match, from memory first and then from the segments, newest to oldest. Reads one
 * segment at a time and stops as soon as it has enough.
 */
export async function queryJournal(journal: Journal, query: LogQuery): Promise<LogMessage[]> {
  const limit = query.limit ?? defaultLimit;
  const found: LogMessage[] = [];
  const collect = (lines: LogMessage[]): boolean => {
    for (let i = lines.length - 1; i >= 0 && found.length < limit; i--) {
      const line = lines[i] as LogMessage;
      if (matches(line, query)) found.push(withFields(line));
    }
    return found.length >= limit;
  };
  const inMemory = journal.recent();
  let before = inMemory[0]?.first ?? Number.POSITIVE_INFINITY;
  let done = limit === 0;
  for (const batch of [...inMemory].reverse()) {
    if (done) break;
    done = collect(batch.corrected(journal.clock).messages());
  }
  const { segments, disk } = journal.stored();
  for (const segment of [...segments].reverse()) {
    if (done || !disk) break;
    if (segment.first >= before) continue;
    let bytes: Buffer;
    try {
      bytes = disk.read(segment.name, 0, segment.bytes);
    } catch (error) {
      // Dropped while we were reading: so are all older ones.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') break;
      throw error;
    }
    for (const member of walkMembers(bytes).members.reverse()) {
      const first = linePosition(segment.epoch, member.header.first);
      if (done || first >= before || member.header.count === 0) continue;
      if (!mayHold(member.header, query, journal.clock)) continue;
      const batch = batchOf(member, segment.epoch);
      if (!batch) continue;
      done = collect(
        batch
          .part(-1, before - 1)
          .corrected(journal.clock)
          .messages(),
      );
      // Inflating is done on the main thread: let a live stream have its turn in between.
      await yieldToLoop();
    }
    before = Math.min(before, segment.first);
  }
  if ((query.order ?? 'asc') === 'asc') found.reverse();
  return found;
}

// An engine on another machine stamps lines by its own clock.
const clockSlackMs = 300_000;

/** What the member's header tells without inflating it: lines are hardly newer than their batch. */
function mayHold(header: MemberHeader, query: LogQuery, clock: DeviceClock): boolean {
  const sealedMs = clock.trueMs(header.sealed, header.clock) ?? header.sealed;
  if (query.since !== undefined && sealedMs + clockSlackMs < query.since) return false;
  if (query.level === undefined) return true;
  for (const level of levelsOf(query)) {
    if (isLevel(level) && (header.levels[levelRank(level)] ?? 0) > 0) return true;
  }
  return false;
}
