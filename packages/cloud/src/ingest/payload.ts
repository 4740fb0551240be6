import { BatchDecoder, errorText, limits, MillraceError, parseHeader } from '@millrace/wire';
import { type Codec, codecOfBytes } from '../compression/codecs.ts';
import { type Admission, type Admitted, type HandedOver, sliceBytes } from './admission.ts';
import type { Coalescer } from './coalescer.ts';
import { type Flight, later } from './flight.ts';
import type { Gate } from './gate.ts';
import type { Received } from './inbound-stream.ts';

export interface PayloadContext {
  device: string;
  admission: Admission;
  coalescer: Coalescer;
  /** Counts what comes. */
  received: Received;
  /** Most bytes that a compressed payload may grow to. */
  maxInflatedBytes: number;
  /** Counts a payload, or the rest of one, that was turned away. */
  onRejected: (reason: PayloadRejection) => void;
  inflateGate: Gate;
}

export type PayloadRejection = 'bomb' | 'damaged' | 'too-large' | 'overloaded';

/** A batch of an agent's is inflated in one piece. */
const inflateChunkBytes = 128 * 1024;
/** A small message gets a small one: lines shrink to a fifteenth of their size, seldom to less. */
const leastInflateChunkBytes = 4 * 1024;
const usualGrowth = 16;

const batchStart = Buffer.from('{"batch":');
/** What is larger is read line by line: as values it would take many times its size. */
const maxValueBytes = 4 * 1024 * 1024;

/** Values of a JSON array that are admitted between two checks for room. */
const sliceValues = 500;

/**
 * Takes one message, whatever it is:
 *
 *   1f 8b …             gzip, of one or several members: an NDJSON stream as over HTTP. Of one cut short, what is
 *                       whole is kept. A damaged one is not trusted at all: a wrong line stored under a right seq
 *                       would keep out the right one.
 *   28 b5 2f fd …       zstd, of one or several frames: likewise
 *   {"batch":…}\n…      the same, uncompressed
 *   {"count","logs"}    the lines in `logs`; this and what follows may be compressed as well
 *   [ … ]               each element is a line
 *   any other JSON      one line
 *   anything else       each line of text is a line
 *
 * What is admitted goes to `collected` as it happens, so it is there when this throws, too.
 *
 * @throws MillraceError `BOMB_REFUSED` after it kept what came before the limit; `BODY_INVALID` for damaged data
 */
export async function admitPayload(
  payload: Buffer,
  context: PayloadContext,
  collected: Collected,
): Promise<void> {
  const codec = codecOfBytes(payload);
  if (codec) await admitCompressed(payload, codec, context, collected);
  else await admitPlain(payload, context, collected);
}

/** What was admitted of a message so far. */
export class Collected implements Admitted {
  after: Flight | undefined;
  readonly handed: HandedOver[] = [];

  add({ after, handed }: Admitted): void {
    this.after = later(this.after, after);
    this.handed.push(...handed);
  }
}

async function admitPlain(payload: Buffer, context: PayloadContext, collected: Collected): Promise<void> {
  const firstLine = payload.subarray(0, limits.maxHeaderLineBytes).toString().split('\n', 1)[0] ?? '';
  if (parseHeader(firstLine)) {
    await admitChunks([payload], context, collected);
    return;
  }
  const values = valuesIn(payload);
  if (values) await admitValues(values, payload.length, context, collected);
  else {
    const decoder = new BatchDecoder();
    await admitStream(payload, decoder, context, collected);
    // A last line without a newline is whole here: the message has ended, and nobody will send its rest.
    await admitStream(Buffer.from('\n'), decoder, context, collected);
  }
}

async function admitValues(
  values: readonly unknown[],
  bytes: number,
  context: PayloadContext,
  collected: Collected,
): Promise<void> {
  context.received.bytes += bytes;
  for (let from = 0; from < values.length; from += sliceValues) {
    await context.coalescer.room();
    context.received.lines += Math.min(sliceValues, values.length - from);
    collected.add(
      await context.admission.admitValues(context.device, values.slice(from, from + sliceValues)),
    );
  }
}

/** The lines of a message that is one JSON value; `undefined` when it is none. */
function valuesIn(payload: Buffer): readonly unknown[] | undefined {
  try {
    return valuesOf(JSON.parse(payload.toString()));
  } catch {
    return undefined;
  }
}

function valuesOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  if (typeof value === 'object' && value !== null && 'logs' in value && Array.isArray(value.logs)) {
    return value.logs;
  }
  return [value];
}

async function admitCompressed(
  payload: Buffer,
  codec: Codec,
  context: PayloadContext,
  collected: Collected,
): Promise<void> {
  const { maxInflatedBytes, inflateGate, onRejected } = context;
  // The gate bounds how many are held inflated at a time.
  using _permit = await inflateGate.enter();
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    const expected = Math.max(leastInflateChunkBytes, payload.length * usualGrowth);
    const decoder = codec.createDecoder(Math.min(inflateChunkBytes, expected));
    for (const piece of codec.createCutter()(payload)) decoder.write(piece);
    decoder.end();
    for await (const chunk of decoder) {
      bytes += chunk.length;
      if (bytes > maxInflatedBytes) break;
      chunks.push(chunk);
    }
  } catch (error) {
    onRejected('damaged');
    throw new MillraceError('BODY_INVALID', `damaged ${codec.name}: ${errorText(error)}`, { cause: error });
  }
  const values = isOneValue(chunks, bytes) ? valuesIn(Buffer.concat(chunks)) : undefined;
  if (values) await admitValues(values, bytes, context, collected);
  else await admitChunks(chunks, context, collected);
  if (bytes > maxInflatedBytes) {
    onRejected('bomb');
    throw new MillraceError('BOMB_REFUSED', `${payload.length} bytes grow past ${maxInflatedBytes} bytes`);
  }
}

/** Whether what was inflated may be one JSON value with lines in it, and is no batch of an agent's. */
function isOneValue([first]: readonly Buffer[], bytes: number): boolean {
  return (
    first !== undefined && bytes <= maxValueBytes && !first.subarray(0, batchStart.length).equals(batchStart)
  );
}

async function admitChunks(chunks: Buffer[], context: PayloadContext, collected: Collected): Promise<void> {
  const decoder = new BatchDecoder();
  for (const chunk of chunks) await admitStream(chunk, decoder, context, collected);
  for (const part of decoder.end()) {
    context.received.lines += part.count;
    collected.add(await context.admission.admit(context.device, part));
  }
}

async function admitStream(
  bytes: Buffer,
  decoder: BatchDecoder,
  { device, admission, coalescer, received }: PayloadContext,
  collected: Collected,
): Promise<void> {
  received.bytes += bytes.length;
  for (let from = 0; from < bytes.length; from += sliceBytes) {
    await coalescer.room();
    for (const part of decoder.push(bytes.subarray(from, from + sliceBytes))) {
      received.lines += part.count;
      collected.add(await admission.admit(device, part));
    }
  }
}
