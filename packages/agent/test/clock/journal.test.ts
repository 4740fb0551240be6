import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Journal, type JournalOptions } from '../../src/journal/journal.ts';
import { queryJournal } from '../../src/journal/query.ts';
import type { Feed, LogMessage } from '../../src/logging/types.ts';
import { CrashDisk } from '../journal/crash-disk.ts';
import { TestDevice } from './test-device.ts';

function open(device: TestDevice, disk: CrashDisk, options: JournalOptions = {}): Journal {
  return new Journal({ disk, clock: device.clock(), syncIntervalMs: 1, ...options });
}

/** So many lines, or everything the cursor hands out within a moment. */
async function read(cursor: Feed, count = Number.POSITIVE_INFINITY): Promise<LogMessage[]> {
  const lines: LogMessage[] = [];
  const idle = AbortSignal.timeout(Number.isFinite(count) ? 10_000 : 100);
  while (lines.length < count) {
    const batch = await cursor.next(idle);
    if (!batch) break;
    lines.push(...batch.messages());
  }
  return lines;
}

test('lines written before the clock was set carry their true time in the end', async () => {
  const device = new TestDevice();
  device.reboot(0);
  const disk = new CrashDisk();
  await using journal = open(device, disk);
  const written: number[] = [];
  const write = (message: string) => {
    journal.append({ message, timestamp: device.wallMs() });
    written.push(device.trueMs);
  };
  device.pass(20_000);
  write('before');
  await journal.flush();
  device.pass(1_000);
  write('still before');
  const late = { message: 'read late', timestamp: device.wallMs() };
  written.push(device.trueMs);
  const history = { message: 'of an earlier boot', timestamp: device.trueMs - 86_400_000 };
  journal.append(history);
  written.splice(2, 0, history.timestamp);
  device.pass(1_000);
  device.set();
  journal.append(late);
  write('after');
  await journal.flush();

  const sent = await read(journal.cursor('cloud'));
  expect(sent.map((line) => line.timestamp)).toEqual(written);
  expect(sent.map((line) => line.fields)).toEqual(sent.map(() => undefined));
  expect(await queryJournal(journal, {})).toEqual(sent);
  // The header tells what to look into: by the true time as well.
  expect(await queryJournal(journal, { since: device.trueMs - 60_000 })).toHaveLength(4);
});

test('lines wait for the clock, errors and what is before them do not, and none for longer than the bound', async () => {
  const device = new TestDevice();
  device.reboot(0);
  await using journal = open(device, new CrashDisk(), { clockHoldMs: 400 });
  const cursor = journal.cursor('cloud');
  const write = async (message: string, level: 'info' | 'error' = 'info') => {
    journal.append({ message, timestamp: device.wallMs(), level });
    await journal.flush();
  };
  await write('one');
  expect(await read(cursor)).toEqual([]);
  await write('failure', 'error');
  await write('two');
  expect((await read(cursor)).map((line) => [line.message, line.fields])).toEqual([
    ['one', { clock: 'unset' }],
    ['failure', { clock: 'unset' }],
  ]);
  // Nobody sets the clock.
  expect((await cursor.next())?.messages()[0]).toMatchObject({ message: 'two', fields: { clock: 'unset' } });
  await write('three');
  expect((await read(cursor)).map((line) => line.message)).toEqual(['three']);
});

test('a reader that waits for the clock gets its lines as soon as it is set', async () => {
  const device = new TestDevice();
  device.reboot(0);
  await using journal = open(device, new CrashDisk());
  const waiting = journal.cursor('cloud').next();
  journal.append({ message: 'one', timestamp: device.wallMs() });
  await journal.flush();
  const writtenMs = device.trueMs;
  device.pass(5_000);
  device.set();
  journal.clock.check();
  expect((await waiting)?.messages()[0]?.timestamp).toBe(writtenMs);
});

