import { encodeHeader } from '@millrace/wire';
import type { ClockStamp } from '../clock/history.ts';
import { type BatchBuilder, copyOf } from './batch-builder.ts';
import type { SealedBatch } from './group-commit.ts';
import { encodeContent, type MemberHeader, withoutExtra } from './member.ts';
import { keepMemberBytes } from './segment.ts';
import { StoredBatch } from './stored-batch.ts';

/**
 * What becomes of the lines of a batch that has ended: what readers get, and what goes to the disk.
 *
 * @param level at which it is to be compressed at once, out of the builder's memory: where lines come fast a copy of
 * each batch would be most of the garbage that the agent makes. `undefined` when the level is not known yet.
 */
export function sealLines(
  builder: BatchBuilder,
  header: MemberHeader,
  { clock, epoch, level }: { clock: ClockStamp; epoch: number; level: number | undefined },
): { batch: StoredBatch; sealed: SealedBatch } {
  const headerLine = Buffer.from(encodeHeader(header));
  const inPlace = builder.linesBehind(headerLine);
  const content = level === undefined ? copyOf(inPlace) : inPlace;
  const lines = content.subarray(headerLine.length);
  const batch = new StoredBatch({ header, clock, epoch, lines });
  const lineBytes = lines.length;
  const encodeAt = (level: number) => {
    const member = encodeContent(header, content, level);
    // What is compressed for the disk need not be compressed again for the wire.
    if (lineBytes >= keepMemberBytes) batch.keepGzip(withoutExtra(member));
    return member;
  };
  if (level === undefined) return { batch, sealed: { header, encode: encodeAt, lineBytes } };
  const member = encodeAt(level);
  // The builder's memory is the next one's from here on.
  batch.pack();
  return { batch, sealed: { header, encode: () => member, lineBytes } };
}
