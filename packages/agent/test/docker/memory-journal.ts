import type { Json, LogBackend, LogInput, PositionStore, SourcePosition } from '../../src/logging/types.ts';

/**
 * A backend and position store in one that saves a line and its position together, as the journal does. It
 * outlives the monitors that a test starts over it.
 */
export class MemoryJournal implements LogBackend, PositionStore {
  readonly name = 'memory';
  readonly lines: LogInput[] = [];
  readonly forgotten: string[] = [];
  private readonly saved = new Map<string, string>();
  /** What {@link log} returns; a promise holds the caller back. */
  gate: Promise<void> | undefined;

  log(line: LogInput, position?: SourcePosition): void | Promise<void> {
    this.lines.push(line);
    // As text, so that later changes of the object would not count.
    if (position) this.saved.set(position.key, JSON.stringify(position.value));
    return this.gate;
  }

  move({ key, value }: SourcePosition): void {
    this.saved.set(key, JSON.stringify(value));
  }

  forget(key: string): void {
    this.saved.delete(key);
    this.forgotten.push(key);
  }

  position(key: string): Json | undefined {
    const text = this.saved.get(key);
    return text === undefined ? undefined : (JSON.parse(text) as Json);
  }

  positions(prefix: string): ReadonlyMap<string, Json> {
    const found = [...this.saved].filter(([key]) => key.startsWith(prefix));
    return new Map(found.map(([key, text]) => [key, JSON.parse(text) as Json]));
  }

  /** The messages of one container, in the order they came. */
  messages(containerId: string, stream?: 'stdout' | 'stderr'): string[] {
    return this.lines
      .filter((line) => line.containerId === containerId)
      .filter((line) => stream === undefined || (line.isStdErr ? 'stderr' : 'stdout') === stream)
      .map(({ message }) => message);
  }
}

/** `prefix 1` … `prefix count`. */
export function numbered(prefix: string, count: number, from = 1): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix} ${i + from}`);
}

/** A shell command that prints numbered lines to both streams, as fast as it can. */
export function printBoth(count: number): string[] {
  return ['sh', '-c', `seq 1 ${count} | sed 's/^/out /' & seq 1 ${count} | sed 's/^/err /' >&2; wait`];
}

/** Where two runs of lines part, in a few words, so that thousands of lines need not be shown; '' when they are equal. */
export function difference(actual: readonly string[], expected: readonly string[]): string {
  const i = expected.findIndex((text, at) => actual[at] !== text);
  if (i < 0 && actual.length === expected.length) return '';
  const at = i < 0 ? expected.length : i;
  return `line ${at} of ${actual.length} is ${actual.slice(at, at + 3).join(', ')} instead of ${expected[at]}; ${expected.length} expected`;
}
