import { constants, createGunzip } from 'node:zlib';
import { BatchDecoder, errorText, limits, MillraceError, parseHeader } from '@millrace/wire';
import { type Admission, type Admitted, type HandedOver, sliceBytes } from './admission.ts';
import type { Coalescer } from './coalescer.ts';
import { type Flight, later } from './flight.ts';
import type { Gate } from './gate.ts';

export interface PayloadContext {
  device: string;
  admission: Admission;
  coalescer: Coalescer;
  /** Most bytes that a compressed payload may grow to. */
  maxInflatedBytes: number;
  /** Counts a payload, or the rest of one, that was turned away. */
  onRejected: (reason: PayloadRejection) => void;
  inflateGate: Gate;
}

export type PayloadRejection = 'bomb' | 'damaged' | 'too-large' | 'overloaded';

/** A batch of an agent's is inflated in one piece. */
const inflateChunkBytes = 128 * 1024;

/** Values of a JSON array that are admitted between two checks for room. */
const sliceValues = 500;

/**
 * Takes one message, whatever it is:
 *
 *   1f 8b …             gzip, of one or several members: an NDJSON stream as over HTTP. Of one cut short, what is
 *                       whole is kept. A damaged one is not trusted at all: a wrong line stored under a right seq
 *                       would keep out the right one.
 *   {"batch":…}\n…      the same, uncompressed
 *   {"count","logs"}    the lines in `logs`
 *   [ … ]               each element is a line
 *   any other JSON      one line
 *   anything else       each line of text is a line
 *
 * What is admitted goes to `collected` as it happens, so it is there when this throws, too.
 *
 * @throws MillraceError `BOMB_REFUSED` after it kept what came before the limit; `BODY_INVALID` for damaged gzip
 */
export async function admitPayload(
  payload: Buffer,
  context: PayloadContext,
  collected: Collected,
): Promise<void> {
  if (payload[0] === 0x1f && payload[1] === 0x8b) await admitGzip(payload, context, collected);
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
  let value: unknown;
  try {
    value = JSON.parse(payload.toString());
  } catch {
    const decoder = new BatchDecoder();
    await admitStream(payload, decoder, context, collected);
    // A last line without a newline is whole here: the message has ended, and nobody will send its rest.
    await admitStream(Buffer.from('\n'), decoder, context, collected);
    return;
  }
  const values = valuesOf(value);
  for (let from = 0; from < values.length; from += sliceValues) {
    await context.coalescer.room();
    collected.add(
      await context.admission.admitValues(context.device, values.slice(from, from + sliceValues)),
    );
  }
}

function valuesOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  if (typeof value === 'object' && value !== null && 'logs' in value && Array.isArray(value.logs)) {
    return value.logs;
  }
  return [value];
}

async function admitGzip(payload: Buffer, context: PayloadContext, collected: Collected): Promise<void> {
  const { maxInflatedBytes, inflateGate, onRejected } = context;
  // The gate bounds how many are held inflated at a time.
  using _permit = await inflateGate.enter();
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    // Z_SYNC_FLUSH at the end of the input: a stream that is cut short gives what it has instead of an error.
    const gunzip = createGunzip({ chunkSize: inflateChunkBytes, finishFlush: constants.Z_SYNC_FLUSH });
    gunzip.end(payload);
    for await (const chunk of gunzip) {
      bytes += chunk.length;
      if (bytes > maxInflatedBytes) break;
      chunks.push(chunk);
    }
  } catch (error) {
    onRejected('damaged');
    throw new MillraceError('BODY_INVALID', `damaged gzip: ${errorText(error)}`, { cause: error });
  }
  await admitChunks(chunks, context, collected);
  if (bytes > maxInflatedBytes) {
    onRejected('bomb');
    throw new MillraceError('BOMB_REFUSED', `${payload.length} bytes grow past ${maxInflatedBytes} bytes`);
  }
}

async function admitChunks(chunks: Buffer[], context: PayloadContext, collected: Collected): Promise<void> {
  const decoder = new BatchDecoder();
  for (const chunk of chunks) await admitStream(chunk, decoder, context, collected);
  for (const part of decoder.end()) collected.add(await context.admission.admit(context.device, part));
}

async function admitStream(
  bytes: Buffer,
  decoder: BatchDecoder,
  { device, admission, coalescer }: PayloadContext,
  collected: Collected,
): Promise<void> {
  for (let from = 0; from < bytes.length; from += sliceBytes) {
    await coalescer.room();
    for (const part of decoder.push(bytes.subarray(from, from + sliceBytes))) {
      collected.add(await admission.admit(device, part));
    }
  }
}
