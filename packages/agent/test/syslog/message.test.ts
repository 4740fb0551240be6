import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readSyslog } from '../../src/syslog/message.ts';

const receivedMs = new Date(2026, 10, 20, 16, 4, 47).getTime();
const read = (text: string | Buffer, atMs = receivedMs) => readSyslog(Buffer.from(text), atMs);
const local = (...parts: [number, number, number, number, number, number]) => new Date(...parts).getTime();

interface Row {
  text: string;
  message: string;
  name?: string;
  level?: string;
  timestamp?: number;
  fields?: Record<string, unknown>;
}

const auth = { facility: 'auth' };
const table: Record<string, Row> = {
  'RFC 5424, example 1: no structured data, with a mark': {
    text: "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed for lonvick on /dev/pts/8",
    message: "'su root' failed for lonvick on /dev/pts/8",
    name: 'su',
    level: 'error',
    timestamp: Date.UTC(2003, 9, 11, 22, 14, 15, 3),
    fields: { ...auth, host: 'mymachine.example.com', messageId: 'ID47' },
  },
  'RFC 5424, example 2: microseconds and a zone': {
    text: '<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It is time to make the do-nuts.',
    message: '%% It is time to make the do-nuts.',
    name: 'myproc',
    level: 'info',
    timestamp: Date.UTC(2003, 7, 24, 12, 14, 15),
    fields: { facility: 'local4', host: '192.0.2.1', pid: 8710 },
  },
  'RFC 5424, example 3: structured data': {
    text: '<165>1 2003-10-11T22:14:15.003Z mymachine evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"] An application event',
    message: 'An application event',
    name: 'evntslog',
    fields: {
      facility: 'local4',
      host: 'mymachine',
      messageId: 'ID47',
      'exampleSDID@32473': { iut: '3', eventSource: 'Application', eventID: '1011' },
    },
  },
  'RFC 5424, example 4: structured data and no message': {
    text: '<165>1 2003-10-11T22:14:15.003Z mymachine evntslog - ID47 [a@1 x="1"][b@2 y="2"]',
    message: '',
    fields: {
      facility: 'local4',
      host: 'mymachine',
      messageId: 'ID47',
      'a@1': { x: '1' },
      'b@2': { y: '2' },
    },
  },
  'escapes in a value': {
    text: '<14>1 - - app - - [a@1 x="say \\"hi\\" \\] \\\\ \\n" x="two"] m',
    message: 'm',
    fields: { facility: 'user', 'a@1': { x: 'say "hi" ] \\ \\n, two' } },
  },
  'nothing but NILVALUEs': {
    text: '<15>1 - - - - - -',
    message: '',
    name: 'syslog',
    level: 'debug',
    timestamp: receivedMs,
    fields: { facility: 'user' },
  },
  'a time that is none': {
    text: '<14>1 2026-13-45T99:00:00Z - app - - - m',
    message: 'm',
    timestamp: receivedMs,
    fields: { facility: 'user', time: '2026-13-45T99:00:00Z' },
  },
  'structured data that is broken': {
    text: '<14>1 - - app - - [a@1 x="1 and no end',
    message: '[a@1 x="1 and no end',
    name: 'app',
  },
  'RFC 3164, example 1': {
    text: "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
    message: "'su root' failed for lonvick on /dev/pts/8",
    name: 'su',
    level: 'error',
    timestamp: local(2026, 9, 11, 22, 14, 15),
    fields: { ...auth, host: 'mymachine' },
  },
  'a process id, and a day of one digit': {
    text: '<30>Nov  3 01:02:03 pi dhcpcd[512]: wlan0: carrier lost',
    message: 'wlan0: carrier lost',
    name: 'dhcpcd',
    timestamp: local(2026, 10, 3, 1, 2, 3),
    fields: { facility: 'daemon', host: 'pi', pid: 512 },
  },
  'no host, as programs on the same machine write it': {
    text: '<13>Nov 20 16:04:47 backup[77]: done',
    message: 'done',
    name: 'backup',
    fields: { facility: 'user', pid: 77 },
  },
  'no time and no host': { text: '<11>app: broken', message: 'broken', name: 'app', level: 'error' },
  'a priority alone': { text: '<12>only text', message: 'only text', name: 'syslog', level: 'warn' },
  'no tag': {
    text: '<13>Nov 20 16:04:47 router link is up',
    message: 'link is up',
    name: 'syslog',
    fields: { facility: 'user', host: 'router' },
  },
  "rsyslog's forwarding, with a time of RFC 3339": {
    text: '<86>2026-11-20T16:04:47.123456+01:00 pi sshd[9]: Accepted',
    message: 'Accepted',
    name: 'sshd',
    timestamp: Date.UTC(2026, 10, 20, 15, 4, 47, 123),
    fields: { facility: 'authpriv', host: 'pi', pid: 9 },
  },
  'a year, and milliseconds, and a colon behind': {
    text: '<189>Nov 20 2025 16:04:47.500: %LINK-3-UPDOWN: Interface up',
    message: 'Interface up',
    name: '%LINK-3-UPDOWN',
    timestamp: local(2025, 10, 20, 16, 4, 47) + 500,
  },
  'a day that does not exist': {
    text: '<13>Feb 30 10:00:00 pi app: x',
    message: 'Feb 30 10:00:00 pi app: x',
    timestamp: receivedMs,
  },
  'a month that does not exist': {
    text: '<13>Foo 12 10:00:00 pi app: x',
    message: 'Foo 12 10:00:00 pi app: x',
  },
  'a priority that is too high': {
    text: '<192>app: x',
    message: '<192>app: x',
    level: 'info',
    name: 'syslog',
  },
  'no priority': {
    text: 'just text',
    message: 'just text',
    level: 'info',
    name: 'syslog',
  },
  nothing: { text: '', message: '', name: 'syslog' },
  'an end with a newline and a NUL': { text: '<14>app: x\n\0', message: 'x', name: 'app' },
  'several lines': { text: '<14>app: one\ntwo', message: 'one\ntwo' },
};

