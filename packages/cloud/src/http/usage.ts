import { MillraceError, type Usage } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { Ingest } from '../ingest/index.ts';
import type { Records } from '../records/records.ts';
import { dayMs, dayOf, startOfDay } from '../retention/days.ts';
import type { PolicyBook } from '../retention/policy-book.ts';
import { endsAt, type Sweeper } from '../retention/sweeper.ts';
import type { LogStore } from '../store/index.ts';
import { entry } from './audit-entry.ts';
import { callersScope, checkMayRead, forReaders } from './bearer.ts';
import { deletionQuery, usageOfDeviceQuery, usageQuery } from './parameters.ts';
import { problemSchema } from './schemas.ts';

export interface UsageRoutesOptions {
  records: Records;
  store: LogStore;
  ingest: Ingest;
  policies: PolicyBook;
  sweeper: Sweeper;
}

/** Removals that are shown. */
const maxRemovals = 100;
const standardDays = 30;

const usageSchema = z.object({
  device: z.string(),
  day: z.string().describe('Day of arrival, UTC.'),
  lines: z.number(),
  bytes: z.number().describe('Of messages, uncompressed.'),
}) satisfies z.ZodType<Usage>;

const partitionSchema = z.object({
  day: z.string().describe('Day of arrival, UTC.'),
  retentionDays: z.number(),
  lines: z.number(),
  bytesOnDisk: z.number(),
  expiresAt: z.number().describe('When they are removed, in ms since 1970.'),
});

const removalSchema = z.object({
  day: z.string().describe('Day of arrival, UTC.'),
  retentionDays: z.number(),
  why: z.enum(['expired', 'disk-cap', 'deleted']),
  lines: z.number(),
  bytes: z.number(),
  removedAt: z.number().describe('In ms since 1970.'),
});

const quotaSchema = z
  .object({
    dailyBytes: z.number(),
    usedBytes: z.number().describe('Today, UTC, as `bytes` above.'),
    refusedSince: z
      .number()
      .nullable()
      .describe('When the first lines of today were refused, in ms since 1970.'),
    dropped: z
      .number()
      .describe('Refused today and dropped, since their sender cannot keep them: how often,'),
    droppedBytes: z.number().describe('and how many bytes as they came.'),
  })
  .describe('Figures of refusals are up to half a minute old.');

const params = z.strictObject({ uuid: z.string().max(256, 'must have at most 256 characters') });

/** What is stored and how much of it, what devices sent, and the deletion of lines. */
export const usageRoutes: FastifyPluginAsyncZod<UsageRoutesOptions> = async (
  app,
  { records, store, ingest, policies, sweeper },
) => {
  const quotaOf = async (device: string) => {
    const dailyBytes = policies.quotaBytes(device);
    if (dailyBytes === undefined) return null;
    const day = dayOf(Date.now());
    const [[used], refusal] = await Promise.all([
      store.usage({ from: day, to: day, device }),
      records.refusals.get(device, day),
    ]);
    return {
      dailyBytes,
      usedBytes: used?.bytes ?? 0,
      refusedSince: refusal?.sinceMs ?? null,
      dropped: refusal?.dropped ?? 0,
      droppedBytes: refusal?.droppedBytes ?? 0,
    };
  };

  app.get(
    '/usage',
    {
      config: forReaders,
      schema: {
        summary: 'Lines and bytes per device and day',
        description: 'What arrived, whether it is still stored or not; for 400 days after it was removed.',
        tags: ['retention'],
        querystring: usageQuery,
        response: {
          200: z.object({
            usage: z.array(usageSchema).describe('By day, then by device.'),
            cursor: z.string().optional().describe('Present when there are more: pass it on to get them.'),
          }),
          '4xx': problemSchema,
        },
      },
    },
    async (request) => {
      const { from, to, device, limit, cursor } = request.query;
      const rows = await store.usage({
        ...span(from, to),
        ...{ device, after: cursor, limit: limit + 1, scope: callersScope(request) },
      });
      const usage = rows.slice(0, limit);
      const last = usage.at(-1);
      return { usage, ...(rows.length > limit && last && { cursor: `${last.day} ${last.device}` }) };
    },
  );

  app.get(
    '/devices/:uuid/usage',
    {
      config: forReaders,
      schema: {
        summary: 'What a device sent per day',
        tags: ['devices'],
        params,
        querystring: usageOfDeviceQuery,
        response: {
          200: z.object({
            device: z.string(),
            days: z.array(usageSchema.omit({ device: true })),
            quota: quotaSchema.nullable().describe('Null for a device that may send any amount.'),
          }),
          '4xx': problemSchema,
        },
      },
    },
    async (request) => {
      const device = request.params.uuid;
      checkMayRead(request, device);
      const { from, to } = request.query;
      const rows = await store.usage({ ...span(from, to), device });
      return {
        device,
        days: rows.map(({ device: _, ...day }) => day),
        quota: await quotaOf(device),
      };
    },
  );

  app.delete(
    '/devices/:uuid/logs',
    {
      schema: {
        summary: "Delete a device's lines",
        description:
          'Those that have arrived by now, or of them those with a time before the one given. Answers when they are gone. That they came stays known: sent again, they are not stored again.',
        tags: ['devices'],
        params,
        querystring: deletionQuery,
        response: { 200: z.object({ lines: z.number(), bytes: z.number() }), '4xx': problemSchema },
      },
    },
    async (request) => {
      const { uuid: device } = request.params;
      const { before } = request.query;
      const arrivedByMs = Date.now();
      // What is on its way has arrived, too.
      await ingest.settled();
      // On record before it is begun: what was begun is not undone when its record fails.
      await records.audit.append(
        entry(request, 'logs.delete', device, { ...(before !== undefined && { before }) }),
      );
      return store.deleteLines({ device, arrivedByMs, beforeMs: before });
    },
  );

  app.get(
    '/store',
    {
      schema: {
        summary: 'What is stored, until when, and what was removed last',
        tags: ['retention'],
        querystring: z.strictObject({}),
        response: {
          200: z.object({
            bytesOnDisk: z.number(),
            maxBytes: z.number().nullable().describe('`STORE_MAX_BYTES`; null where there is no cap.'),
            overCap: z.boolean().describe('The cap is passed, and nothing is left that may be removed.'),
            partitions: z.array(partitionSchema).describe('The oldest day first.'),
            removals: z.array(removalSchema).describe(`The last ${maxRemovals}, the newest first.`),
          }),
          '4xx': problemSchema,
        },
      },
    },
    async () => {
      const [bytesOnDisk, partitions, removals] = await Promise.all([
        store.diskBytes(),
        store.partitions(),
        store.removals(maxRemovals),
      ]);
      return {
        bytesOnDisk,
        maxBytes: sweeper.maxBytes ?? null,
        overCap: sweeper.stats.overCap,
        partitions: partitions.map((partition) => ({ ...partition, expiresAt: endsAt(partition) })),
        removals,
      };
    },
  );
};

/** The days asked for; by default the last ones. @throws MillraceError `PARAMETER_INVALID` */
function span(from: string | undefined, to = dayOf(Date.now())): { from: string; to: string } {
  const first = from ?? dayOf(startOfDay(to) - (standardDays - 1) * dayMs);
  if (first > to) throw new MillraceError('PARAMETER_INVALID', `from: ${first} is behind ${to}`);
  return { from: first, to };
}
