/**
 * Finds where the frames of zstd data end, without decompressing them. Node's decoder reads the frame that a piece of
 * input begins in, and drops in silence what follows that frame in the same piece; so pieces are cut at frames' ends.
 *
 * A frame (RFC 8878, 3.1):
 *
 *   magic 28 b5 2f fd
 *   descriptor         bits 7-6: bytes of the content size (0 1: 0 or 1 as bit 5 says, 2, 4, 8)
 *                      bit 5: single segment, so there is no window byte    bit 2: a checksum of 4 bytes follows the blocks
 *                      bits 1-0: bytes of the dictionary id (0, 1, 2, 4)
 *   window, dictionary id, content size
 *   blocks             3 bytes, little endian: bit 0 last, bits 2-1 type, then the size; type 1 (RLE) holds one byte
 *   checksum
 *
 * A skippable frame has the magic 5x 2a 4d 18, and 4 bytes with the length of the rest.
 */
export class ZstdFrameCutter {
  #state: 'magic' | 'skippable' | 'descriptor' | 'block' | 'body' | 'foreign' = 'magic';
  /** Bytes of the part that is being gathered. */
  readonly #part = Buffer.alloc(4);
  #have = 0;
  #want = 4;
  /** Bytes to pass over before the next part. */
  #skip = 0;
  #hasChecksum = false;

  /** The chunk in pieces, none of which goes beyond the end of a frame. Data that is no zstd is left whole. */
  cut(chunk: Buffer): Buffer[] {
    const pieces: Buffer[] = [];
    let start = 0;
    let at = 0;
    while (at < chunk.length && this.#state !== 'foreign') {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, chunk.length - at);
        this.#skip -= step;
        at += step;
      } else {
        this.#part[this.#have++] = chunk[at++] as number;
        if (this.#have === this.#want) this.#next();
      }
      if (this.#skip === 0 && this.#state === 'body') {
        this.#expect('magic', 4);
        pieces.push(chunk.subarray(start, at));
        start = at;
      }
    }
    if (start < chunk.length) pieces.push(chunk.subarray(start));
    return pieces;
  }

  #next(): void {
    const part = this.#part;
    switch (this.#state) {
      case 'magic': {
        const magic = part.readUInt32LE(0);
        if (magic === 0xfd2fb528) this.#expect('descriptor', 1);
        else if ((magic & 0xfffffff0) === 0x184d2a50) this.#expect('skippable', 4);
        else this.#state = 'foreign';
        return;
      }
      case 'skippable':
        this.#skip = part.readUInt32LE(0);
        this.#expect('body', 0);
        return;
      case 'descriptor': {
        const descriptor = part[0] as number;
        const isSingle = (descriptor & 0x20) !== 0;
        const contentSize = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
        const dictionaryId = [0, 1, 2, 4][descriptor & 3] as number;
        this.#hasChecksum = (descriptor & 0x04) !== 0;
        this.#skip = (isSingle ? 0 : 1) + dictionaryId + contentSize;
        this.#expect('block', 3);
        return;
      }
      case 'block': {
        const header = part.readUIntLE(0, 3);
        const isLast = (header & 1) !== 0;
        const isRunLength = ((header >> 1) & 3) === 1;
        this.#skip = isRunLength ? 1 : header >> 3;
        if (isLast) {
          this.#skip += this.#hasChecksum ? 4 : 0;
          this.#expect('body', 0);
        } else this.#expect('block', 3);
      }
    }
  }

  #expect(state: 'magic' | 'skippable' | 'descriptor' | 'block' | 'body', bytes: number): void {
    this.#state = state;
    this.#have = 0;
    this.#want = bytes;
  }
}
