import { balenaStatePath, MillraceError, statePath, targetVersionHeader } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { Identity } from '../identity/identity.ts';
import type { Ingest } from '../ingest/index.ts';
import type { Records } from '../records/records.ts';
import { asBatches } from '../state/recent-logs.ts';
import { afterReport, reportSchema } from '../state/report.ts';
import type { RolloutDriver } from '../targets/rollout-driver.ts';
import type { TargetBook } from '../targets/target-book.ts';
import { bearerToken, checkMayRead, forReaders } from './bearer.ts';
import { deviceUuid } from './names.ts';
import { cursorSchema, idOfCursor, pageOf, pageParameters } from './paging.ts';
import { problemSchema } from './schemas.ts';

export interface StateReportOptions {
  identity: Identity;
  records: Records;
  ingest: Ingest;
  targets: TargetBook;
  rollouts: RolloutDriver;
}

const maxReportBytes = 1024 * 1024;

/** `PATCH /api/v3/device/state`, and the same under balena's name: a device says how it is. */
export const stateReportRoutes: FastifyPluginAsyncZod<StateReportOptions> = async (app, options) => {
  const { identity, records, ingest, targets, rollouts } = options;
  for (const url of [statePath, balenaStatePath]) {
    app.patch(
      url,
      {
        bodyLimit: maxReportBytes,
        // Before the body is read: strangers get nothing parsed.
        onRequest: async (request) => {
          if (await identity.isOfDevice(bearerToken(request.raw))) return;
          throw new MillraceError('UNAUTHORIZED', 'not the key of a device');
        },
        schema: {
          summary: "Report a device's state",
          description:
            'Authorization: Bearer <device key>. `{"<uuid>": {…}}`: what is left out is as it was, null takes away. Keys that are not named here are left alone. `recent_logs` are stored like any lines, and once. The answer has a header `Millrace-Target` with the version of the target, if there is one.',
          tags: ['device'],
          body: z
            .record(z.string(), reportSchema)
            .refine(
              (all) => Object.keys(all).length === 1,
              'must have the uuid of the device as its only key',
            ),
          response: { 200: z.object({}), '4xx': problemSchema },
        },
      },
      async (request, reply) => {
        const [[uuid, report]] = Object.entries(request.body) as [[string, z.output<typeof reportSchema>]];
        if (!(await identity.isDevice(uuid, bearerToken(request.raw)))) {
          throw new MillraceError('FORBIDDEN', 'a device reports its own state only');
        }
        const now = Date.now();
        // Lines first: a report that fails comes again, with lines that are then known.
        if (report.recent_logs?.length) {
          await ingest.acceptPayload(uuid, asBatches(report.recent_logs, now)).catch((error: unknown) => {
            // That is on record, and no reason to know nothing of the device for the rest of the day.
            if (!(error instanceof MillraceError) || error.code !== 'QUOTA_EXCEEDED') throw error;
          });
        }
        await records.transaction((tables) =>
          tables.states.report(uuid, now, (before) => afterReport(before, report)),
        );
        rollouts.heard();
        const version = (await targets.versions([uuid])).get(uuid);
        if (version !== undefined) reply.header(targetVersionHeader, version);
        return {};
      },
    );
  }
};

const params = z.strictObject({ uuid: deviceUuid });
const stateShape = reportSchema.omit({ recent_logs: true }).describe('As in `PATCH /api/v3/device/state`.');

/** `GET /devices/{uuid}/state` and how it changed. */
export const deviceStateRoutes: FastifyPluginAsyncZod<{ records: Records }> = async (app, { records }) => {
  app.get(
    '/devices/:uuid/state',
    {
      config: forReaders,
      schema: {
        summary: 'What a device reports of itself',
        tags: ['devices'],
        params,
        querystring: z.strictObject({}),
        response: {
          200: z.object({
            state: stateShape,
            reportedAt: z.number().describe('In ms since 1970, by the cloud.'),
            changedAt: z.number().describe('When something other than a metric changed.'),
          }),
          '4xx': problemSchema,
        },
      },
    },
    async (request) => {
      const { uuid } = request.params;
      checkMayRead(request, uuid);
      const found = await records.states.get(uuid);
      if (!found) throw new MillraceError('NOT_FOUND', `device ${uuid} has not reported its state`);
      return { state: found.state, reportedAt: found.reportedAtMs, changedAt: found.changedAtMs };
    },
  );

  app.get(
    '/devices/:uuid/state/history',
    {
      config: forReaders,
      schema: {
        summary: "How a device's state changed",
        description: 'The newest first; metrics are no changes. The last 500 are kept.',
        tags: ['devices'],
        params,
        querystring: z.strictObject(pageParameters(500, 100)),
        response: {
          200: z.object({
            changes: z.array(
              z.object({ id: z.number(), at: z.number().describe('In ms since 1970.'), changes: stateShape }),
            ),
            cursor: cursorSchema,
          }),
          '4xx': problemSchema,
        },
      },
    },
    async (request) => {
      const { uuid } = request.params;
      checkMayRead(request, uuid);
      const { limit, cursor } = request.query;
      const found = await records.states.history(uuid, { before: idOfCursor(cursor), limit: limit + 1 });
      const page = pageOf(found, limit, ({ id }) => String(id));
      return {
        changes: page.shown.map(({ id, atMs, changes }) => ({ id, at: atMs, changes })),
        cursor: page.cursor,
      };
    },
  );
};
