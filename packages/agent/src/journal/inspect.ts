import { type LevelCounts, type LogMessage, noLevels, sumLevels } from '@millrace/wire';
import { DeviceClock } from '../clock/device-clock.ts';
import { ClockHistory } from '../clock/history.ts';
import type { JournalDisk } from './disk.ts';
import { walkMembers } from './member.ts';
import { segmentNames } from './recovery.ts';
import { lastSeq } from './segment.ts';
import type { StoredBatch } from './stored-batch.ts';
import { batchOf } from './stored-member.ts';

/** A stretch of a segment that cannot be read. */
export interface Damage {
  offset: number;
  bytes: number;
  /** `header`: the place of a member is unknown; `content`: its lines are gone, its header is not; `tail`: cut off at the end. */
  where: 'header' | 'content' | 'tail';
}

/** Seqs that should follow on from one another and do not. */
export interface MissingSeqs {
  journal: string;
  first: number;
  last: number;
}

export interface SegmentReport {
  name: string;
  bytes: number;
  /** Ids of the journals in it, in order; more than one only in a damaged folder. */
  journals: string[];
  firstSeq: number | undefined;
  lastSeq: number | undefined;
  /** Batches and lines that can be read. */
  batches: number;
  lines: number;
  levels: LevelCounts;
  /** Lines that were shed to keep within the journal's budget. */
  shed: LevelCounts;
  /** When its first and last batch were sealed, ms since 1970. */
  fromMs: number | undefined;
  toMs: number | undefined;
  damage: Damage[];
  /** Missing between the segment before (or a batch before) and a batch of this one. */
  missing: MissingSeqs[];
}

/** A segment's report and, batch by batch, its lines. */
export interface InspectedSegment {
  report: SegmentReport;
  batches: StoredBatch[];
}

/**
 * Reads a journal's folder from end to end and changes nothing: a device's own, or a copy. One segment is held
 * in memory at a time. What cannot be read is reported, and reading goes on behind it. Lines have their true times,
 * as far as the journal knows them.
 */
export function* inspectJournal(disk: JournalDisk): Generator<InspectedSegment> {
  const clocks = readClocks(disk);
  const next = new Map<string, number>();
  for (const name of segmentNames(disk)) {
    const segment = disk.readAll(name);
    const report: SegmentReport = {
      name,
      bytes: segment.length,
      journals: [],
      firstSeq: undefined,
      lastSeq: undefined,
      batches: 0,
      lines: 0,
      levels: noLevels(),
      shed: noLevels(),
      fromMs: undefined,
      toMs: undefined,
      damage: [],
      missing: [],
    };
    const batches: StoredBatch[] = [];
    let end = 0;
    for (const member of walkMembers(segment).members) {
      const { header, offset, bytes } = member;
      if (offset > end) report.damage.push({ offset: end, bytes: offset - end, where: 'header' });
      end = offset + bytes.length;
      const { journal, first, count, levels, shed, sealed } = header;
      if (!report.journals.includes(journal)) report.journals.push(journal);
      const batch = batchOf(member, 0);
      if (!batch) {
        report.damage.push({ offset, bytes: bytes.length, where: 'content' });
        continue;
      }
      report.fromMs ??= sealed;
      report.toMs = sealed;
      const expected = next.get(journal) ?? first;
      if (first > expected) report.missing.push({ journal, first: expected, last: first - 1 });
      next.set(journal, lastSeq(header) + 1);
      if (count === 0) continue;
      report.firstSeq ??= first;
      report.lastSeq = lastSeq(header);
      if (shed) report.shed = sumLevels(report.shed, shed);
      if (batch.header.count === 0) continue;
      report.batches++;
      report.lines += batch.header.count;
      report.levels = sumLevels(report.levels, levels);
      batches.push(batch.corrected(clocks));
    }
    if (end < segment.length) report.damage.push({ offset: end, bytes: segment.length - end, where: 'tail' });
    yield { report, batches };
  }
}

/** What the journal knows of the clocks that stamped its lines: the last that is known of a boot holds for all of it. */
function readClocks(disk: JournalDisk): DeviceClock {
  const history = new ClockHistory();
  for (const name of segmentNames(disk)) {
    for (const { header } of walkMembers(disk.readAll(name)).members) {
      for (const [boot, offset] of Object.entries(header.clocks ?? {})) history.restore(boot, offset);
      if (header.clock) history.note(header.clock, header.sealed);
    }
  }
  const clock = new DeviceClock();
  clock.recall(history);
  return clock;
}

/** Every line of a journal's folder that can be read, oldest first. */
export function* readJournal(disk: JournalDisk): Generator<LogMessage> {
  for (const { batches } of inspectJournal(disk)) for (const batch of batches) yield* batch.messages();
}
