import fc from 'fast-check';
import { expect, test } from 'vitest';
import { httpDate } from '../../src/device-api/http-date.ts';

test('a time reads as Node itself would write it', () => {
  const min = new Date('0000-01-01T00:00:00Z');
  const max = new Date('9999-12-31T23:59:59.999Z');
  fc.assert(
    fc.property(fc.date({ min, max, noInvalidDate: true }), (time) => {
      expect(httpDate(time)).toBe(time.toUTCString());
    }),
  );
});
