import { expect, test } from 'vitest';
import { busyTickMs, Looks, tickMs } from '../../../src/docker/files/looks.ts';

/** When each of some looks is followed by the next, `found` saying which of them find something. */
function intervals(looks: Looks, found: boolean[]): (number | undefined)[] {
  return found.map((isFound) => {
    if (isFound) looks.found();
    return looks.next();
  });
}

const times = (count: number, isFound: boolean) => Array<boolean>(count).fill(isFound);

test('a log that never rests is looked at less often, and as before once a look found nothing', () => {
  const looks = new Looks({ lookAgainMs: Number.POSITIVE_INFINITY });
  expect(new Set(intervals(looks, times(100, true)))).toEqual(new Set([tickMs]));
  expect(new Set(intervals(looks, times(500, true)))).toEqual(new Set([busyTickMs]));
  expect(intervals(looks, [false, true, true])).toEqual([tickMs, tickMs, tickMs]);
});

test('three looks in vain leave a log to the kernel, and what it tells of is looked at soon', () => {
  const looks = new Looks({ lookAgainMs: Number.POSITIVE_INFINITY });
  const left = [tickMs, tickMs, tickMs, undefined, undefined];
  expect(intervals(looks, [true, false, false, false, false])).toEqual(left);
  expect(looks.isQuiet).toBe(true);
  looks.found();
  expect(looks.isQuiet).toBe(false);
  expect(looks.next()).toBe(tickMs);
});

test.for([
  {
    what: 'files that come and go within two of the rare looks',
    lookAgainMs: 2 * busyTickMs - 1,
    ms: tickMs,
  },
  { what: 'files that come and go within a tick', lookAgainMs: 2.5, ms: 2.5 },
])('$what are looked at as often as ever', ({ lookAgainMs, ms }) => {
  const looks = new Looks({ lookAgainMs });
  expect(looks.hasTime).toBe(false);
  expect(looks.isHurried).toBe(ms < tickMs);
  expect(new Set(intervals(looks, times(300, true)))).toEqual(new Set([ms]));
});
