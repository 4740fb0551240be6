import { crc32, deflateRawSync, inflateRawSync } from 'node:zlib';
import { type BatchHeader, encodeHeader, type LevelCounts, limits } from '@millrace/wire';
import type { ClockStamp } from '../clock/history.ts';
import type { Json } from '../logging/types.ts';

/**
 * The journal's on-disk format.
 *
 * A journal is a folder of segments, `0000000001.log.gz`, `0000000002.log.gz` …, each an ordinary gzip file
 * (RFC 1952), so that `zcat` prints it. Each batch is one gzip *member*. Its content is the batch as it goes
 * over the wire, header line included. What the journal itself must know rides in the member's *extra field*
 * (the technique of BGZF), so that a reader can walk a segment without inflating it:
 *
 *   1f 8b 08 04  mtime(4)=0  xfl=0  os=ff  XLEN(2)      gzip header with FEXTRA
 *   'M' 'R' LEN(2)                                      one subfield, ours
 *     version(1)=1  memberLength(4)  crc32(4)  JSON     integers little-endian; the CRC covers memberLength+JSON
 *   deflate data
 *   crc32(4)  isize(4)                                  of the content, as in every gzip file
 *
 * The JSON is a {@link MemberHeader}. A member of `count` 0 carries no lines, only positions and cursors: every
 * segment starts with such *snapshot* members that repeat all positions and cursors, so that recovery reads one
 * segment and old ones can be dropped. Later members hold only what changed.
 *
 * Constraints: members lie in seq order; `first` of a member is `first + count` of the one before it (a jump is a
 * loss). A member whose header or content fails its CRC is damaged: the reader looks for the next intact header and
 * counts the seqs between as lost.
 *
 * A segment that is written to only grows. A closed one may be replaced as a whole by a *thinned* one, from which
 * lines of some levels were shed (see thinning.ts): it is written beside it as `….log.gz.thin`, synced, and renamed
 * over it. A thinned member still stands for the seqs `first` to `first + count - 1`; `levels` counts the lines that
 * are there and `shed` those that are not. Its content is a batch for each run of neighbours that are left, so that it,
 * too, goes onto the wire as it lies; `shed` in a batch's header tells what lay right before its first line. Members
 * next to one another may have been joined.
 */
export interface MemberHeader extends BatchHeader {
  /** Lines that were shed, of those that the member stands for. */
  shed?: LevelCounts;
  /** When the journal was made, ms since 1970. */
  created: number;
  /** Source positions that changed with this batch; `null` forgets one. */
  positions?: Record<string, Json>;
  /** Journal and seq through which each backend's far end has confirmed. */
  cursors?: Record<string, [journal: string, seq: number]>;
  /** The clock that stamped its lines and `sealed`. */
  clock?: ClockStamp;
  /** On the first member of a segment: earlier boots and their last offset. */
  clocks?: Record<string, number>;
  /** On the members that open a segment: 'more' follow, or this is the 'last'. */
  snapshot?: 'more' | 'last';
}

const fixedHeaderBytes = 12;
const subfieldHeaderBytes = 4;
const prefixBytes = 9;
const trailerBytes = 8;
const jsonStart = fixedHeaderBytes + subfieldHeaderBytes + prefixBytes;
/** Bytes that a member's JSON may take: what a 16-bit XLEN leaves. */
export const maxHeaderJsonBytes = 0xffff - subfieldHeaderBytes - prefixBytes;
/** More than this is no member of ours. Content never exceeds the batch limit, and deflate grows it by < 0.1 %. */
const maxMemberBytes = jsonStart + 0xffff + limits.maxPublishBytes + trailerBytes;

/** The bytes of a member. `lines` are newline-ended and belong to `header`; empty when `header.count` is 0. */
export function encodeMember(header: MemberHeader, lines: Buffer, level = 6): Buffer {
  const content = header.count > 0 ? Buffer.concat([Buffer.from(encodeHeader(header)), lines]) : lines;
  return encodeContent(header, content, level);
}

/** The same for a content whose header line is in it already. */
export function encodeContent(header: MemberHeader, content: Buffer, level: number): Buffer {
  return packMember(header, content, deflateRawSync(content, { level }));
}

