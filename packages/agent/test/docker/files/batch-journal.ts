import type {
  EncodedLine,
  EncodedLog,
  Json,
  LogInput,
  PositionSource,
  SourcePosition,
} from '../../../src/logging/types.ts';

/**
 * Takes lines as the journal does: they come into an open batch, and sources are asked for their positions when it is
 * sealed. What is not sealed by then is lost in a {@link crash}, lines and positions together. Outlives the readers
 * that a test starts over it.
 */
export class BatchJournal implements EncodedLog {
  private readonly sealed: LogInput[] = [];
  private readonly positions = new Map<string, string>();
  private open: LogInput[] = [];
  private readonly sources = new Map<string, { position: Json }>();
  private calls = 0;
  /** Lines that came encoded. */
  encodedLines = 0;

  log(line: LogInput, { key, value }: SourcePosition): void {
    this.room();
    this.open.push(line);
    this.sources.set(key, { position: value });
  }

  add({ bytes, start, end }: EncodedLine, source: PositionSource): void {
    this.room();
    this.encodedLines++;
    this.open.push(JSON.parse(bytes.toString('utf8', start, end)) as LogInput);
    this.sources.set(source.key, source);
  }

  present(timestampMs: number): number {
    return timestampMs;
  }

  flush(): void {
    this.seal();
  }

  seal(): void {
    this.sealed.push(...this.open);
    for (const [key, { position }] of this.sources) this.positions.set(key, JSON.stringify(position));
    this.open = [];
    this.sources.clear();
  }

  crash(): void {
    this.open = [];
    this.sources.clear();
  }

  position(key: string): Json | undefined {
    const text = this.positions.get(key);
    return text === undefined ? undefined : (JSON.parse(text) as Json);
  }

  /** Leaves the marks of a container's position, without the place in its files. */
  forgetPlace(key: string): void {
    const { file: _, ...marks } = (this.position(key) ?? {}) as Record<string, Json>;
    if (Object.keys(marks).length > 0) this.positions.set(key, JSON.stringify(marks));
  }

  get lines(): LogInput[] {
    return [...this.sealed, ...this.open];
  }

  /** What is on record as missing. */
  get gaps(): LogInput[] {
    return this.lines.filter(({ fields }) => fields?.gap !== undefined);
  }

  /** All messages of a stream, one below the other: whatever was joined. */
  text(stream: 'stdout' | 'stderr'): string {
    return this.lines
      .filter(({ fields }) => fields?.gap === undefined)
      .filter(({ isStdErr }) => (isStdErr === true) === (stream === 'stderr'))
      .map(({ message }) => `${message}\n`)
      .join('');
  }

  /** A batch is full now and then: it is sealed before the line that finds it so. */
  private room(): void {
    if (++this.calls % 3 === 0) this.seal();
  }
}
