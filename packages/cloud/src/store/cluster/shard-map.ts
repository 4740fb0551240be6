import { crc32 } from 'node:zlib';

/** Which shard has a device's lines, as a Distributed table by `CRC32(device)` and the shards' weights has it. */
export class ShardMap {
  readonly #ends: readonly number[];
  readonly #total: number;

  /** @param weights of the shards, in their order; whole numbers */
  constructor(weights: readonly number[]) {
    let end = 0;
    this.#ends = weights.map((weight) => {
      end += weight;
      return end;
    });
    this.#total = end;
  }

  /** Of `CRC32(device) % total` what a shard has: from `from` to before `to`. */
  rangeOf(shard: number): { from: number; to: number; total: number } {
    return { from: this.#ends[shard - 1] ?? 0, to: this.#ends[shard] ?? 0, total: this.#total };
  }

  /** From 0. */
  of(device: string): number {
    if (this.#ends.length === 1) return 0;
    const place = crc32(device) % this.#total;
    return this.#ends.findIndex((end) => place < end);
  }
}
