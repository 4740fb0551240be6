import { type Fleet, MillraceError } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { FleetWithSize } from '../records/fleets.ts';
import type { Records } from '../records/records.ts';
import type { TargetFeed } from '../targets/target-feed.ts';
import { entry } from './audit-entry.ts';
import { callerOfRequest, forReaders } from './bearer.ts';
import { label, plainText } from './names.ts';
import { cursorSchema, keyOfCursor, pageOf, pageParameters } from './paging.ts';
import { problemSchema } from './schemas.ts';

const name = label('the name of a fleet');
const params = z.strictObject({ name });
const description = plainText(1000).nullable().optional().describe('For people; null for none.');

const fleetSchema = z.object({
  name: z.string(),
  description: z.string().nullable(),
  devices: z.number().describe('How many are in it.'),
  createdAt: z.number().describe('In ms since 1970.'),
}) satisfies z.ZodType<Fleet>;

/** `/fleets`: groups of devices. */
export const fleetRoutes: FastifyPluginAsyncZod<{ records: Records; feed: TargetFeed }> = async (
  app,
  { records, feed },
) => {
  app.get(
    '/fleets',
    {
      config: forReaders,
      schema: {
        summary: 'List fleets',
        tags: ['fleets'],
        querystring: z.strictObject(pageParameters(1000, 100)),
        response: {
          200: z.object({ fleets: z.array(fleetSchema), cursor: cursorSchema }),
          '4xx': problemSchema,
        },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const { fleets } = callerOfRequest(request);
      const after = keyOfCursor(cursor);
      const found = await records.fleets.list({ after, limit: limit + 1, names: fleets });
      const page = pageOf(found, limit, (fleet) => fleet.name);
      return { fleets: page.shown.map(shown), cursor: page.cursor };
    },
  );

  app.get(
    '/fleets/:name',
    {
      config: forReaders,
      schema: {
        summary: 'Show a fleet',
        tags: ['fleets'],
        params,
        querystring: z.strictObject({}),
        response: { 200: fleetSchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      const { fleets } = callerOfRequest(request);
      const isOpen = fleets === undefined || fleets.includes(request.params.name);
      const fleet = isOpen ? await records.fleets.get(request.params.name) : undefined;
      if (!fleet) throw unknown(request.params.name);
      return shown(fleet);
    },
  );

  app.post(
    '/fleets',
    {
      schema: {
        summary: 'Make a fleet',
        description:
          'Devices are put into it one by one, or by a join key that names it: a token of the role `join`.',
        tags: ['fleets'],
        body: z.strictObject({ name, description }),
        response: { 201: fleetSchema, '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const fleet = {
        name: request.body.name,
        description: request.body.description ?? null,
        createdAtMs: Date.now(),
      };
      await records.audited(entry(request, 'fleet.create', fleet.name, request.body), async (tables) => {
        if (await tables.fleets.add(fleet)) return;
        throw new MillraceError('CONFLICT', `there is a fleet "${fleet.name}"`);
      });
      return reply.code(201).send(shown({ ...fleet, devices: 0 }));
    },
  );

  app.patch(
    '/fleets/:name',
    {
      schema: {
        summary: 'Describe a fleet',
        tags: ['fleets'],
        params,
        body: z.strictObject({ description: plainText(1000).nullable() }),
        response: { 200: fleetSchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      const { params: of, body } = request;
      const fleet = await records.audited(entry(request, 'fleet.change', of.name, body), async (tables) => {
        if (!(await tables.fleets.describe(of.name, body.description))) throw unknown(of.name);
        return tables.fleets.get(of.name);
      });
      if (!fleet) throw unknown(of.name);
      return shown(fleet);
    },
  );

  app.delete(
    '/fleets/:name',
    {
      schema: {
        summary: 'Remove a fleet',
        description:
          'Its devices are in none then. Tokens no longer lead to it, and its join keys are revoked.',
        tags: ['fleets'],
        params,
        response: { 204: z.null(), '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const { name: removed } = request.params;
      await records.audited(entry(request, 'fleet.remove', removed), async (tables) => {
        await tables.targetChanges.lock();
        await tables.targetChanges.note(await tables.devices.inFleets([removed]));
        if (!(await tables.fleets.remove(removed))) throw unknown(removed);
      });
      feed.look();
      return reply.code(204).send(null);
    },
  );
};

function shown({ name: shownName, description: text, devices, createdAtMs }: FleetWithSize) {
  return { name: shownName, description: text, devices, createdAt: createdAtMs };
}

function unknown(missing: string): MillraceError {
  return new MillraceError('NOT_FOUND', `there is no fleet "${missing}"`);
}
