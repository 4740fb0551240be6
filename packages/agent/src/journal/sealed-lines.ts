import { encodeHeader } from '@millrace/wire';
import type { ClockStamp } from '../clock/history.ts';
import type { BatchBuilder } from './batch-builder.ts';
import type { SealedBatch } from './group-commit.ts';
import { encodeContent, type MemberHeader, withoutExtra } from './member.ts';
import { keepMemberBytes } from './segment.ts';
import { StoredBatch } from './stored-batch.ts';

/** What becomes of the lines of a batch that has ended: what readers get, and what goes to the disk. */
export function sealLines(
  builder: BatchBuilder,
  header: MemberHeader,
  { clock, epoch }: { clock: ClockStamp; epoch: number },
): { batch: StoredBatch; sealed: SealedBatch } {
  const headerLine = Buffer.from(encodeHeader(header));
  const content = builder.linesBehind(headerLine);
  const lines = content.subarray(headerLine.length);
  const batch = new StoredBatch({ header, clock, epoch, lines });
  const encode = (level: number) => {
    const member = encodeContent(header, content, level);
    // What is compressed for the disk need not be compressed again for the wire.
    if (lines.length >= keepMemberBytes) batch.keepGzip(withoutExtra(member));
    return member;
  };
  return { batch, sealed: { header, encode, lineBytes: lines.length } };
}
