import type { StreamMark } from './position.ts';
import { isLater, nanosOf, timeOf } from './timestamp.ts';

/**
 * How far a stream has been read; see `position.ts`. Numbers, since text for each line would cost more than all
 * else that is done with it.
 */
export class Mark {
  second = -1;
  nano = -1;
  n = 0;
  private maxSecond = -1;
  private maxNano = -1;
  private part: number | undefined;

  static of(saved: StreamMark | undefined): Mark {
    const mark = new Mark();
    if (!saved) return mark;
    [mark.second, mark.nano] = timeOf(saved.last);
    mark.n = saved.n;
    mark.part = saved.part;
    if (saved.max !== undefined) [mark.maxSecond, mark.maxNano] = timeOf(saved.max);
    return mark;
  }

  get isEmpty(): boolean {
    return this.second < 0;
  }

  /** Its time, in ms since 1970; negative when it is empty. */
  get ms(): number {
    return this.second * 1000 + Math.floor(this.nano / 1e6);
  }

  /** What `advance` of `position.ts` does. */
  advance(second: number, nano: number, part: number | undefined): void {
    if (second === this.second && nano === this.nano) {
      if (this.part === undefined) this.n++;
    } else {
      if (isLater(this.second, this.nano, this.maxSecond, this.maxNano)) {
        this.maxSecond = this.second;
        this.maxNano = this.nano;
      }
      this.second = second;
      this.nano = nano;
      this.n = 1;
      if (!isLater(this.maxSecond, this.maxNano, second, nano)) this.maxSecond = this.maxNano = -1;
    }
    this.part = part;
  }

  copyFrom(other: Mark): void {
    this.second = other.second;
    this.nano = other.nano;
    this.n = other.n;
    this.maxSecond = other.maxSecond;
    this.maxNano = other.maxNano;
    this.part = other.part;
  }

  /** As it is saved; `undefined` before the first line. */
  saved(): StreamMark | undefined {
    if (this.isEmpty) return undefined;
    return {
      last: nanosOf(this.second, this.nano),
      n: this.n,
      ...(this.maxSecond >= 0 && { max: nanosOf(this.maxSecond, this.maxNano) }),
      ...(this.part !== undefined && { part: this.part }),
    };
  }
}
