import { deflateRawSync } from 'node:zlib';
import { BatchDecoder, countOf, noLevels } from '@millrace/wire';
import type { Run } from '../logging/types.ts';
import {
  contentLines,
  type FoundMember,
  type MemberHeader,
  memberContent,
  packMember,
  withoutExtra,
} from './member.ts';
import { keepMemberBytes, splitPosition } from './segment.ts';
import { StoredBatch } from './stored-batch.ts';

/** The batch that a member holds; `undefined` when its content is damaged. */
export function batchOf({ header, bytes }: FoundMember, epoch: number): StoredBatch | undefined {
  const content = memberContent(bytes);
  if (!content) return undefined;
  const { clock, shed } = header;
  if (!shed) {
    const lines = contentLines(content);
    const member = lines.length >= keepMemberBytes ? withoutExtra(bytes) : undefined;
    return new StoredBatch({ header, clock, epoch, lines, member });
  }
  const decoder = new BatchDecoder();
  const parts = [...decoder.push(content), ...decoder.end()];
  let tail = shed;
  const runs: Run[] = [];
  for (const { header: run, count } of parts) {
    if (!run) return undefined;
    const before = run.shed ?? noLevels();
    tail = [tail[0] - before[0], tail[1] - before[1], tail[2] - before[2], tail[3] - before[3]];
    runs.push({ first: run.first, count, shed: before });
  }
  const batch = new StoredBatch({
    header: { ...header, first: runs[0]?.first ?? header.first, count: countOf(header.levels) },
    clock,
    epoch,
    lines: Buffer.concat(parts.map((part) => part.bytes)),
    runs,
    tail,
    member: content.length >= keepMemberBytes ? withoutExtra(bytes) : undefined,
  });
  return isWhole(batch, header) ? batch : undefined;
}

/** A thinned member that does not add up is as good as damaged. */
function isWhole(batch: StoredBatch, { first, count, levels }: MemberHeader): boolean {
  const lines = batch.runs.reduce((sum, run) => sum + run.count, 0);
  return (
    lines === countOf(levels) &&
    batch.tail.every((n) => n >= 0) &&
    splitPosition(batch.first).seq === first &&
    splitPosition(batch.last).seq === first + count - 1
  );
}

/** The bytes of a member that holds this batch. */
export function memberOf(batch: StoredBatch, created: number): Buffer {
  const { journal, sealed, overlaps } = batch.header;
  const content = contentOf(batch);
  const header = { journal, sealed, overlaps, created, clock: batch.clock, ...headerOf(batch) };
  return packMember(header, content, deflateRawSync(content));
}

/** What a member that holds this batch has for content. */
export function contentOf(batch: StoredBatch): Buffer {
  return batch.header.count > 0 ? batch.encoded() : Buffer.alloc(0);
}

/** What the header of a member says of the batch in it. */
export function headerOf(batch: StoredBatch): Pick<MemberHeader, 'first' | 'count' | 'levels' | 'shed'> {
  const { shed } = batch;
  const first = splitPosition(batch.first).seq;
  return {
    first,
    count: splitPosition(batch.last).seq - first + 1,
    levels: batch.header.levels,
    ...(countOf(shed) > 0 && { shed }),
  };
}
