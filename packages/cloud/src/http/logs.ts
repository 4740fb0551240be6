import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { LogStore } from '../store/index.ts';
import { searchQuery } from './parameters.ts';
import { lineSchema, problemSchema } from './schemas.ts';

/** `GET /logs`: stored lines, a page at a time. */
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
    async ({ query }) => {
      const { level, text, ...rest } = query;
      return store.search({ ...rest, levels: level, words: text });
    },
  );
};
