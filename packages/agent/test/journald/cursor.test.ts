import { expect, test } from 'vitest';
import {
  isAfter,
  isSameEntry,
  type JournalCursor,
  parseCursor,
  parseJournaldPosition,
} from '../../src/journald/cursor.ts';
import { ownUnit } from '../../src/journald/units.ts';

const boots = { first: 'b1'.repeat(16), second: 'b2'.repeat(16) };

function cursor({
  s = '5e'.repeat(16),
  i = 1,
  b = boots.first,
  m = 1000,
  t = 5000,
  x = 'abc',
}): JournalCursor {
  const hex = (value: number) => value.toString(16);
  const parsed = parseCursor(`s=${s};i=${hex(i)};b=${b};m=${hex(m)};t=${hex(t)};x=${x}`);
  if (!parsed) throw new Error('no cursor');
  return parsed;
}

test('what is no position of ours is none', () => {
  const { text } = cursor({});
  expect(parseJournaldPosition({ cursor: text })).toEqual(cursor({}));
  for (const wrong of [undefined, null, text, [text], { cursor: 1 }, { cursor: 's=1;i=2' }]) {
    expect(parseJournaldPosition(wrong)).toBeUndefined();
  }
});

test('an entry that was copied to another file is the same', () => {
  expect(isSameEntry(cursor({}), cursor({ s: 'aa'.repeat(16), i: 77 }))).toBe(true);
  expect(isSameEntry(cursor({}), cursor({ i: 2, x: 'abd' }))).toBe(false);
});

test('entries are ordered by number, else by the time since booting, else by the clock', () => {
  const last = cursor({ i: 10, m: 1000, t: 5000 });
  const other = 'aa'.repeat(16);
  const rows: [Parameters<typeof cursor>[0], boolean][] = [
    [{ i: 11, m: 1, t: 1, x: '1' }, true],
    [{ i: 9, m: 9000, t: 9000, x: '1' }, false],
    [{ s: other, i: 1, m: 1001, t: 1, x: '1' }, true],
    [{ s: other, i: 99, m: 999, t: 9000, x: '1' }, false],
    [{ s: other, i: 1, b: boots.second, m: 1, t: 5001, x: '1' }, true],
    [{ s: other, i: 99, b: boots.second, m: 9000, t: 4999, x: '1' }, false],
    [{ s: other, i: 1, m: 1000, t: 5000 }, false],
  ];
  for (const [entry, expected] of rows) expect(isAfter(cursor(entry), last, undefined)).toBe(expected);
  // The present boot began with a clock that was not set.
  const unset = cursor({ s: other, b: boots.second, t: 1 });
  expect(isAfter(unset, last, boots.second)).toBe(true);
  expect(isAfter(unset, last, boots.first)).toBe(false);
});

test('our own unit is the service whose output goes to the journal', () => {
  const journalStream = '8:1234';
  const unit = (cgroup: string) => ownUnit({ cgroup, journalStream });
  expect(unit('0::/system.slice/millrace.service\n')).toBe('millrace.service');
  expect(unit('12:pids:/x\n1:name=systemd:/system.slice/millrace.service\n')).toBe('millrace.service');
  expect(unit('0::/user.slice/user@1000.service/app.slice/mill.service\n')).toBe('mill.service');
  expect(unit('0::/user.slice/user-1000.slice/session-3.scope\n')).toBeUndefined();
  expect(ownUnit({ cgroup: '0::/system.slice/cron.service\n', journalStream: undefined })).toBeUndefined();
});
