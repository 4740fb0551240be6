import { type ErrorCode, errorCatalogue, levels } from '@millrace/wire';
import * as z from 'zod';

/** A line as the API shows it. */
export const lineSchema = z.object({
  id: z.string().describe('`<journal>-<seq>`, unique.'),
  device: z.string(),
  message: z.string(),
  timestamp: z.number().describe('Ms since 1970, UTC, by the device.'),
  level: z.enum(levels),
  source: z.object({ type: z.enum(['container', 'system', 'manager']), name: z.string() }),
  serviceId: z.number().optional(),
  serviceName: z.string().optional(),
  containerId: z.string().optional(),
  isStdErr: z.boolean(),
  isSystem: z.boolean(),
  appId: z.union([z.number(), z.string()]).optional(),
  seq: z.number().optional(),
  fields: z.record(z.string(), z.unknown()).optional(),
  receivedAt: z.number().optional().describe('Ms since 1970, by the cloud.'),
});

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number(),
    code: z.enum(Object.keys(errorCatalogue) as [ErrorCode, ...ErrorCode[]]),
    detail: z.string(),
    action: z.string(),
  })
  .describe('A problem document (RFC 9457).');

export const deviceSchema = z.object({
  uuid: z.string(),
  name: z.string().nullable(),
  registered: z.boolean().describe('False for a device that is known by its lines alone.'),
  online: z.boolean().nullable().describe('Null when nothing was ever heard of it.'),
  createdAt: z.number().nullable().describe('When it registered, in ms since 1970.'),
  firstSeen: z.number().nullable().describe('Arrival of its oldest line that is stored, in ms since 1970.'),
  lastSeen: z.number().nullable().describe('Arrival of its newest line.'),
  lines: z.number(),
  bytes: z.number().describe('Of its messages, uncompressed.'),
  clockSkewMs: z
    .number()
    .nullable()
    .describe(
      "How far its clock is behind the cloud's, negative when it is ahead. Null until it was measured, from batches at least a second apart, since the cloud started.",
    ),
  missing: z
    .number()
    .describe(
      'Lines between its oldest and its newest that are not here: on their way, or shed by the device.',
    ),
});

export const gapSchema = z.object({
  journal: z.string(),
  from: z.number().describe('Seq of the first line that is missing.'),
  to: z.number().describe('Seq of the last.'),
  lines: z.number(),
  since: z
    .number()
    .describe(
      'When the line right behind them came, in ms since 1970: since then, at the latest, they are known to be missing.',
    ),
});

export type DeviceView = z.infer<typeof deviceSchema>;
