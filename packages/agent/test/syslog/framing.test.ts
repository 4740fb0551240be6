import fc from 'fast-check';
import { expect, test } from 'vitest';
import { anyCharacter } from '../../../../tests/support/text-arbitraries.ts';
import { SyslogFraming } from '../../src/syslog/framing.ts';
import { dropsOf } from '../../src/syslog/kernel-drops.ts';

function framed(framing: SyslogFraming, chunks: readonly Buffer[]): string[] {
  const messages = chunks.flatMap((chunk) => [...framing.push(chunk)]);
  const rest = framing.rest();
  return [...messages, ...(rest ? [rest] : [])].map(String);
}

function split(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return places.slice(1).map((place, i) => bytes.subarray(places[i], place));
}

test('messages in either framing, mixed and split anywhere, come out as they went in', () => {
  const priority = fc.nat(191).map((value) => `<${value}>`);
  const line = fc.stringMatching(/^[ -~äöü€]{0,60}$/);
  const block = fc.string({ unit: anyCharacter, maxLength: 60 }).map((text) => text.toWellFormed());
  const message = fc.oneof(
    fc.tuple(priority, line).map(([head, text]) => ({ text: head + text, end: '\n', isCounted: false })),
    fc.tuple(priority, line).map(([head, text]) => ({ text: head + text, end: '\0', isCounted: false })),
    fc.tuple(priority, block).map(([head, text]) => ({ text: head + text, end: '', isCounted: true })),
    fc.stringMatching(/^[a-z][ -~]{0,30}$/).map((text) => ({ text, end: '\n', isCounted: false })),
    // Begins as a length does.
    fc.stringMatching(/^[0-9]{1,12}( [a-z]{0,5})?$/).map((text) => ({ text, end: '\n', isCounted: false })),
  );
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 20 }),
      fc.array(fc.nat(), { maxLength: 30 }),
      (messages, cuts) => {
        const bytes = Buffer.concat(
          messages.map(({ text, end, isCounted }) =>
            Buffer.from(isCounted ? `${Buffer.byteLength(text)} ${text}` : `${text}${end}`),
          ),
        );
        expect(framed(new SyslogFraming(), split(bytes, cuts))).toEqual(messages.map(({ text }) => text));
      },
    ),
    { numRuns: 300 },
  );
});

test('of a message that is too long the beginning is kept, and the next one is whole', () => {
  const long = `<14>${'x'.repeat(500)}`;
  const framing = () => new SyslogFraming({ maxBytes: 104 });
  const cut = `<14>${'x'.repeat(100)}… [truncated 400 bytes]`;
  const lines = Buffer.from(`${long}\n<14>next\n`);
  expect(framed(framing(), [lines])).toEqual([cut, '<14>next']);
  expect(
    framed(
      framing(),
      [...lines].map((byte) => Buffer.of(byte)),
    ),
  ).toEqual([cut, '<14>next']);
  const counted = Buffer.from(`504 ${long}8 <14>next`);
  expect(framed(framing(), [counted])).toEqual([cut, '<14>next']);
});

test('what a sender broke off is kept', () => {
  expect(framed(new SyslogFraming(), [Buffer.from('<14>one\n<14>two')])).toEqual(['<14>one', '<14>two']);
  expect(framed(new SyslogFraming(), [Buffer.from('100 <14>short')])).toEqual(['<14>short']);
  expect(framed(new SyslogFraming(), [Buffer.from('12')])).toEqual(['12']);
  expect(framed(new SyslogFraming(), [Buffer.from('\n\n')])).toEqual([]);
});

test("the kernel's count of dropped datagrams is read from its table", () => {
  const table = [
    '   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops',
    '  100: 0100007F:158A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1234 2 0000000000000000 17',
    '  101: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1235 2 0000000000000000 99',
  ].join('\n');
  expect(dropsOf(table, 5514)).toBe(17);
  expect(dropsOf(table, 514)).toBe(0);
  expect(dropsOf('', 5514)).toBe(0);
});
