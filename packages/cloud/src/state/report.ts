import { type DeviceState, maxRecentLogs, metricKeys } from '@millrace/wire';
import * as z from 'zod';

const text = (most: number) =>
  z
    .string('must be a text')
    .max(most, `must have at most ${most} characters`)
    // The database keeps no NUL; others would disturb a terminal.
    .regex(/^\P{Cc}*$/u, 'must have no control characters');

const words = text(1000).nullable().optional();
const number = z.number('must be a number').nullable().optional();
const flag = z.boolean('must be true or false').nullable().optional();

const record = <T extends z.ZodType>(values: T, most: number) =>
  z
    .record(text(200), values, 'must be an object')
    .refine((all) => Object.keys(all).length <= most, `must have at most ${most} keys`);

const service = z.object({
  image: text(1000).default(''),
  status: text(200).default('Unknown'),
  download_progress: z.number('must be a number').nullable().optional(),
  error: text(2000).optional(),
});

const app = z.object({
  name: text(200).optional(),
  release_uuid: text(200).optional(),
  releases: record(
    z.object({
      update_status: text(200).optional(),
      error: text(2000).optional(),
      services: record(service, 500).default({}),
    }),
    10,
  ).default({}),
});

/** What a device says of itself. Keys that are not known here are left alone: other devices say more. */
export const reportSchema = z.object({
  name: text(200).nullable().optional(),
  status: words,
  is_online: flag,
  os_version: words,
  os_variant: words,
  supervisor_version: words,
  agent_version: words,
  architecture: words,
  ip_address: words,
  mac_address: words,
  cpu_id: words,
  storage_block_device: words,
  cpu_usage: number,
  cpu_temp: number,
  memory_usage: number,
  memory_total: number,
  storage_usage: number,
  storage_total: number,
  is_undervolted: flag,
  uptime: number,
  apps: record(app, 100).nullable().optional(),
  // What a line holds is left to the ingest, which takes them from anybody.
  recent_logs: z
    .array(z.looseObject({ message: z.string('must be a text') }), 'must be an array of lines')
    .max(maxRecentLogs, `must have at most ${maxRecentLogs} lines`)
    .optional(),
});

export type Report = z.output<typeof reportSchema>;

export interface Reported {
  /** The state after the report. */
  state: DeviceState;
  /** What a person would call a change: none of the metrics, and not how far a download is. */
  changes: DeviceState;
}

/** What a device's state is after a report. */
export function afterReport(before: DeviceState, { recent_logs: _, ...report }: Report): Reported {
  const state: Record<string, unknown> = { ...before };
  const changes: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(report)) {
    if (value === undefined) continue;
    const isChange = !metrics.has(key) && comparable(value) !== comparable(state[key] ?? null);
    if (isChange) changes[key] = value;
    if (value === null) delete state[key];
    else state[key] = value;
  }
  return { state: state as DeviceState, changes: changes as DeviceState };
}

const metrics: ReadonlySet<string> = new Set(metricKeys);

/** The same text for what is the same to people, in whatever order the keys came. */
function comparable(value: unknown): string {
  return JSON.stringify(value, (key, part: unknown) => {
    if (key === 'download_progress') return undefined;
    if (typeof part !== 'object' || part === null || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
