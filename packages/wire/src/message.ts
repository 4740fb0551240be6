import { defaultLevel, type Level, levelOfValue } from './levels.ts';
import { limits } from './limits.ts';
import { truncateUtf8, utf8Length } from './text.ts';
import { maxTimeMs } from './time.ts';

/** Where a line came from: a container, the device's operating system, or the agent itself. */
export const sourceTypes = ['container', 'system', 'manager'] as const;
export type SourceType = (typeof sourceTypes)[number];

export interface LogSource {
  type: SourceType;
  name: string;
}

/** One log line, as every API, topic and file of Millrace shows it. */
export interface LogMessage {
  /** Unique: `<journal>-<seq>` for a line from a journal. */
  id: string;
  message: string;
  /** Milliseconds since 1970, UTC. */
  timestamp: number;
  level: Level;
  source: LogSource;
  serviceId?: number;
  serviceName?: string;
  containerId?: string;
  isStdErr: boolean;
  isSystem: boolean;
  /** The application (or compose project) that the service belongs to. */
  appId?: number | string;
  /** 1, 2, 3 … within the device's journal. */
  seq?: number;
  /** Structured values parsed out of the line. */
  fields?: Record<string, unknown>;
}

/** What a caller must give to log a line; the rest has defaults. */
export type LogInput = Pick<LogMessage, 'message'> & Partial<LogMessage>;

/** The `id` of line `seq` of a journal. */
export function lineId(journal: string, seq: number): string {
  return `${journal}-${seq}`;
}

/** Takes a line's id apart again; `undefined` when it was not made by {@link lineId}. */
export function parseLineId(id: unknown): { journal: string; seq: number } | undefined {
  if (typeof id !== 'string') return undefined;
  const match = /^([0-9a-z]{8,40})-([1-9][0-9]{0,15})$/.exec(id);
  if (!match) return undefined;
  const seq = Number(match[2]);
  return Number.isSafeInteger(seq) ? { journal: match[1] as string, seq } : undefined;
}

/** Fills in the defaults of a line that is complete but for them. Used for lines that we wrote ourselves. */
export function completeMessage(line: Partial<LogMessage>, journal?: string, seq?: number): LogMessage {
  const isStdErr = line.isStdErr ?? false;
  const source = line.source ?? {
    type: line.isSystem ? 'system' : 'container',
    name: line.serviceName ?? (line.isSystem ? 'system' : 'unknown'),
  };
  const number = line.seq ?? seq;
  return {
    id: line.id ?? (journal !== undefined && number !== undefined ? lineId(journal, number) : ''),
    message: line.message ?? '',
    timestamp: line.timestamp ?? 0,
    level: line.level ?? defaultLevel(isStdErr),
    source,
    ...(line.serviceId !== undefined && { serviceId: line.serviceId }),
    ...(line.serviceName !== undefined && { serviceName: line.serviceName }),
    ...(line.containerId !== undefined && { containerId: line.containerId }),
    isStdErr,
    isSystem: line.isSystem ?? false,
    ...(line.appId !== undefined && { appId: line.appId }),
    ...(number !== undefined && { seq: number }),
    ...(line.fields !== undefined && { fields: line.fields }),
  };
}

/**
 * One compact JSON object, without a newline: keys at their default are left out, and so are `id` and `seq`,
 * which follow from the batch header. The message is made well-formed Unicode and cut to
 * `limits.maxMessageBytes`; a line whose escapes would still push it over `limits.maxEncodedLineBytes` is cut
 * further. `fields` that cannot be encoded, or are too large, are dropped rather than the line.
 */
export function encodeLine(line: LogInput): string {
  const isStdErr = line.isStdErr ?? false;
  const out: Record<string, unknown> = {
    timestamp: isTime(line.timestamp) ? Math.floor(line.timestamp) : Date.now(),
    message: truncateUtf8(line.message.toWellFormed(), limits.maxMessageBytes),
  };
  if (line.level !== undefined && line.level !== defaultLevel(isStdErr)) out.level = line.level;
  if (isStdErr) out.isStdErr = true;
  if (line.isSystem) out.isSystem = true;
  if (line.serviceName !== undefined) out.serviceName = line.serviceName;
  if (line.serviceId !== undefined) out.serviceId = line.serviceId;
  if (line.containerId !== undefined) out.containerId = line.containerId;
  if (line.appId !== undefined) out.appId = line.appId;
  const { source } = line;
  const impliedType = line.isSystem ? 'system' : 'container';
  if (source && (source.type !== impliedType || source.name !== (line.serviceName ?? 'unknown'))) {
    out.source = { type: source.type, name: source.name };
  }
  if (line.fields !== undefined) out.fields = line.fields;
  return fit(out);
}

function fit(out: Record<string, unknown>): string {
  let text: string;
  try {
    text = JSON.stringify(out);
  } catch {
    // A cycle or a BigInt in `fields`: the line matters more than its parsed values.
    delete out.fields;
    text = JSON.stringify(out);
  }
  // Three bytes is the most that one UTF-16 unit takes, so most lines need no exact count.
  if (text.length * 3 <= limits.maxEncodedLineBytes || utf8Length(text) <= limits.maxEncodedLineBytes) {
    return mendSurrogates(text);
  }
  if (out.fields !== undefined) {
    delete out.fields;
    return fit(out);
  }
  // A byte of text becomes at most six bytes of JSON (`\u0000`), so a sixth always fits.
  out.message = truncateUtf8(String(out.message), Math.floor((limits.maxEncodedLineBytes - 4096) / 6));
  for (const key of ['serviceName', 'containerId', 'appId']) {
    if (typeof out[key] === 'string') out[key] = truncateUtf8(out[key] as string, 512);
  }
  const source = out.source as LogSource | undefined;
  if (source) source.name = truncateUtf8(source.name, 512);
  return mendSurrogates(JSON.stringify(out));
}

