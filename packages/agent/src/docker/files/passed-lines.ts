import { type DockerPosition, type LogStream, Resume } from '../position.ts';
import { nanosOf } from './entry.ts';
import { isLater, type StreamProgress, timeOf } from './progress.ts';

/**
 * Which lines are passed over: those that an earlier process has handed on, and those that are older than what is
 * wanted.
 */
export class PassedLines {
  private resume: Resume | undefined;
  private sinceSecond = 0;
  private sinceNano = 0;

  /** Everything is new, but for what the streams know themselves. */
  clear(): void {
    this.resume = undefined;
    this.sinceSecond = this.sinceNano = 0;
  }

  beginByMarks(
    marks: DockerPosition | undefined,
    since: string,
    rotated: ReadonlySet<LogStream> | undefined,
  ): void {
    this.resume = marks && new Resume(marks, rotated);
    [this.sinceSecond, this.sinceNano] = timeOf(since);
  }

  /** A stream went on behind the line read last without showing it: that was rotated away, and maybe others. */
  get hasJumped(): boolean {
    return this.resume?.hasJumped ?? false;
  }

  /** The streams whose line read last has not been seen. */
  unmatched(): LogStream[] {
    return this.resume?.unmatched() ?? [];
  }

  /** Whether a line that has ended is passed over. To be asked once for each. */
  has(stream: StreamProgress, second: number, nano: number): boolean {
    if (stream.past > 0) {
      stream.past--;
      return true;
    }
    return this.isTooOld(stream, second, nano) || this.wasRead(stream.name, second, nano);
  }

  /** By the marks alone. To be asked once for each line. */
  wasRead(stream: LogStream, second: number, nano: number): boolean {
    return this.resume !== undefined && this.resume.readBefore(stream, nanosOf(second, nano)) > 0;
  }

  isTooOld(stream: StreamProgress, second: number, nano: number): boolean {
    if (!isLater(this.sinceSecond, this.sinceNano, second, nano)) return false;
    return stream.read.isEmpty || !this.resume;
  }
}