test('setting the clock drops no segment for its age', async () => {
  const device = new TestDevice();
  device.reboot(0);
  await using journal = open(device, new CrashDisk(), { maxFileBytes: 300 });
  for (let n = 1; n <= 10; n++) {
    journal.append({ message: `line ${n}`, timestamp: device.wallMs() });
    await journal.flush();
  }
  const { segments } = journal.stats();
  device.set();
  for (let n = 11; n <= 20; n++) {
    journal.append({ message: `line ${n}`, timestamp: device.wallMs() });
    await journal.flush();
  }
  expect(journal.stats().segments).toBeGreaterThan(segments);
  const cursor = journal.cursor('cloud');
  expect(await read(cursor)).toHaveLength(20);
  expect(cursor.lag().lost).toBe(0);
});

interface Written {
  trueMs: number;
  /** By the clock of the device. */
  wallMs: number;
  boot: string;
}

const step = fc.oneof(
  fc.record({ do: fc.constant('write' as const), passMs: fc.integer({ min: 0, max: 20_000 }) }),
  // Stamped by the engine now, and read when the agent gets to it.
  fc.record({ do: fc.constant('stamp' as const) }),
  fc.record({ do: fc.constant('flush' as const) }),
  fc.record({ do: fc.constant('set' as const) }),
  fc.record({ do: fc.constant('restart' as const), crash: fc.boolean(), setMeanwhile: fc.boolean() }),
  fc.record({ do: fc.constant('reboot' as const), clock: fc.constantFrom('1970', 'shutdown', 'right') }),
);

test('whatever is set, restarted and rebooted when, times are true where the clock of the boot was set', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 40 }), async (steps) => {
      const device = new TestDevice();
      const disk = new CrashDisk();
      device.reboot(0);
      let journal!: Journal;
      let isSet = false;
      const setBoots = new Set<string>();
      const written = new Map<string, Written>();
      let unread: { message: string; timestamp: number }[] = [];
      const stamp = () => {
        const line = { message: `line ${written.size}`, timestamp: device.wallMs() };
        written.set(line.message, { trueMs: device.trueMs, wallMs: line.timestamp, boot: device.boot });
        unread.push(line);
      };
      const write = () => {
        stamp();
        for (const line of unread) journal.append(line);
        unread = [];
      };
      // The first thing that an agent does is to say that it started.
      const start = async () => {
        journal = open(device, disk, { maxFileBytes: 900 });
        write();
        await journal.flush();
      };
      await start();
      for (const action of steps) {
        device.pass(3_000);
        if (action.do === 'write') {
          device.pass(action.passMs);
          write();
        } else if (action.do === 'stamp') stamp();
        else if (action.do === 'flush') await journal.flush();
        else if (action.do === 'set') {
          device.set();
          isSet = true;
          write();
        } else if (action.do === 'restart') {
          if (action.crash) await journal.flush();
          await (action.crash ? journal.abandon() : journal.close());
          if (action.setMeanwhile && !isSet) {
            device.pass(3_000);
            device.set();
            isSet = true;
          }
          await start();
        } else {
          write();
          await journal.close();
          if (isSet) setBoots.add(device.boot);
          const shutdownMs = device.wallMs();
          device.pass(600_000);
          device.reboot(action.clock === '1970' ? 0 : action.clock === 'right' ? device.trueMs : shutdownMs);
          isSet = action.clock === 'right';
          device.pass(5_000);
          await start();
        }
      }
      write();
      await journal.close();
      if (isSet) setBoots.add(device.boot);
      device.pass(600_000);
      device.reboot(device.trueMs);
      await using last = open(device, disk);
      const sent = await read(last.cursor('cloud'), written.size);

      expect(sent.map((line) => line.message)).toEqual([...written.keys()]);
      for (const line of sent) {
        const { trueMs, wallMs, boot } = written.get(line.message) as Written;
        if (setBoots.has(boot)) expect(Math.abs(line.timestamp - trueMs)).toBeLessThan(1000);
        else {
          expect(line.timestamp).toBe(wallMs);
          expect(line.fields).toEqual(wallMs < Date.UTC(2025, 0, 1) ? { clock: 'unset' } : undefined);
        }
      }
    }),
    { numRuns: 100, interruptAfterTimeLimit: 30_000 },
  );
});
