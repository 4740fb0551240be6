import type { JournalDisk } from './disk.ts';
import { type FoundMember, memberAt, nextMagic } from './member.ts';
import type { Segment } from './segment.ts';

const windowBytes = 512 * 1024;

/** Walks the members of a segment forward, a piece of it in memory at a time. Passes over what is damaged. */
export class MemberWindow {
  readonly #disk: JournalDisk;
  readonly #segment: Pick<Segment, 'name' | 'bytes'>;
  #offset = 0;
  #window: Buffer = Buffer.alloc(0);
  #windowOffset = 0;
  /** Bytes that were passed over. */
  damagedBytes = 0;

  constructor(disk: JournalDisk, segment: Pick<Segment, 'name' | 'bytes'>) {
    this.#disk = disk;
    this.#segment = segment;
  }

  /** The next member whose header is intact; `undefined` at the end of what is durable. Throws what the disk throws. */
  next(): FoundMember | undefined {
    while (this.#offset < this.#segment.bytes) {
      let at = this.#offset - this.#windowOffset;
      let found = at >= 0 && at < this.#window.length ? memberAt(this.#window, at) : 'short';
      if (found === 'short') {
        this.#load();
        at = 0;
        found = memberAt(this.#window, 0);
      }
      if (found && found !== 'short') {
        this.#offset += found.bytes.length;
        return found;
      }
      // A file that was cut from outside ends before what is known of it.
      const passed = Math.max(nextMagic(this.#window, at + 1) - at, 1);
      this.#offset += passed;
      this.damagedBytes += passed;
    }
    return undefined;
  }

  #load(): void {
    const length = Math.min(windowBytes, this.#segment.bytes - this.#offset);
    this.#window = this.#disk.read(this.#segment.name, this.#offset, length);
    this.#windowOffset = this.#offset;
    if (this.#window.length > 0) return;
    this.damagedBytes += length;
    this.#offset += length;
  }
}
