import type { CloudLine, CloudReader } from '../tests/support/cloud.ts';
import { streamOf } from './writers.ts';

/** What became of what was written. */
export interface Account {
  written: number;
  /** Different lines of the containers in the cloud. */
  stored: number;
  /** Not stored, and in no loss record. */
  lost: number;
  /** Not stored, but in a loss record. */
  counted: number;
  /** What all loss records add up to: more than `counted` where one speaks of lines that came after all. */
  recorded: number;
  duplicated: number;
  /** Lines that come, within their container and stream, behind one that was written later. */
  outOfOrder: number;
  /** Lines with another stream or level than they were written with. */
  wrong: number;
}

export function emptyAccount(): Account {
  return { written: 0, stored: 0, lost: 0, counted: 0, recorded: 0, duplicated: 0, outOfOrder: 0, wrong: 0 };
}

export function add(into: Account, more: Account): void {
  for (const key of Object.keys(into) as (keyof Account)[]) into[key] += more[key];
}

/** Reads back everything that the containers wrote, by name how many lines each. */
export async function compare(cloud: CloudReader, writtenBy: ReadonlyMap<string, number>): Promise<Account> {
  const account = emptyAccount();
  for (const [name, written] of writtenBy) {
    account.written += written;
    const copies = new Map<number, number>();
    const latest = { stdout: 0, stderr: 0 };
    for (const line of await cloud.linesOf(name)) {
      const n = Number(new RegExp(`^${name} (\\d+)$`).exec(line.message)?.[1]);
      if (Number.isNaN(n)) {
        // Its farewell is the one other thing a container says.
        if (!line.message.startsWith(`${name} end `)) account.wrong++;
        continue;
      }
      const stream = streamOf(n);
      const isRight =
        (line.isStdErr === true) === (stream === 'stderr') &&
        line.level === (stream === 'stderr' ? 'error' : 'info') &&
        n >= 1 &&
        n <= written;
      if (!isRight) account.wrong++;
      const before = copies.get(n) ?? 0;
      copies.set(n, before + 1);
      if (before > 0) account.duplicated++;
      else if (n < latest[stream]) account.outOfOrder++;
      latest[stream] = Math.max(latest[stream], n);
    }
    account.stored += copies.size;
  }
  const missing = account.written - account.stored;
  account.recorded = await lossesOf(cloud);
  account.counted = Math.min(missing, account.recorded);
  account.lost = missing - account.counted;
  return account;
}

/** Lines that loss records speak of, whatever they were. */
async function lossesOf(cloud: CloudReader): Promise<number> {
  let sum = 0;
  let cursor: string | undefined;
  do {
    const query = new URLSearchParams({ text: 'lost', limit: '10000', ...(cursor && { cursor }) });
    const page = await cloud.get<{ logs: CloudLine[]; cursor?: string }>(`/api/v1/logs?${query}`);
    for (const { source, fields } of page.logs) {
      if (source?.type === 'manager' && typeof fields?.lost === 'number') sum += fields.lost;
    }
    cursor = page.cursor;
  } while (cursor !== undefined);
  return sum;
}
