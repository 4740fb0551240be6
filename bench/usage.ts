import { readdirSync, readFileSync } from 'node:fs';
import { loadavg } from 'node:os';

/** User and system time of a process with all its threads, by /proc: ticks of 10 ms. */
export function cpuSeconds(pid: number): number {
  return ticksOf(`/proc/${pid}/stat`) / 100;
}

/** The same by the names of its threads: the engine names those that merge, Node those that run JavaScript. */
export function cpuSecondsByThread(pid: number): Map<string, number> {
  const out = new Map<string, number>();
  for (const id of readdirSync(`/proc/${pid}/task`)) {
    try {
      const name = readFileSync(`/proc/${pid}/task/${id}/comm`, 'utf8').trim();
      const seconds = ticksOf(`/proc/${pid}/task/${id}/stat`) / 100;
      out.set(name, (out.get(name) ?? 0) + seconds);
    } catch (error) {
      // It ended between the two looks.
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  return out;
}

export function memoryMb(pid: number, name: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024);
}

/** Other work on the machine stretches seconds, and CPU seconds too, by what it takes of caches and memory. */
export function machineLoad(): string {
  return loadavg()
    .map((value) => value.toFixed(1))
    .join(' ');
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** @param share 0.5 for the median */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN;
}

function ticksOf(path: string): number {
  const text = readFileSync(path, 'utf8');
  // The name in front may hold spaces and brackets.
  const [user, system] = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return Number(user) + Number(system);
}
