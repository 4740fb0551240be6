import {
  type BalenaLog,
  type Context,
  type Device,
  type ErrorCode,
  errorCatalogue,
  type Facets,
  type Gap,
  type Histogram,
  type LogPage,
  levels,
  type Patterns,
  type StoredLine,
} from '@millrace/wire';
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
  receivedAt: z.number().describe('Ms since 1970, by the cloud.'),
}) satisfies z.ZodType<StoredLine>;

export const pageSchema = z.object({
  logs: z.array(lineSchema),
  cursor: z.string().optional().describe('Present when there are more: pass it on to get them.'),
  back: z
    .string()
    .optional()
    .describe(
      'A cursor for the other order: leads to what lies before the first line, also when it comes later.',
    ),
}) satisfies z.ZodType<LogPage>;

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number(),
    code: z.enum(Object.keys(errorCatalogue) as [ErrorCode, ...ErrorCode[]]),
    detail: z.string(),
    action: z.string(),
    offset: z.number().optional().describe('With QUERY_INVALID: where in the query, in UTF-16 code units.'),
    length: z.number().optional().describe('How much of the query is wrong, from there.'),
    expected: z.string().optional().describe('What would be right there.'),
  })
  .describe('A problem document (RFC 9457).');

const countsSchema = z.object({
  count: z.number(),
  counts: z.array(z.number()).describe('One for each bucket, in the order of time.'),
});

export const histogramSchema = countsSchema.extend({
  since: z.number().describe('Beginning of the first bucket, in ms since 1970: a multiple of `stepMs`.'),
  until: z.number().describe('End of the last bucket, exclusive.'),
  stepMs: z.number(),
  series: z
    .array(countsSchema.extend({ value: z.string().nullable().describe('Null for lines that have none.') }))
    .optional()
    .describe('The most frequent values of `by`, most lines first.'),
  other: countsSchema.optional().describe('All other values together.'),
}) satisfies z.ZodType<Histogram>;

export const facetsSchema = z.object({
  facets: z.array(
    z.object({
      field: z.string(),
      values: z.array(z.object({ value: z.string(), count: z.number() })).describe('Most lines first.'),
      distinct: z.number().describe('Values that there are in all.'),
      otherLines: z.number().describe('Lines with a value that is not among these.'),
      withoutLines: z.number().describe('Lines without a value.'),
    }),
  ),
}) satisfies z.ZodType<Facets>;

export const contextSchema = z.object({
  line: lineSchema,
  before: z.array(lineSchema).describe('Oldest first, up to the line.'),
  after: z.array(lineSchema).describe('Oldest first, from the line.'),
}) satisfies z.ZodType<Context>;

export const balenaLogSchema = z.object({
  message: z.string(),
  createdAt: z.number().describe('When it arrived, in ms since 1970.'),
  timestamp: z.number(),
  isSystem: z.boolean(),
  isStdErr: z.boolean(),
  serviceId: z.number().optional(),
}) satisfies z.ZodType<BalenaLog>;

export const patternsSchema = z.object({
  patterns: z
    .array(
      z.object({
        pattern: z.string().describe('What the lines have in common, with `<*>` for what differs.'),
        count: z.number().describe('Lines among those that were examined.'),
        share: z.number().describe('Of the lines examined, 0 to 1.'),
        levels: z.object({ debug: z.number(), info: z.number(), warn: z.number(), error: z.number() }),
        firstSeen: z.number().describe('Ms since 1970.'),
        lastSeen: z.number(),
        example: z
          .object({ id: z.string(), device: z.string(), timestamp: z.number(), message: z.string() })
          .describe('The newest of them; its message may be cut.'),
      }),
    )
    .describe('Most lines first.'),
  distinct: z.number().describe('Patterns there are in all.'),
  total: z.number().describe('Lines that match.'),
  examined: z.number().describe('Lines that were looked at: all, or of more than a million an even sample.'),
}) satisfies z.ZodType<Patterns>;

export const deviceSchema = z.object({
  uuid: z.string(),
  name: z.string().nullable(),
  fleet: z.string().nullable().describe('Null for none.'),
  tags: z.record(z.string(), z.string()),
  registered: z.boolean().describe('False for a device that is known by its lines alone.'),
  online: z.boolean().nullable().describe('Null when nothing was ever heard of it.'),
  onlineChangedAt: z
    .number()
    .nullable()
    .describe('Since when `online` has been what it is, in ms since 1970. Streams: since the cloud started.'),
  reportedAt: z.number().nullable().describe('When it last reported its state.'),
  apps: z
    .array(
      z.object({
        id: z.string(),
        name: z.string().nullable(),
        release: z.string().nullable().describe('The release that runs.'),
        status: z.string().nullable().describe('`rejected` when the release that was asked for failed.'),
      }),
    )
    .describe('What it reported of its apps, in short.'),
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
}) satisfies z.ZodType<Device>;

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
}) satisfies z.ZodType<Gap>;

export type DeviceView = z.infer<typeof deviceSchema>;
