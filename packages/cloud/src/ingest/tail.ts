import {
  defaultLevel,
  fieldsOf,
  type LogMessage,
  type LogSource,
  lineId,
  parseLevel,
  type StoredLine,
  sourceTypes,
} from '@millrace/wire';
import { forEachRowLine } from '../store/row-format.ts';
import type { EncodedRun } from './flight.ts';

/** Lines that were admitted just now; they are on their way to disk. */
export class AdmittedLines {
  readonly device: string;
  readonly journal: string;
  readonly firstSeq: number;
  readonly count: number;
  readonly receivedAt: number;
  readonly #rows: Buffer;
  #messages: StoredLine[] | undefined;

  constructor(run: EncodedRun, receivedAt: number) {
    this.device = run.device;
    this.journal = run.journal;
    this.firstSeq = run.firstSeq;
    this.count = run.count;
    this.receivedAt = receivedAt;
    // Those of the run are written over once it is committed, and a listener may come back to its lines later.
    this.#rows = Buffer.from(run.rows);
  }

  /** The lines as a search will return them. Decoded at the first call, and shared by all callers: don't change them. */
  messages(): readonly StoredLine[] {
    this.#messages ??= this.#decode();
    return this.#messages;
  }

  #decode(): StoredLine[] {
    const decoder = new TextDecoder();
    const out: StoredLine[] = [];
    forEachRowLine(this.#rows, (line, index) => {
      const seq = this.firstSeq + index;
      out.push({
        id: lineId(this.journal, seq),
        ...decodeLine(decoder.decode(line), this.receivedAt),
        seq,
        device: this.device,
        receivedAt: this.receivedAt,
      });
    });
    return out;
  }
}

export type TailListener = (lines: AdmittedLines) => void;

/** Reads a line as the view `log_reshape` does (migrations/0001-logs.ts). A test holds the two together. */
function decodeLine(text: string, receivedMs: number): Omit<LogMessage, 'id'> {
  let line: Record<string, unknown> | undefined;
  try {
    line = JSON.parse(text);
  } catch {
    line = undefined;
  }
  // Lines are objects by the time they are rows, or no JSON at all.
  line ??= {};
  const { timestamp, source } = line;
  const isStdErr = line.isStdErr === true;
  const isSystem = line.isSystem === true;
  const serviceName = textOf(line.serviceName);
  const containerId = textOf(line.containerId);
  const app = textOf(line.appId);
  const message = textOf(line.message) ?? (line.message === '' ? '' : text);
  const fields = givenFields(line.fields) ?? fieldsOf(message);
  return {
    message,
    timestamp: isTime(timestamp) ? Math.trunc(timestamp) : receivedMs,
    level: parseLevel(line.level) ?? defaultLevel(isStdErr),
    source: sourceOf(source, isSystem, serviceName),
    ...(Number.isSafeInteger(line.serviceId) && { serviceId: line.serviceId as number }),
    ...(serviceName !== undefined && { serviceName }),
    ...(containerId !== undefined && { containerId }),
    isStdErr,
    isSystem,
    ...(app !== undefined && { appId: /^[1-9][0-9]{0,14}$/.test(app) ? Number(app) : app }),
    ...(fields && { fields }),
  };
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < 9_877_000_000_000;
}

function textOf(value: unknown): string | undefined {
  if (value === undefined || value === null || value === '') return undefined;
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function sourceOf(value: unknown, isSystem: boolean, serviceName: string | undefined): LogSource {
  const { type, name } = (typeof value === 'object' && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  return {
    type: sourceTypes.find((known) => known === type) ?? (isSystem ? 'system' : 'container'),
    name: textOf(name) ?? serviceName ?? (isSystem ? 'system' : 'unknown'),
  };
}

function givenFields(value: unknown): Record<string, unknown> | undefined {
  let fields = value;
  if (typeof value === 'string' && value.startsWith('{')) {
    try {
      fields = JSON.parse(value);
    } catch {
      return undefined;
    }
  }
  return typeof fields === 'object' && fields !== null && !Array.isArray(fields)
    ? (fields as Record<string, unknown>)
    : undefined;
}