describe('a message is read as it was meant', () => {
  for (const [what, { text, ...expected }] of Object.entries(table)) {
    test(what, () => {
      const { source, ...line } = read(text);
      const { name, ...rest } = expected;
      expect({ ...line, name: source?.name }).toMatchObject({ ...rest, ...(name && { name }) });
      if ('fields' in expected) expect(line.fields).toEqual(expected.fields);
      expect(line).toMatchObject({ isSystem: true, serviceName: source?.name });
    });
  }
});

test('a time without a year is of the year that brings it nearest', () => {
  const newYear = local(2027, 0, 1, 0, 0, 5);
  expect(read('<13>Dec 31 23:59:58 pi app: x', newYear).timestamp).toBe(local(2026, 11, 31, 23, 59, 58));
  const oldYear = local(2026, 11, 31, 23, 59, 58);
  expect(read('<13>Jan  1 00:00:05 pi app: x', oldYear).timestamp).toBe(newYear);
  // Only a leap year has that day.
  const leap = local(2028, 2, 1, 0, 0, 0);
  expect(read('<13>Feb 29 12:00:00 pi app: x', leap).timestamp).toBe(local(2028, 1, 29, 12, 0, 0));
});

const word = fc.stringMatching(/^[!-~]{1,20}$/).filter((text) => text !== '-');
const key = fc.stringMatching(/^[A-Za-z0-9@_.]{1,10}$/);
const value = fc.string({ unit: 'grapheme', maxLength: 20 }).map((text) => text.toWellFormed());
const params = fc.dictionary(key, value, { maxKeys: 4 });
const data = fc.dictionary(
  key.map((name) => `${name}@1`),
  params,
  { maxKeys: 3 },
);

test('whatever a program says in RFC 5424 is read back', () => {
  const message = value.map((text) => text.replace(/^\ufeff/, '').replace(/[\r\n\0]+$/, ''));
  fc.assert(
    fc.property(word, word, data, message, fc.nat(191), (program, process, sd, said, priority) => {
      const escaped = (text: string) => text.replace(/["\\\]]/g, '\\$&');
      const elements = Object.entries(sd).map(
        ([id, values]) =>
          `[${id}${Object.entries(values)
            .map(([name, text]) => ` ${name}="${escaped(text)}"`)
            .join('')}]`,
      );
      const text = `<${priority}>1 2026-11-20T16:04:47Z - ${program} ${process} - ${elements.join('') || '-'} ${said}`;
      const line = read(text);
      expect(line.message).toBe(said);
      expect(line.source?.name).toBe(program);
      const { facility, pid, ...rest } = line.fields ?? {};
      expect(String(pid)).toBe(process.match(/^\d{1,10}$/) ? String(Number(process)) : process);
      expect(rest).toEqual(sd);
    }),
  );
});

test('whatever bytes come, there is a line, and text without a priority is kept whole', () => {
  const near = fc.stringMatching(/^<\d{1,3}>(1 )?[-[\]"= a:T0-9\\]{0,40}$/).map((text) => Buffer.from(text));
  const any = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(near, any), (bytes) => {
      const line = readSyslog(bytes, receivedMs);
      expect(line.source?.name).not.toBe('');
      expect(line.timestamp).toBeGreaterThanOrEqual(0);
    }),
  );
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z ,.()=-]{0,60}$/), (text) => {
      expect(read(text).message).toBe(text);
    }),
  );
});

test('a message made to be read slowly is read fast', () => {
  const sinceMs = performance.now();
  for (const text of [
    `<14>1 - - a - - ${'[a@1 '.repeat(12_000)}`,
    `<14>1 - - a - - [a@1${' x="'.repeat(15_000)}`,
    `<14>1 - - a - - [a@1${' x="y"'.repeat(10_000)}`,
    `<14>1 - - a - - [a@1 x="${'\\"'.repeat(30_000)}`,
    `<14>${'a'.repeat(60_000)}`,
    `<14>Nov 20 16:04:47 ${'a['.repeat(30_000)}`,
    `<14>x: ${'\n'.repeat(60_000)}x`,
  ]) {
    read(text);
  }
  expect(performance.now() - sinceMs).toBeLessThan(1000);
});
