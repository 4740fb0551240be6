import { startChild } from '../child.ts';
import { cpuSeconds } from '../usage.ts';

/** What bare-reader-process.ts is told. */
export interface BareTask {
  source: 'files' | 'api';
  lines: number;
  socketPath: string;
  containerId: string;
  logPath: string;
}

/**
 * User and system time of a process that reads so many lines of a running container and does nothing with them: what no
 * agent in Node can go below.
 */
export async function measureBareReader(task: BareTask, start: () => Promise<unknown>): Promise<number> {
  await using reader = startChild('device/bare-reader-process.ts');
  await reader.answer<'ready'>();
  await start();
  const before = cpuSeconds(reader.pid);
  reader.send(task);
  await reader.answer<BareTask>();
  return cpuSeconds(reader.pid) - before;
}
