import { limits, truncateUtf8 } from '@millrace/wire';

/** A line that has begun and waits for its newline. */
export class OpenLine {
  readonly second: number;
  readonly nano: number;
  /** It was read before, or is older than what is wanted. */
  isOld: boolean;
  private readonly pieces: string[] = [];
  private length = 0;
  /** Bytes of the pieces beyond what is kept of a line. */
  private cutBytes = 0;

  constructor({ second, nano }: { second: number; nano: number }, isOld: boolean) {
    this.second = second;
    this.nano = nano;
    this.isOld = isOld;
  }

  add(piece: string): void {
    if (this.length < limits.maxReceivedLineBytes) {
      this.pieces.push(piece);
      this.length += piece.length;
    } else this.cutBytes += Buffer.byteLength(piece);
  }

  get text(): string {
    const joined = this.pieces.join('');
    return this.cutBytes > 0 ? truncateUtf8(joined, limits.maxMessageBytes, this.cutBytes) : joined;
  }
}
