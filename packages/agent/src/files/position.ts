import { crc32 } from 'node:zlib';
import type { Json } from '../logging/types.ts';

/**
 * How far a plain file has been read. Saved with every line under the key `file:<inode>:<folder>`, as
 *
 *     {"path": "/var/log/app.log", "at": 51234, "head": [256, 3735928559], "tail": [64, 195936478]}
 *
 * `path` is the name that the file had when it was found, `at` the offset behind the last line read. A file keeps its
 * inode when it is renamed, so that it is found again in its folder under any name; but inodes are given to other files
 * once they are free, and a file can be emptied and written anew. Hence the checksums of the first bytes, `head`, and
 * of those in front of `at`, `tail`: a file is the one that was read if it has both. A copy of it has both too, under
 * another inode; that is where the rest is found when a file was copied and emptied.
 */
export interface FilePosition {
  path: string;
  at: number;
  head: Checksum;
  tail: Checksum;
}

/** How many bytes, and their CRC-32. */
export type Checksum = readonly [bytes: number, crc: number];

export const maxHeadBytes = 256;
export const maxTailBytes = 64;

export const filePrefix = 'file:';

export function fileKey(inode: bigint, folder: string): string {
  return `${filePrefix}${inode}:${folder}`;
}

/** Takes a key apart again; `undefined` when it is none of ours. */
export function parseFileKey(key: string): { inode: bigint; folder: string } | undefined {
  const match = /^file:(\d{1,20}):(.*)$/s.exec(key);
  return match ? { inode: BigInt(match[1] as string), folder: match[2] as string } : undefined;
}

export function checksum(bytes: Buffer): Checksum {
  return [bytes.length, crc32(bytes)];
}

/** Reads a saved position; `undefined` when it is not one of ours. */
export function parseFilePosition(value: Json | undefined): FilePosition | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const { path, at, head, tail } = value;
  if (typeof path !== 'string' || !isCount(at) || !isChecksum(head) || !isChecksum(tail)) return undefined;
  if (head[0] > Math.min(at, maxHeadBytes) || tail[0] > Math.min(at, maxTailBytes)) return undefined;
  return { path, at, head, tail };
}

function isChecksum(value: Json | undefined): value is [number, number] {
  return Array.isArray(value) && value.length === 2 && isCount(value[0]) && isCount(value[1]);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
