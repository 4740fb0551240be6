import type {
  AppChange,
  DeviceTargetInfo,
  FleetTargetInfo,
  RolloutInfo,
  TargetHistoryEntry,
  WantedApp,
} from '@millrace/wire';
import * as z from 'zod';
import { cursorSchema } from './paging.ts';

const ms = z.number().describe('In ms since 1970.');

const wanted = {
  appId: z.number(),
  appName: z.string().nullable(),
  release: z.object({
    id: z.number().describe('Counts the releases of this cloud.'),
    uuid: z.string(),
    createdAt: ms,
    createdBy: z.string().describe('Name of the token that made it.'),
  }),
  services: z.array(z.object({ serviceName: z.string(), imageName: z.string() })),
  app: z.unknown().optional().describe('The app as it was given. For admins alone.'),
};
const wantedSchema = z.object(wanted) satisfies z.ZodType<WantedApp>;

const state = z
  .enum(['waiting', 'updating', 'done', 'failed'])
  .describe(
    '`waiting`: it has not got, or not come for it. `failed`: it went back, gave up, or took too long.',
  );
const progress = {
  state,
  updateStatus: z.string().nullable().describe('As the device says it.'),
  error: z.string().nullable(),
  downloadProgress: z.number().nullable().describe('In percent.'),
  runningRelease: z.string().nullable().describe('The release that runs, where that is another one.'),
};

export const deviceTargetSchema = z.object({
  device: z.string(),
  version: z.string().nullable().describe('Null without a target.'),
  apps: z.array(z.object({ ...wanted, source: z.enum(['fleet', 'device']), ...progress })),
  online: z.boolean().nullable(),
  reportedAt: z.number().nullable().describe('When it last reported, in ms since 1970.'),
}) satisfies z.ZodType<DeviceTargetInfo>;

const rolloutSchema = z.object({
  id: z.number(),
  state: z.enum(['running', 'done', 'stopped', 'replaced']),
  reason: z.string().nullable().describe('Why it was stopped.'),
  batch: z.string(),
  maxFailures: z.number(),
  patienceMinutes: z.number(),
  batchNo: z.number().describe('The batch that is under way, from 1.'),
  startedAt: ms,
  endedAt: z.number().nullable(),
  startedBy: z.string(),
  devices: z
    .object({ waiting: z.number(), updating: z.number(), done: z.number(), failed: z.number() })
    .describe('How many are in each state.'),
}) satisfies z.ZodType<RolloutInfo>;

export const fleetTargetSchema = z.object({
  fleet: z.string(),
  apps: z.array(wantedSchema),
  rollout: rolloutSchema.nullable().describe('Null without a target.'),
  devices: z.array(
    z.object({
      uuid: z.string(),
      name: z.string().nullable(),
      online: z.boolean().nullable(),
      state,
      since: z.number().nullable().describe('When the rollout reached it, or it came to its result.'),
      error: z.string().nullable(),
      reportedAt: z.number().nullable(),
      apps: z.array(z.object({ appId: z.number(), ...progress })),
    }),
  ),
  cursor: cursorSchema,
}) satisfies z.ZodType<FleetTargetInfo>;

export const setSchema = z.object({
  changed: z.boolean(),
  dryRun: z.boolean(),
  changes: z.array(
    z.object({
      appId: z.number(),
      appName: z.string().nullable(),
      change: z.enum(['added', 'changed', 'retried', 'same', 'removed']),
    }) satisfies z.ZodType<AppChange>,
  ),
});

export const historySchema = z.object({
  targets: z.array(
    z.object({
      id: z.number(),
      createdAt: ms,
      createdBy: z.string(),
      apps: z.array(wantedSchema),
    }) satisfies z.ZodType<TargetHistoryEntry>,
  ),
  cursor: cursorSchema,
});
