import { readFileSync } from 'node:fs';
import { readdir, readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { DeviceMetrics } from '@millrace/wire';

export interface SystemMeterOptions {
  /** A folder on the file system whose room counts. */
  dataDir: string;
  /** Where `proc` and `sys` lie; for tests. Default `/`. */
  root?: string;
}

interface CpuTimes {
  busy: number;
  all: number;
}

const mb = 1024 * 1024;

/**
 * Measures the machine from the kernel's own files: no program is started and no library loaded for it (decision 20).
 * In a container, too, `/proc/stat`, `/proc/meminfo` and `/sys` are those of the machine. What a machine does not tell
 * is left out.
 */
export class SystemMeter {
  readonly #dataDir: string;
  readonly #root: string;
  /** As of the reading before: a share of time is between two of them. */
  #before: CpuTimes | undefined;

  constructor({ dataDir, root = '/' }: SystemMeterOptions) {
    this.#dataDir = dataDir;
    this.#root = root;
    this.#before = this.#cpuTimes();
  }

  async read(): Promise<DeviceMetrics> {
    const [storage, temperature, undervolted] = await Promise.all([
      this.#storage(),
      this.#temperature(),
      this.#undervolted(),
    ]);
    const cpu = this.#cpuUsage();
    const uptime = Number(this.#text('proc/uptime').split(' ', 1)[0] || Number.NaN);
    return {
      ...(cpu !== undefined && { cpu_usage: cpu }),
      ...this.#memory(),
      ...storage,
      ...(temperature !== undefined && { cpu_temp: temperature }),
      ...(undervolted !== undefined && { is_undervolted: undervolted }),
      ...(Number.isFinite(uptime) && { uptime: Math.round(uptime) }),
    };
  }

  /** Percent of all cores since the last call. */
  #cpuUsage(): number | undefined {
    const now = this.#cpuTimes();
    const before = this.#before;
    this.#before = now;
    if (!now || !before || now.all <= before.all) return undefined;
    return Math.round((100 * (now.busy - before.busy)) / (now.all - before.all));
  }

  /** The line `cpu` of /proc/stat, proc_stat(5): user nice system idle iowait irq softirq steal guest guest_nice. */
  #cpuTimes(): CpuTimes | undefined {
    const line = /^cpu +(.+)$/m.exec(this.#text('proc/stat'))?.[1];
    if (line === undefined) return undefined;
    // What guests take is in the first two already.
    const times = line.split(' ').map(Number).slice(0, 8);
    const all = times.reduce((sum, time) => sum + time, 0);
    return { all, busy: all - (times[3] ?? 0) - (times[4] ?? 0) };
  }

  /** proc_meminfo(5). What could be had without swapping counts as free. */
  #memory(): DeviceMetrics {
    const text = this.#text('proc/meminfo');
    const kb = (name: string) =>
      Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1] ?? Number.NaN);
    const total = kb('MemTotal');
    const available = kb('MemAvailable');
    if (!Number.isFinite(total) || !Number.isFinite(available)) return {};
    return {
      memory_total: Math.round(total / 1024),
      memory_usage: Math.round((total - available) / 1024),
    };
  }

  async #storage(): Promise<DeviceMetrics> {
    try {
      const { blocks, bfree, bsize } = await statfs(this.#dataDir);
      return {
        storage_total: Math.round((blocks * bsize) / mb),
        storage_usage: Math.round(((blocks - bfree) * bsize) / mb),
      };
    } catch {
      return {};
    }
  }

  /** The zone of the processor, or else the hottest: a board has names of its own for them. */
  async #temperature(): Promise<number | undefined> {
    const zones = await this.#named('sys/class/thermal', 'type', 'temp');
    const degrees = zones
      .map(({ name, value }) => ({ name, value: Number(value) / 1000 }))
      .filter(({ value }) => Number.isFinite(value) && value > -60 && value < 200);
    const ofCpu = degrees.filter(({ name }) => /cpu|x86_pkg|soc/i.test(name));
    const values = (ofCpu.length > 0 ? ofCpu : degrees).map(({ value }) => value);
    return values.length > 0 ? Math.round(Math.max(...values)) : undefined;
  }

  /** Raspberry Pi: the driver `rpi_volt` raises an alarm from the first time on. Linux, drivers/hwmon/raspberrypi-hwmon.c */
  async #undervolted(): Promise<boolean | undefined> {
    const chips = await this.#named('sys/class/hwmon', 'name', 'in0_lcrit_alarm');
    const pi = chips.find(({ name }) => name === 'rpi_volt');
    return pi && pi.value === '1';
  }

  /** Two files of each folder in a folder of /sys. */
  async #named(
    folder: string,
    nameFile: string,
    valueFile: string,
  ): Promise<{ name: string; value: string }[]> {
    const path = join(this.#root, folder);
    const found = await readdir(path).catch(() => []);
    const read = async (entry: string, file: string) =>
      (await readFile(join(path, entry, file), 'utf8').catch(() => '')).trim();
    const all = await Promise.all(
      found.map(async (entry) => ({
        name: await read(entry, nameFile),
        value: await read(entry, valueFile),
      })),
    );
    return all.filter(({ value }) => value !== '');
  }

  #text(path: string): string {
    try {
      return readFileSync(join(this.#root, path), 'utf8');
    } catch {
      return '';
    }
  }
}
