import { type LogInput, syslogLevel, truncateUtf8 } from '@millrace/wire';
import { readStructuredData } from './structured-data.ts';
import { parseInternetTime, readTraditionalTime } from './timestamp.ts';

interface Parts {
  timeMs?: number | undefined;
  host?: string | undefined;
  program?: string | undefined;
  process?: string | undefined;
  messageId?: string | undefined;
  data?: Record<string, unknown> | undefined;
  message: string;
}

const maxNameBytes = 256;
const highestPriority = 191;
// Of a message without a priority: RFC 3164, 4.3.3.
const userNotice = 13;

const facilities =
  'kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock local0 local1 local2 local3 local4 local5 local6 local7'.split(
    ' ',
  );

/**
 * Makes a line of a syslog message, as in RFC 5424 or RFC 3164. What is as in neither is kept as it is, all of it; a
 * part that is missing or wrong costs only that part.
 *
 * @param receivedMs stands in for a time that is missing, and tells the year where there is none
 */
export function readSyslog(bytes: Buffer, receivedMs: number): LogInput {
  const text = withoutEnd(bytes.toString('utf8'));
  const match = /^<(\d{1,3})>/.exec(text);
  const isPriority = match !== null && Number(match[1]) <= highestPriority;
  const priority = isPriority ? Number(match[1]) : userNotice;
  const rest = isPriority ? text.slice(match[0].length) : text;
  // Where there is no priority, nothing says that it is syslog at all.
  const parts = isPriority ? (readModern(rest) ?? readTraditional(rest, receivedMs)) : { message: text };
  const name = truncateUtf8(parts.program ?? 'syslog', maxNameBytes);
  const fields = {
    ...(isPriority && { facility: facilities[priority >> 3] }),
    ...(parts.host !== undefined && { host: truncateUtf8(parts.host, maxNameBytes) }),
    ...(parts.process !== undefined && { pid: numberOr(parts.process) }),
    ...(parts.messageId !== undefined && { messageId: parts.messageId }),
    ...parts.data,
  };
  return {
    message: parts.message,
    timestamp: parts.timeMs ?? receivedMs,
    level: syslogLevel(priority & 7),
    source: { type: 'system', name },
    serviceName: name,
    isSystem: true,
    ...(Object.keys(fields).length > 0 && { fields }),
  };
}

const modernHeader = /^1 (\S{1,64}) (\S{1,255}) (\S{1,128}) (\S{1,128}) (\S{1,64}) /;

/** `1 TIME HOST APP PROCID MSGID [data] message`, where `-` stands for what is missing. */
function readModern(text: string): Parts | undefined {
  const match = modernHeader.exec(text);
  if (!match) return undefined;
  const [whole, time = '', host = '', program = '', process = '', messageId = ''] = match;
  const structured = readStructuredData(text, whole.length);
  const timeMs = time === '-' ? undefined : parseInternetTime(time);
  // A time that is none is kept, for whoever wants to know what it was.
  const data = time === '-' || timeMs !== undefined ? structured?.data : { ...structured?.data, time };
  const behind = structured ? text.slice(structured.end) : text.slice(whole.length);
  // Data that is broken stays in the message.
  const isWhole = structured !== undefined && (behind === '' || behind.startsWith(' '));
  return {
    timeMs,
    host: unlessNil(host),
    program: unlessNil(program),
    process: unlessNil(process),
    messageId: unlessNil(messageId),
    ...(isWhole ? { data, message: withoutMark(behind.slice(1)) } : { message: text.slice(whole.length) }),
  };
}

const internetTime = /^(\d{4}-\d\d-\d\dT\S{8,32}) /;
const tag = /^([^\s:[\]]{1,128})(?:\[([^\]\s]{1,128})\])?:(?: |$)/;

/** `Nov 20 16:04:47 host program[pid]: message`; senders leave out any of it, or write the time as in RFC 3339. */
function readTraditional(text: string, receivedMs: number): Parts {
  const modern = internetTime.exec(text);
  const modernMs = modern ? parseInternetTime(modern[1] ?? '') : undefined;
  const time =
    modern && modernMs !== undefined
      ? { ms: modernMs, end: modern[0].length - 1 }
      : readTraditionalTime(text, receivedMs);
  // Without a time there is no header: RFC 3164, 4.3.2. Programs on the same machine do begin with their tag.
  if (!time) return { ...(readTag(text) ?? { message: text }) };
  // Cisco's devices end the time with a colon.
  const rest = text.slice(time.end).replace(/^:? ?/, '');
  const direct = readTag(rest);
  if (direct) return { timeMs: time.ms, ...direct };
  const host = /^(\S{1,255}) /.exec(rest);
  if (!host) return { timeMs: time.ms, message: rest };
  const behind = rest.slice(host[0].length);
  return { timeMs: time.ms, host: host[1], ...(readTag(behind) ?? { message: behind }) };
}

function readTag(text: string): Parts | undefined {
  const match = tag.exec(text);
  if (!match) return undefined;
  return { program: match[1], process: match[2], message: withoutMark(text.slice(match[0].length)) };
}

function unlessNil(text: string): string | undefined {
  return text === '-' ? undefined : text;
}

/** Some senders end a message with a newline or a NUL even where its length is known. */
function withoutEnd(text: string): string {
  return text.replace(/[\r\n\0]{1,8}$/, '');
}

/** The mark that says that what follows is UTF-8. */
function withoutMark(text: string): string {
  return text.startsWith('\ufeff') ? text.slice(1) : text;
}

function numberOr(text: string): number | string {
  return /^\d{1,10}$/.test(text) ? Number(text) : text;
}
