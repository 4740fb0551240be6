import { readFileSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Disk space that a log may keep from being freed, by files that are open and have no name any more: a tenth of what is
 * free, within these bounds. A writer that is faster than the reader for some seconds loses nothing, then, and a disk
 * that is nearly full is not filled up.
 */
const leastBytes = 64_000_000;
const mostBytes = 1_000_000_000;
const freeShare = 0.1;

/** Of the files that the process may have open: several logs may need as many. */
const openShare = 1 / 16;
const leastOpen = 256;
const mostOpen = 4096;

const validMs = 1000;

/** How many files of a log may be held open. */
export class HeldLimit {
  private readonly path: string;
  private readonly fileBytes: number;
  private readonly maxOpen: number;
  private known = 0;
  private atMs = Number.NEGATIVE_INFINITY;

  /** @param maxOpen at most, whatever there is room for */
  constructor(path: string, fileBytes: number, maxOpen = openFilesOfOne()) {
    this.path = path;
    this.fileBytes = fileBytes;
    this.maxOpen = maxOpen;
  }

  get files(): number {
    const nowMs = performance.now();
    if (nowMs - this.atMs >= validMs) {
      this.atMs = nowMs;
      const bytes = Math.min(mostBytes, Math.max(leastBytes, freeBytes(dirname(this.path)) * freeShare));
      this.known = Math.min(this.maxOpen, Math.ceil(bytes / this.fileBytes));
    }
    return this.known;
  }
}

function freeBytes(folder: string): number {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    // The folder is gone.
    return 0;
  }
}

function openFilesOfOne(): number {
  try {
    const [, max] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return Math.max(leastOpen, Math.min(mostOpen, Math.floor(Number(max ?? 0) * openShare)));
  } catch {
    // No Linux.
    return leastOpen;
  }
}
