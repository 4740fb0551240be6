import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { LogStore } from '../store/index.ts';
import { callersScope } from './bearer.ts';
import { conditionsOf, contextQuery, facetsQuery, histogramQuery, searchQuery } from './parameters.ts';
import { contextSchema, facetsSchema, histogramSchema, lineSchema, problemSchema } from './schemas.ts';

/** `GET /logs`: stored lines, a page at a time; and below it counts of them, and the lines around one. */
export const logRoutes: FastifyPluginAsyncZod<{ store: LogStore }> = async (app, { store }) => {
  app.get(
    '/logs',
    {
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
    async (request) => store.reader(callersScope(request)).search(conditionsOf(request.query)),
  );

  app.get(
    '/logs/histogram',
    {
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
      return store
        .reader(callersScope(request))
        .histogram({ ...query, stepMs: step, ...(by !== 'none' && { by }) });
    },
  );

  app.get(
    '/logs/facets',
    {
      schema: {
        summary: 'Count lines by the values of fields',
        tags: ['logs'],
        querystring: facetsQuery,
        response: { 200: facetsSchema, '4xx': problemSchema },
      },
    },
    async (request) => store.reader(callersScope(request)).facets(conditionsOf(request.query)),
  );

  app.get(
    '/logs/context',
    {
      schema: {
        summary: 'Show the lines around a line',
        tags: ['logs'],
        querystring: contextQuery,
        response: { 200: contextSchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      const { id, ...query } = request.query;
      return store.reader(callersScope(request)).context({ ...query, ...id });
    },
  );
};
