import type { LogInput } from '@millrace/wire';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Journal } from '../../src/journal/journal.ts';
import { CrashDisk } from './crash-disk.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** A line as a web service prints it: 242 bytes of JSON, most of which differs from line to line. */
function requestLine(n: number): string {
  const id = (n * 2_654_435_761) % 4_294_967_296;
  const line = {
    time: new Date(1_790_000_000_000 + n * 10).toISOString(),
    level: n % 50 === 0 ? 'warn' : 'info',
    msg: `GET /api/orders/${id % 100_000} ${n % 17 === 0 ? 404 : 200}`,
    request: id.toString(16).padStart(8, '0'),
    ms: (id % 9000) / 100,
    user: `user-${id % 5000}`,
  };
  return JSON.stringify(line).padEnd(241, '.');
}

/** Runs the journal at a rate for so many seconds of its own time, three containers taking turns. */
async function measure(linesPerSecond: number, seconds: number, line: Partial<LogInput> = {}) {
  const disk = new CrashDisk();
  const journal = new Journal({ disk });
  for (let n = 1; n <= linesPerSecond * seconds; n++) {
    const containerId = String(n % 3).repeat(64);
    const position = { out: { last: `${1_790_000_000_000 + n * 10}000000`, n: 1 } };
    journal.append(
      {
        message: requestLine(n),
        timestamp: Date.now(),
        serviceName: `service-${n % 3}`,
        containerId,
        ...line,
      },
      { key: `docker:${containerId}`, value: position },
    );
    await vi.advanceTimersByTimeAsync(1000 / linesPerSecond);
  }
  await vi.advanceTimersByTimeAsync(2000);
  const stats = journal.stats();
  await journal.abandon();
  return stats;
}

test.each([100, 1000])(
  'flash wear: at %i lines a second at most 0.35 bytes are written per byte of log',
  async (rate) => {
    const { writtenPerLogByte, syncs, lines, writtenBytes } = await measure(rate, 60);
    expect(lines).toBe(rate * 60);
    expect(writtenBytes).toBeGreaterThan(lines * 5);
    expect(writtenPerLogByte).toBeLessThanOrEqual(0.35);
    expect(syncs).toBeLessThan(300);
  },
);

test('a service that prints nothing but errors does not wear the card out faster', async () => {
  const { syncs } = await measure(100, 60, { level: 'error' });
  expect(syncs).toBeLessThan(300);
});

test('a line now and then is synced at once, however long it has been going on', async () => {
  const { syncs } = await measure(0.5, 600);
  expect(syncs).toBe(300);
});
