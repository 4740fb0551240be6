import { expect, test } from 'vitest';
import { DeviceClock } from '../../src/clock/device-clock.ts';
import { readJournal } from '../../src/journal/inspect.ts';
import { Journal } from '../../src/journal/journal.ts';
import { CrashDisk } from './crash-disk.ts';

test('a copied-off journal is read with the true times of its lines', async () => {
  const trueBootMs = Date.UTC(2026, 10, 20);
  let sinceBootMs = 5000;
  let offset = 0;
  const clock = new DeviceClock({
    boot: 'abc',
    wallMs: () => offset + sinceBootMs,
    sinceBootMs: () => sinceBootMs,
    tickMs: () => sinceBootMs,
  });
  const disk = new CrashDisk();
  const journal = new Journal({ disk, clock, syncIntervalMs: 1 });
  journal.append({ message: 'in 1970', timestamp: clock.wallMs });
  await journal.flush();
  sinceBootMs += 60_000;
  offset = trueBootMs;
  journal.append({ message: 'clock set', timestamp: clock.wallMs });
  await journal.close();

  expect([...readJournal(disk)].map((line) => [line.message, line.timestamp])).toEqual([
    ['in 1970', trueBootMs + 5000],
    ['clock set', trueBootMs + 65_000],
  ]);
});
