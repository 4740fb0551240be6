import type { FastifyRequest } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { Records } from '../records/records.ts';
import type { LogStore } from '../store/index.ts';
import { callersScope, forReaders } from './bearer.ts';
import { conditionsOf, contextQuery, facetsQuery, histogramQuery, searchQuery } from './parameters.ts';
import { contextSchema, facetsSchema, histogramSchema, lineSchema, problemSchema } from './schemas.ts';

/** `GET /logs`: stored lines, a page at a time; and below it counts of them, and the lines around one. */
export const logRoutes: FastifyPluginAsyncZod<{ store: LogStore; records: Records }> = async (
  app,
  options,
) => {
  const reader = (request: FastifyRequest) =>
    options.store.reader(callersScope(request), options.records.devices);

  app.get(
    '/logs',
    {
      config: forReaders,
      schema: {
        summary: 'Search stored lines',
        tags: ['logs'],
        querystring: searchQuery,
        response: {
          200: z.object({
            logs: z.array(lineSchema),
            cursor: z.string().optional().describe('Present when there are more: pass it on to get them.'),
          }),
          '4xx': problemSchema,
        },
      },
    },
    async (request) => reader(request).search(conditionsOf(request.query)),
  );

  app.get(
    '/logs/histogram',
    {
      config: forReaders,
      schema: {
        summary: 'Count lines by time',
        description: 'In buckets of equal length, and within them by level or the value of any field.',
        tags: ['logs'],
        querystring: histogramQuery,
        response: { 200: histogramSchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      const { by, step, ...query } = conditionsOf(request.query);
      return reader(request).histogram({ ...query, stepMs: step, ...(by !== 'none' && { by }) });
    },
  );

  app.get(
    '/logs/facets',
    {
      config: forReaders,
      schema: {
        summary: 'Count lines by the values of fields',
        tags: ['logs'],
        querystring: facetsQuery,
        response: { 200: facetsSchema, '4xx': problemSchema },
      },
    },
    async (request) => reader(request).facets(conditionsOf(request.query)),
  );

  app.get(
    '/logs/context',
    {
      config: forReaders,
      schema: {
        summary: 'Show the lines around a line',
        tags: ['logs'],
        querystring: contextQuery,
        response: { 200: contextSchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      const { id, ...query } = request.query;
      return reader(request).context({ ...query, ...id });
    },
  );
};