/** The bytes of a member with that content, and the same deflated. */
export function packMember(header: MemberHeader, content: Buffer, deflated: Buffer): Buffer {
  const json = Buffer.from(JSON.stringify(header));
  if (json.length > maxHeaderJsonBytes) throw new RangeError('journal member header exceeds 64 KiB');
  const length = jsonStart + json.length + deflated.length + trailerBytes;
  const out = Buffer.alloc(length);
  out.writeUInt32BE(0x1f8b0804, 0);
  out[9] = 0xff;
  out.writeUInt16LE(subfieldHeaderBytes + prefixBytes + json.length, 10);
  out.write('MR', 12, 'latin1');
  out.writeUInt16LE(prefixBytes + json.length, 14);
  out[16] = 1;
  out.writeUInt32LE(length, 17);
  json.copy(out, jsonStart);
  out.writeUInt32LE(headerCrc(out, json.length), 21);
  deflated.copy(out, jsonStart + json.length);
  out.writeUInt32LE(crc32(content), length - 8);
  out.writeUInt32LE(content.length, length - 4);
  return out;
}

function headerCrc(bytes: Buffer, jsonBytes: number, at = 0): number {
  const lengthCrc = crc32(bytes.subarray(at + 17, at + 21));
  return crc32(bytes.subarray(at + jsonStart, at + jsonStart + jsonBytes), lengthCrc);
}

export interface FoundMember {
  header: MemberHeader;
  /** Offset of the member in the buffer it was found in. */
  offset: number;
  /** Its bytes, gzip header to trailer. */
  bytes: Buffer;
}

/**
 * Reads the member at `offset`. `undefined` when there is none that is intact as far as its header tells;
 * `'short'` when it goes on beyond the buffer.
 */
export function memberAt(buffer: Buffer, offset: number): FoundMember | 'short' | undefined {
  if (offset + jsonStart > buffer.length) return 'short';
  if (buffer.readUInt32BE(offset) !== 0x1f8b0804) return undefined;
  if (buffer[offset + 12] !== 0x4d || buffer[offset + 13] !== 0x52 || buffer[offset + 16] !== 1)
    return undefined;
  const jsonBytes = buffer.readUInt16LE(offset + 14) - prefixBytes;
  const length = buffer.readUInt32LE(offset + 17);
  if (jsonBytes < 2 || length > maxMemberBytes || length < jsonStart + jsonBytes + trailerBytes)
    return undefined;
  if (offset + jsonStart + jsonBytes > buffer.length) return 'short';
  if (headerCrc(buffer, jsonBytes, offset) !== buffer.readUInt32LE(offset + 21)) return undefined;
  if (offset + length > buffer.length) return 'short';
  const json = buffer.toString('utf8', offset + jsonStart, offset + jsonStart + jsonBytes);
  return { header: JSON.parse(json), offset, bytes: buffer.subarray(offset, offset + length) };
}

/** Inflates a member's content and checks it; `undefined` when it is damaged. */
export function memberContent(bytes: Buffer): Buffer | undefined {
  const xlen = bytes.readUInt16LE(10);
  try {
    const content = inflateRawSync(bytes.subarray(fixedHeaderBytes + xlen, -trailerBytes), {
      maxOutputLength: 2 * limits.maxBatchBytes,
    });
    const intact =
      crc32(content) === bytes.readUInt32LE(bytes.length - 8) &&
      content.length === bytes.readUInt32LE(bytes.length - 4);
    return intact ? content : undefined;
  } catch {
    return undefined;
  }
}

/** The lines of a content, without its header line. */
export function contentLines(content: Buffer): Buffer {
  return content.subarray(content.indexOf(10) + 1);
}

const plainGzipHeader = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);

/** The member as it goes onto the wire: the same gzip data without the extra field. */
export function withoutExtra(bytes: Buffer): Buffer {
  return Buffer.concat([plainGzipHeader, bytes.subarray(fixedHeaderBytes + bytes.readUInt16LE(10))]);
}

/**
 * Walks the members of a whole segment. After damage it goes on at the next intact header.
 *
 * @returns the members in order, and the offset behind the last intact one
 */
export function walkMembers(segment: Buffer): { members: FoundMember[]; end: number } {
  const members: FoundMember[] = [];
  let offset = 0;
  let end = 0;
  while (offset < segment.length) {
    const found = memberAt(segment, offset);
    if (found && found !== 'short') {
      members.push(found);
      offset += found.bytes.length;
      end = offset;
      continue;
    }
    offset = nextMagic(segment, offset + 1);
  }
  return { members, end };
}

const magic = Buffer.from([0x1f, 0x8b, 0x08, 0x04]);

/** Offset of the next bytes that look like the start of a member, or the buffer's length. */
export function nextMagic(buffer: Buffer, from: number): number {
  const at = buffer.indexOf(magic, from);
  return at < 0 ? buffer.length : at;
}
