import { encodeHeader, encodeLine, type Level, limits } from '../packages/wire/src/index.ts';

/*
 * The lines of bench:cloud: what 200 devices with five services each print, 300 bytes apiece as agents send them. Both
 * the senders and the bare insert make them from the same two numbers, device and seq, so the rows are the same.
 */

export const deviceCount = 200;
export const lineBytes = 300;
/** As many as an agent puts into one batch. */
export const batchLines = Math.floor((limits.maxBatchBytes - limits.maxHeaderLineBytes) / (lineBytes + 1));

export interface BenchLine {
  message: string;
  timestamp: number;
  level: Level;
  isStdErr: boolean;
  serviceName: string;
  containerId: string;
}

export interface BenchBatch {
  device: number;
  firstSeq: number;
  count: number;
}

const services = ['web', 'orders', 'gateway', 'sensor-reader', 'postgres'] as const;
const firstMs = 1_790_000_000_000;

export const deviceName = (device: number) => `bench-device-${String(device).padStart(4, '0')}`;
export const deviceKey = (device: number) => `the-key-of-${deviceName(device)}`;
export const journalOf = (device: number) => `bench${String(device).padStart(11, '0')}`;

/** The batches that make up so many lines, in the order of sending: the devices take turns. */
export function* batchesOf(lines: number): Generator<BenchBatch> {
  const perDevice = Math.ceil(lines / deviceCount);
  for (let from = 0; from < perDevice; from += batchLines) {
    for (let device = 0; device < deviceCount; device++) {
      const own = Math.min(perDevice, Math.max(0, lines - device * perDevice));
      const count = Math.min(batchLines, own - from);
      if (count > 0) yield { device, firstSeq: from + 1, count };
    }
  }
}

/** A line of a device: text, logfmt or JSON, with ids and numbers that hardly repeat. */
export function benchLine(device: number, seq: number): BenchLine {
  const random = mixed(device * 1_000_003 + seq);
  const id = random.toString(16).padStart(8, '0');
  const trace = mixed(random).toString(16).padStart(8, '0');
  const service = random % services.length;
  const level: Level = random % 50 === 7 ? 'error' : random % 20 === 3 ? 'warn' : 'info';
  const line = {
    message: messageOf(service, id, trace, random, level),
    timestamp: firstMs + seq * 20 + (device % 20),
    level,
    isStdErr: level === 'error',
    serviceName: services[service] as string,
    containerId: mixed(device * 31 + service)
      .toString(16)
      .padStart(8, '0')
      .repeat(8),
  };
  const bare = encodeLine(line).length;
  return bare >= lineBytes ? line : { ...line, message: padded(line.message, lineBytes - bare, random) };
}

/** A batch as it goes onto the wire, uncompressed. */
export function encodeBatch({ device, firstSeq, count }: BenchBatch): string {
  let text = encodeHeader({ journal: journalOf(device), first: firstSeq, count, sealed: Date.now() });
  for (let i = 0; i < count; i++) text += `${encodeLine(benchLine(device, firstSeq + i))}\n`;
  return text;
}

function messageOf(service: number, id: string, trace: string, random: number, level: Level): string {
  const ms = (random % 9000) / 10;
  const order = random % 100_000;
  switch (service) {
    case 0:
      return `10.0.${random % 250}.${order % 250} - - "GET /api/v1/orders/${order}/items HTTP/1.1" ${level === 'error' ? 502 : 200} ${random % 9973} "-" rt=${ms} id=${id}`;
    case 1:
      return `{"level":"${level}","msg":"order ${order} confirmed","trace_id":"${trace}${id}","user":"user-${random % 5000}","took_ms":${ms}}`;
    case 2:
      return `level=${level} msg="upstream answered" upstream=orders-${random % 7} status=${level === 'error' ? 504 : 200} duration=${ms}ms request_id=${id}-${trace}`;
    case 3:
      return `reading stored sensor=temperature-${random % 40} value=${(random % 4000) / 100} battery=${random % 100} sample=${id}`;
    default:
      return `LOG:  duration: ${ms} ms  statement: SELECT * FROM orders WHERE id = ${order} AND region = 'r${random % 17}' -- ${trace}`;
  }
}

const words = ['retry', 'cache', 'region', 'worker', 'queue', 'shard', 'tenant', 'session', 'batch', 'node'];

/** Longer by so many bytes, with words as logs have them. */
function padded(message: string, bytes: number, random: number): string {
  let tail = '';
  for (let i = 0; tail.length < bytes; i++)
    tail += ` ${words[(random + i * 7) % words.length]}-${random % 97}`;
  const cut = tail.slice(0, bytes);
  // A JSON message stays one.
  return message.endsWith('}') ? `${message.slice(0, -1)}${' '.repeat(bytes)}}` : message + cut;
}

/** 32 bits that look random (the finalizer of MurmurHash3). */
function mixed(value: number): number {
  let hash = value >>> 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