/**
 * JSON.stringify writes a lone surrogate as an escape, which JSON.parse reads and other parsers refuse. In its
 * place goes U+FFFD, as it would in UTF-8. Other escapes are stepped over, so that `\\ud800` (a backslash and
 * some letters) stays.
 */
function mendSurrogates(json: string): string {
  if (!json.includes('\\ud')) return json;
  return json.replace(/\\(?:(ud[89a-f][0-9a-f]{2})|.)/g, (found, surrogate) =>
    surrogate ? '\ufffd' : found,
  );
}

/**
 * Turns whatever a stranger sent as one log line into a LogMessage: balena devices, Node-RED flows, a shell.
 * Wrong types are repaired or set aside, never refused: text is taken from `message`, `msg`, `log` or `text`;
 * a time may be milliseconds, seconds, nanoseconds or an ISO string; a level may be spelled as other loggers
 * do, in words or numbers, and be called `severity` or `lvl`. A value that is no object becomes the message itself.
 *
 * @param value parsed JSON, or a string of raw text
 * @param receivedMs stands in for a missing or impossible time
 */
export function normaliseMessage(value: unknown, receivedMs: number): LogMessage {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const text = typeof value === 'string' ? value : jsonOf(value);
    return completeMessage({ message: clean(text), timestamp: receivedMs });
  }
  const line = value as Record<string, unknown>;
  const isStdErr = line.isStdErr === true || line.stream === 'stderr';
  const isSystem = line.isSystem === true;
  const serviceName = textOf(line.serviceName) ?? textOf(line.service);
  const source = sourceOf(line.source);
  const fields = line.fields;
  return completeMessage({
    id: textOf(line.id),
    message: clean(messageOf(line)),
    timestamp: timeOf(line.timestamp ?? line.time ?? line.ts, receivedMs),
    level: givenLevel(line) ?? defaultLevel(isStdErr),
    source,
    serviceId: Number.isSafeInteger(line.serviceId) ? (line.serviceId as number) : undefined,
    serviceName,
    containerId: textOf(line.containerId),
    isStdErr,
    isSystem,
    appId: Number.isSafeInteger(line.appId) ? (line.appId as number) : textOf(line.appId),
    seq: Number.isSafeInteger(line.seq) && (line.seq as number) > 0 ? (line.seq as number) : undefined,
    fields:
      typeof fields === 'object' && fields !== null && !Array.isArray(fields) && canEncode(fields)
        ? (fields as Record<string, unknown>)
        : undefined,
  });
}

/** The first that says one: `severity` is also what some programs call how urgent an incident is. */
function givenLevel(line: Record<string, unknown>): Level | undefined {
  return levelOfValue(line.level) ?? levelOfValue(line.severity) ?? levelOfValue(line.lvl);
}

function clean(text: string): string {
  return truncateUtf8(text.toWellFormed(), limits.maxMessageBytes);
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'number' && Number.isFinite(value)) return String(value);
  if (typeof value !== 'string' || value === '') return undefined;
  return truncateUtf8(value.toWellFormed(), 512);
}

function messageOf(line: Record<string, unknown>): string {
  for (const key of ['message', 'msg', 'log', 'text']) {
    const value = line[key];
    if (typeof value === 'string') return value;
    if (value !== undefined && value !== null) return jsonOf(value);
  }
  return jsonOf(line);
}

/** JSON.parse reads any depth, JSON.stringify does not: a stranger's value may be one that only the first can walk. */
function canEncode(value: unknown): boolean {
  try {
    JSON.stringify(value);
    return true;
  } catch {
    return false;
  }
}

function jsonOf(value: unknown): string {
  return canEncode(value) ? (JSON.stringify(value) ?? '') : '[a value nested too deeply to show]';
}

function sourceOf(value: unknown): LogSource | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { type, name } = value as Record<string, unknown>;
  const known = sourceTypes.find((candidate) => candidate === type);
  return known ? { type: known, name: textOf(name) ?? known } : undefined;
}

function isTime(value: number | undefined): value is number {
  return value !== undefined && value >= 0 && value < maxTimeMs;
}

function timeOf(value: unknown, receivedMs: number): number {
  let ms = typeof value === 'number' ? value : Number.NaN;
  if (typeof value === 'string' && value !== '') {
    ms = Number(value);
    if (Number.isNaN(ms)) ms = Date.parse(value);
  }
  if (!Number.isFinite(ms) || ms <= 0) return receivedMs;
  if (ms > 1e17)
    ms /= 1e6; // nanoseconds
  else if (ms > 1e14)
    ms /= 1e3; // microseconds
  else if (ms < 1e11) ms *= 1e3; // seconds
  ms = Math.floor(ms);
  return ms < maxTimeMs ? ms : receivedMs;
}
