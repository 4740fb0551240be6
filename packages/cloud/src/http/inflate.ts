import type { Readable } from 'node:stream';
import { MillraceError } from '@millrace/wire';
import type { Codec } from '../compression/codecs.ts';

export interface BombLimits {
  /** From `fromBytes` of output on, more than `ratio` bytes out for each byte in is refused. */
  fromBytes: number;
  ratio: number;
}

/**
 * What no log reaches: deflate itself ends at 1032:1, and lines with times in them stay under 100:1 however alike, with
 * zstd under 200:1.
 */
const bombLimits: readonly BombLimits[] = [
  { fromBytes: 8 * 1024 * 1024, ratio: 1000 },
  { fromBytes: 256 * 1024 * 1024, ratio: 200 },
];

/** What was read of a stream so far. */
interface Input {
  bytes: number;
  /** Of the first {@link salvageBytes}. */
  beginning: Buffer[];
}

/** Compressed bytes of a stream's beginning that are kept, to read again if they turn out damaged. */
const salvageBytes = 256 * 1024;
const salvageMaxOutputBytes = 64 * 1024 * 1024;

/**
 * The bytes of a request as they come, until it ends or `signal` is aborted; then the generator returns.
 *
 * @throws what the connection failed with, when the peer went away before the end
 */
export async function* bytesOf(source: Readable, signal: AbortSignal): AsyncGenerator<Buffer> {
  const turn = new Turn(source);
  const wake = () => turn.take();
  signal.addEventListener('abort', wake);
  try {
    while (!signal.aborted) {
      const chunk: Buffer | null = source.read();
      if (chunk) yield chunk;
      else if (source.errored) throw source.errored;
      else if (source.readableEnded) return;
      else if (source.destroyed) throw new Error('the connection was closed');
      else await turn.next();
    }
  } finally {
    signal.removeEventListener('abort', wake);
    turn.end();
  }
}

/**
 * Decompresses as it comes: what was flushed is passed on at once, members (frames) may follow one another, and an
 * input that stops in the middle gives all that can be read of it.
 *
 * Everything readable is yielded before an error is thrown.
 *
 * @throws MillraceError `BODY_INVALID` (damaged), `BOMB_REFUSED`; or what `source` failed with
 */
export async function* inflate(source: Readable, codec: Codec, signal: AbortSignal): AsyncGenerator<Buffer> {
  const zlib = codec.createDecoder(64 * 1024);
  const turn = new Turn(zlib);
  const input: Input = { bytes: 0, beginning: [] };
  // The peer may well stay connected and silent after we have seen enough.
  const enough = new AbortController();
  const stop = () => enough.abort();
  signal.addEventListener('abort', stop);
  if (signal.aborted) stop();
  const fed = feed(bytesOf(source, enough.signal), { zlib, cut: codec.createCutter(), input });
  let outputBytes = 0;
  try {
    for (;;) {
      // Also after an error: `read` still gives what was decompressed before it.
      const chunk: Buffer | null = zlib.read();
      if (chunk) {
        outputBytes += chunk.length;
        yield chunk;
        refuseBomb(input.bytes, outputBytes);
      } else if (zlib.errored) {
        const rest = await salvage(codec, input, outputBytes);
        if (rest.length > 0) yield rest;
        throw new MillraceError(
          'BODY_INVALID',
          `the ${codec.name} data is damaged; what came before the damage is kept`,
          { cause: zlib.errored },
        );
      } else if (zlib.readableEnded) break;
      else await turn.next();
    }
    // zlib takes a zero byte behind a member for padding, and all that follows it too, without a word.
    if (input.bytes > zlib.bytesWritten) {
      throw new MillraceError(
        'BODY_INVALID',
        `after the ${codec.name} data come bytes that are not ${codec.name}`,
      );
    }
    // The peer's own failure comes last, after everything that it had sent.
    const failure = await fed;
    if (failure) throw failure.error;
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
    turn.end();
    zlib.destroy();
    await fed;
  }
}

/** Writes all of `source` into `zlib`, and ends it whatever happens. Never rejects. */
async function feed(
  source: AsyncIterable<Buffer>,
  {
    zlib,
    cut,
    input,
  }: { zlib: ReturnType<Codec['createDecoder']>; cut: (chunk: Buffer) => Buffer[]; input: Input },
): Promise<{ error: unknown } | undefined> {
  try {
    for await (const chunk of source) {
      if (input.bytes + chunk.length <= salvageBytes) input.beginning.push(chunk);
      input.bytes += chunk.length;
      for (const piece of cut(chunk)) {
        await new Promise<void>((resolve) => {
          zlib.once('close', resolve);
          zlib.write(piece, () => {
            zlib.off('close', resolve);
            resolve();
          });
        });
        if (zlib.destroyed) return undefined;
      }
    }
    return undefined;
  } catch (error) {
    return { error };
  } finally {
    zlib.end();
  }
}

function refuseBomb(inputBytes: number, outputBytes: number): void {
  for (const { fromBytes, ratio } of bombLimits) {
    if (outputBytes > fromBytes && outputBytes > ratio * inputBytes) {
      throw new MillraceError('BOMB_REFUSED', `${inputBytes} bytes grew to more than ${ratio} times as many`);
    }
  }
}

/**
 * What zlib had decompressed of the failing piece is lost with its error. So the longest beginning of the input
 * that can be read is searched for, by halving: a piece that is damaged stays so when more follows. Only for
 * inputs that failed early; further on, what is lost is at most one output block that nobody was told is stored.
 */
async function salvage(codec: Codec, input: Input, yieldedBytes: number): Promise<Buffer> {
  const bytes = Buffer.concat(input.beginning);
  if (bytes.length !== input.bytes) return Buffer.alloc(0);
  let good = 0;
  let bad = bytes.length;
  let best: Buffer = Buffer.alloc(0);
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    try {
      best = await codec.decode(bytes.subarray(0, middle), salvageMaxOutputBytes);
      good = middle;
    } catch {
      bad = middle;
    }
  }
  return best.subarray(yieldedBytes);
}

/** Waits for the next thing to happen on a stream: more to read, the end, an error. */
class Turn {
  readonly #stream: Readable;
  #pending = false;
  #wake: (() => void) | undefined;

  constructor(stream: Readable) {
    this.#stream = stream;
    for (const event of events) stream.on(event, this.take);
  }

  readonly take = (): void => {
    this.#pending = true;
    this.#wake?.();
  };

  async next(): Promise<void> {
    if (!this.#pending) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    this.#pending = false;
  }

  end(): void {
    for (const event of events) this.#stream.off(event, this.take);
    // An error that nobody listens for any more would end the process.
    this.#stream.on('error', () => undefined);
  }
}

const events = ['readable', 'end', 'error', 'close'] as const;
