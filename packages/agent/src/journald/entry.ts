import { type LogInput, syslogLevel, truncateUtf8 } from '@millrace/wire';
import { type JournalCursor, parseCursor } from './cursor.ts';

/** One entry of the journal, as far as we need it. */
export interface JournalEntry {
  cursor: JournalCursor;
  line: LogInput;
  /** Where it comes from, for choosing. */
  origin: EntryOrigin;
}

export interface EntryOrigin {
  /** Units that wrote it. */
  writers: string[];
  /** Units that it is about: systemd says when they start, stop and fail. */
  subjects: string[];
  identifier: string | undefined;
  /** Written by a container engine for one of its containers. */
  isOfContainer: boolean;
}

/** What `journalctl` is asked for. Without this list it would send fields of any size, a core dump among them. */
export const wantedFields = [
  'MESSAGE',
  'PRIORITY',
  'SYSLOG_IDENTIFIER',
  'SYSLOG_PID',
  '_PID',
  '_COMM',
  '_TRANSPORT',
  '_SYSTEMD_UNIT',
  '_SYSTEMD_USER_UNIT',
  'UNIT',
  'USER_UNIT',
  'MESSAGE_ID',
  'CONTAINER_ID_FULL',
];

const maxNameBytes = 256;
const informational = 6;

/**
 * Reads an entry of `journalctl -o json`: each field a string, an array of bytes where it is no text, `null` where
 * it was too large, or an array of those where the field is there several times. `undefined` when it is none.
 */
export function readEntry(json: string): JournalEntry | undefined {
  let fields: unknown;
  try {
    fields = JSON.parse(json);
  } catch {
    return undefined;
  }
  if (typeof fields !== 'object' || fields === null) return undefined;
  return entryOf(fields as Record<string, unknown>);
}

/**
 * What can be told of an entry that is too large to be held.
 *
 * @param ends the beginning and the end of its JSON
 */
export function readLargeEntry(ends: string, bytes: number): JournalEntry | undefined {
  const fields: Record<string, unknown> = {};
  for (const name of ['__CURSOR', '__REALTIME_TIMESTAMP', ...wantedFields]) {
    // Inside a value quotes are escaped, so this can match none.
    const value = new RegExp(`"${name}":"([^"\\\\]{0,1024})"`).exec(ends)?.[1];
    if (value !== undefined) fields[name] = value;
  }
  return entryOf({ ...fields, MESSAGE: `[an entry of ${bytes} bytes, too large to be kept]` });
}

function entryOf(fields: Record<string, unknown>): JournalEntry | undefined {
  const one = (name: string) => nameOf(fields[name]);
  const cursor = parseCursor(one('__CURSOR') ?? '');
  if (!cursor) return undefined;
  const identifier = one('SYSLOG_IDENTIFIER');
  const transport = one('_TRANSPORT');
  const priority = numberOf(one('PRIORITY')) ?? informational;
  // Of what a service prints, stderr included, journald knows nothing and says so: the line itself may know more.
  const isDefault = transport === 'stdout' && priority === informational;
  const unit = one('_SYSTEMD_UNIT');
  const userUnit = one('_SYSTEMD_USER_UNIT');
  const name = identifier ?? unit ?? one('_COMM') ?? 'system';
  const more = {
    unit: userUnit ?? unit,
    pid: numberOf(one('_PID') ?? one('SYSLOG_PID')),
    messageId: one('MESSAGE_ID'),
    transport: transport === 'kernel' ? 'kernel' : undefined,
  };
  const kept = Object.fromEntries(Object.entries(more).filter(([, value]) => value !== undefined));
  return {
    cursor,
    line: {
      message: messageOf(fields.MESSAGE),
      timestamp: Number(cursor.realtimeUs / 1000n),
      ...(!isDefault && { level: syslogLevel(priority) }),
      source: { type: 'system', name },
      serviceName: name,
      isSystem: true,
      ...(Object.keys(kept).length > 0 && { fields: kept }),
    },
    origin: {
      writers: [unit, userUnit].filter((text) => text !== undefined),
      subjects: [one('UNIT'), one('USER_UNIT')].filter((text) => text !== undefined),
      identifier,
      isOfContainer: fields.CONTAINER_ID_FULL !== undefined,
    },
  };
}

function messageOf(value: unknown): string {
  if (value === undefined) return '[an entry without a message]';
  return isSeveral(value) ? value.map(textOf).join('\n') : textOf(value);
}

/** Bytes are an array of numbers; a field that is there several times is an array of anything else. */
function isSeveral(value: unknown): value is unknown[] {
  return Array.isArray(value) && value.some((part) => typeof part !== 'number');
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) return Buffer.from(value as number[]).toString('utf8');
  return '[too large to be shown]';
}

/** A field's first value, cut to a name's length; `undefined` when there is none, or nothing in it. */
function nameOf(value: unknown): string | undefined {
  const first = isSeveral(value) ? value[0] : value;
  if (first === undefined || first === null) return undefined;
  return truncateUtf8(textOf(first), maxNameBytes) || undefined;
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
