import { crc32 } from 'node:zlib';
import type { Json } from '../../logging/types.ts';

/**
 * Where reading goes on in a container's log files. Saved beside the marks of `../position.ts`, under the same key:
 *
 *     {"out": {…}, "err": {…}, "file": {"head": [242, 3735928559], "ino": 131, "at": 51234, "past": {"err": 2}}}
 *
 * `head` names the file: the length of its first entry and the CRC-32 of that entry's last 64 bytes, which hold its
 * time to the nanosecond. A name says nothing, since the engine renames files when it rotates them. An inode number
 * says little: it is given to another file when the first is removed, and is a new one after compression. `ino`
 * decides where two files begin alike, as they may with pieces of one long line. `at` is the offset of the first
 * entry that is still needed, in the text of the file (for a compressed one, behind decompression).
 *
 * A line that has begun and not ended is needed from its first piece on. Lines of the other stream may have ended
 * behind that: so many as `past` says are passed over.
 *
 * The marks go on beside it. They are what counts when the file is not found, or is not what it was (a power cut took
 * its end): then all that is kept is gone through, and each stream passes over what it has had. They are also what
 * makes it possible to go on through the engine's API, which knows no files, and from there back to files.
 */
export interface FilePoint {
  head: FileHead;
  ino: number;
  at: number;
  past?: { out?: number; err?: number };
}

/** Length of a file's first entry, its newline included, and the CRC-32 of the last bytes of that entry. */
export type FileHead = readonly [entryBytes: number, crc: number];

/** How much of a first entry's end makes up its checksum. */
export const headTailBytes = 64;

export function headOf(bytes: Buffer, entryBytes: number): FileHead {
  return [entryBytes, crc32(bytes.subarray(Math.max(0, entryBytes - headTailBytes), entryBytes))];
}

/** Reads the file's part of a saved position; `undefined` when there is none. */
export function parseFilePoint(value: Json | undefined): FilePoint | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const { file } = value;
  if (typeof file !== 'object' || file === null || Array.isArray(file)) return undefined;
  const { head, ino, at, past } = file;
  if (!Array.isArray(head) || !isCount(head[0]) || !isCount(head[1]) || !isCount(ino) || !isCount(at)) {
    return undefined;
  }
  const point: FilePoint = { head: [head[0], head[1]], ino, at };
  if (typeof past !== 'object' || past === null || Array.isArray(past)) return point;
  const { out, err } = past;
  return { ...point, past: { ...(isCount(out) && { out }), ...(isCount(err) && { err }) } };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
