import type { Json, PositionStore } from '../logging/types.ts';

/** Where the sources stand: as the disk knows it, and what has changed since the disk failed. */
export class Positions implements PositionStore {
  /** Those of batches that are on disk, and what recovery found. */
  readonly saved: Map<string, Json>;
  /** Those of lines that are only in memory; `null` for a source to forget. */
  readonly unsaved = new Map<string, Json>();

  constructor(found: ReadonlyMap<string, Json> = new Map()) {
    this.saved = new Map(found);
  }

  position(key: string): Json | undefined {
    return this.unsaved.has(key) ? (this.unsaved.get(key) ?? undefined) : this.saved.get(key);
  }

  positions(prefix: string): ReadonlyMap<string, Json> {
    const all = new Map([...this.saved, ...this.unsaved]);
    return new Map([...all].filter(([key, value]) => value !== null && key.startsWith(prefix)));
  }

  /** Takes over what came with a batch that is on disk now. */
  save(changes: Iterable<[string, Json]>): void {
    for (const [key, value] of changes) {
      if (value === null) this.saved.delete(key);
      else this.saved.set(key, value);
    }
  }

  /** Takes over what came with a batch that is only in memory. */
  keep(changes: Iterable<[string, Json]>): void {
    for (const [key, value] of changes) this.unsaved.set(key, value);
  }

  /** Everything is on disk again. */
  settle(): void {
    this.save(this.unsaved);
    this.unsaved.clear();
  }
}
