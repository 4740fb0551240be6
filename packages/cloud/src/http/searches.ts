import { randomUUID } from 'node:crypto';
import { MillraceError, parseTime, type SavedSearch as SavedSearchView, timeForms } from '@millrace/wire';
import type { FastifyRequest } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import { parseQuery } from '../query/index.ts';
import type { Records } from '../records/records.ts';
import type { SavedSearch } from '../records/searches.ts';
import { entry } from './audit-entry.ts';
import { callerOfRequest, forReaders } from './bearer.ts';
import { title } from './names.ts';
import { cursorSchema, keyOfCursor, pageOf, pageParameters } from './paging.ts';
import { problemSchema } from './schemas.ts';

const moment = z
  .string('must be a text')
  .max(64, 'must have at most 64 characters')
  .refine((text) => parseTime(text, Date.now()) !== undefined, `must be ${timeForms}`)
  .nullable()
  .optional();

const query = z
  .string('must be a query')
  .regex(/^[^\0]*$/, 'must have no NUL')
  .describe('In the language of docs/search.md.');

const fields = {
  since: moment.describe('From when, in the forms that a search takes: an age such as `1h` stays an age.'),
  until: moment.describe('Up to when.'),
};

const params = z.strictObject({ id: z.string().max(64, 'must have at most 64 characters') });

const searchSchema = z.object({
  id: z.string(),
  name: z.string(),
  query: z.string(),
  since: z.string().nullable(),
  until: z.string().nullable(),
  createdBy: z.string().describe('Name of the token that made it.'),
  createdAt: z.number(),
  changedAt: z.number(),
}) satisfies z.ZodType<SavedSearchView>;

/**
 * `/searches`: queries to come back to. All who may read everything share them; whoever may read only a part sees what
 * they saved themselves, for a query can tell what others look for.
 */
export const searchRoutes: FastifyPluginAsyncZod<{ records: Records }> = async (app, { records }) => {
  app.get(
    '/searches',
    {
      config: forReaders,
      schema: {
        summary: 'List saved searches',
        tags: ['searches'],
        querystring: z.strictObject(pageParameters(1000, 100)),
        response: {
          200: z.object({ searches: z.array(searchSchema), cursor: cursorSchema }),
          '4xx': problemSchema,
        },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const { scope, name } = callerOfRequest(request);
      const createdBy = scope.devices === 'all' ? undefined : name;
      const found = await records.searches.list({ after: keyOfCursor(cursor), limit: limit + 1, createdBy });
      const page = pageOf(found, limit, (search) => search.name);
      return { searches: page.shown.map(shown), cursor: page.cursor };
    },
  );

  app.get(
    '/searches/:id',
    {
      config: forReaders,
      schema: {
        summary: 'Show a saved search',
        tags: ['searches'],
        params,
        querystring: z.strictObject({}),
        response: { 200: searchSchema, '4xx': problemSchema },
      },
    },
    async (request) => shown(await visible(records, request, request.params.id)),
  );

  app.post(
    '/searches',
    {
      config: forReaders,
      schema: {
        summary: 'Save a search',
        tags: ['searches'],
        body: z.strictObject({ name: title, query, ...fields }),
        response: { 201: searchSchema, '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const { name, query: text, since = null, until = null } = request.body;
      parseQuery(text);
      const made = entry(request, 'search.create', name, request.body);
      const at = Date.now();
      const search: SavedSearch = {
        ...{ id: randomUUID(), name, query: text, since, until },
        ...{ createdBy: made.actor, createdAtMs: at, changedAtMs: at },
      };
      await records.audited(made, async (tables) => {
        if (!(await tables.searches.add(search))) throw taken(name);
      });
      return reply.code(201).send(shown(search));
    },
  );

  app.patch(
    '/searches/:id',
    {
      config: forReaders,
      schema: {
        summary: 'Change a saved search',
        description: 'By whoever saved it, or an admin.',
        tags: ['searches'],
        params,
        body: z
          .strictObject({ name: title.optional(), query: query.optional(), ...fields })
          .refine((given) => Object.keys(given).length > 0, 'must name something to change'),
        response: { 200: searchSchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      const { body } = request;
      if (body.query !== undefined) parseQuery(body.query);
      const { id, name } = await own(records, request, request.params.id);
      const changed = await records.audited(entry(request, 'search.change', name, body), async (tables) => {
        const outcome = await tables.searches.change(id, body);
        if (outcome === 'taken') throw taken(body.name ?? name);
        if (outcome === 'unknown') throw unknown(id);
        return tables.searches.get(id);
      });
      if (!changed) throw unknown(id);
      return shown(changed);
    },
  );

  app.delete(
    '/searches/:id',
    {
      config: forReaders,
      schema: {
        summary: 'Remove a saved search',
        description: 'By whoever saved it, or an admin.',
        tags: ['searches'],
        params,
        response: { 204: z.null(), '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const { id, name } = await own(records, request, request.params.id);
      await records.audited(entry(request, 'search.remove', name), async (tables) => {
        if (!(await tables.searches.remove(id))) throw unknown(id);
      });
      return reply.code(204).send(null);
    },
  );
};

async function visible(records: Records, request: FastifyRequest, id: string): Promise<SavedSearch> {
  const { scope, name } = callerOfRequest(request);
  const search = await records.searches.get(id);
  if (!search || (scope.devices !== 'all' && search.createdBy !== name)) throw unknown(id);
  return search;
}

/** One that the caller may change. */
async function own(records: Records, request: FastifyRequest, id: string): Promise<SavedSearch> {
  const { role, name } = callerOfRequest(request);
  const search = await visible(records, request, id);
  if (role === 'admin' || search.createdBy === name) return search;
  throw new MillraceError('FORBIDDEN', `"${search.name}" was saved by someone else`);
}

function shown({ createdAtMs, changedAtMs, ...search }: SavedSearch) {
  return { ...search, createdAt: createdAtMs, changedAt: changedAtMs };
}

function unknown(id: string): MillraceError {
  return new MillraceError('NOT_FOUND', `there is no saved search ${id}`);
}

function taken(name: string): MillraceError {
  return new MillraceError('CONFLICT', `there is a saved search "${name}"`);
}
