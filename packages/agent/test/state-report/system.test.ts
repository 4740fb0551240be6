import { mkdir, writeFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { differences, haveMoved } from '../../src/state-report/differences.ts';
import { systemFacts } from '../../src/state-report/system-facts.ts';
import { SystemMeter } from '../../src/state-report/system-meter.ts';

async function machine(root: string, files: Record<string, string>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
}

// As a Raspberry Pi 4 with Debian 12 shows them, shortened.
const pi = {
  'proc/stat': 'cpu  100 10 50 800 40 0 0 0 7 0\ncpu0 100 10 50 800 40 0 0 0 7 0\nintr 1\n',
  'proc/meminfo': 'MemTotal:        3884376 kB\nMemFree:          102400 kB\nMemAvailable:    2860376 kB\n',
  'proc/uptime': '4711.84 9000.12\n',
  'proc/cpuinfo': 'processor\t: 0\nModel\t\t: Raspberry Pi 4\nSerial\t\t: 10000000abcdef01\n',
  'etc/os-release': 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
  'sys/class/thermal/thermal_zone0/type': 'cpu-thermal\n',
  'sys/class/thermal/thermal_zone0/temp': '48692\n',
  'sys/class/thermal/thermal_zone1/type': 'battery\n',
  'sys/class/thermal/thermal_zone1/temp': '70000\n',
  'sys/class/hwmon/hwmon0/name': 'cpu_thermal\n',
  'sys/class/hwmon/hwmon1/name': 'rpi_volt\n',
  'sys/class/hwmon/hwmon1/in0_lcrit_alarm': '1\n',
};

test('a machine is measured from what its kernel says', async () => {
  await using dir = await tempDir();
  await machine(dir.path, pi);
  const meter = new SystemMeter({ dataDir: dir.path, root: dir.path });
  // 100 more in all, 25 of them idle and 5 waiting for a disk; guests are in `user` already.
  await machine(dir.path, { 'proc/stat': 'cpu  150 10 70 825 45 0 0 0 57 0\n' });
  expect(await meter.read()).toEqual({
    cpu_usage: 70,
    cpu_temp: 49,
    is_undervolted: true,
    memory_total: 3793,
    memory_usage: 1000,
    storage_total: expect.any(Number),
    storage_usage: expect.any(Number),
    uptime: 4712,
  });
  expect(systemFacts(dir.path)).toMatchObject({
    os_version: 'Debian GNU/Linux 12 (bookworm)',
    cpu_id: '10000000abcdef01',
    architecture: process.arch,
  });
});

test('what a machine does not tell is left out', async () => {
  await using dir = await tempDir();
  expect(await new SystemMeter({ dataDir: join(dir.path, 'none'), root: dir.path }).read()).toEqual({});
  expect(systemFacts(dir.path)).not.toHaveProperty('os_version');
});

test('this machine has memory, room and a time since its start', async () => {
  const { memory_total, memory_usage, storage_total, storage_usage, uptime } = await new SystemMeter({
    dataDir: '/tmp',
  }).read();
  expect(memory_total).toBeCloseTo(totalmem() / 1024 / 1024, -1);
  expect(memory_usage).toBeLessThan(memory_total as number);
  expect(storage_usage).toBeLessThan(storage_total as number);
  expect(uptime).toBeGreaterThan(0);
});

test('a report holds what differs, and null for what is gone', () => {
  expect(differences({}, { name: 'a', cpu_usage: 1 })).toEqual({ name: 'a', cpu_usage: 1 });
  expect(differences({ name: 'a', cpu_usage: 1, apps: {} }, { cpu_usage: 1, apps: {} })).toEqual({
    name: null,
  });
  const apps = { '1': { releases: { r: { services: {} } } } };
  expect(differences({ apps }, { apps: structuredClone(apps) })).toEqual({});
});

test('metrics have moved when they are a step away from what was reported', () => {
  const reported = { cpu_usage: 30, cpu_temp: 50, memory_usage: 400, memory_total: 1000, storage_usage: 10 };
  const moved = (change: object) => haveMoved(reported, { ...reported, ...change });
  expect(moved({})).toBe(false);
  expect(moved({ cpu_usage: 49, cpu_temp: 46, memory_usage: 499, uptime: 77 })).toBe(false);
  expect(moved({ cpu_usage: 50 })).toBe(true);
  expect(moved({ cpu_temp: 45 })).toBe(true);
  expect(moved({ memory_usage: 300 })).toBe(true);
  expect(moved({ is_undervolted: true })).toBe(true);
  expect(moved({ cpu_temp: undefined })).toBe(true);
  expect(haveMoved({}, reported)).toBe(true);
});
