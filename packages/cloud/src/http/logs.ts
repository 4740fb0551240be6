import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { LogStore } from '../store/index.ts';
import { callersScope } from './bearer.ts';
import {
  conditionsOf,
  contextQuery,
  facetsQuery,
  histogramQuery,
  patternsQuery,
  searchQuery,
} from './parameters.ts';
import {
  contextSchema,
  facetsSchema,
  histogramSchema,
  pageSchema,
  patternsSchema,
  problemSchema,
} from './schemas.ts';
import { whileConnected } from './while-connected.ts';

/** `GET /logs`: stored lines, a page at a time; counts of them, the lines around one, and how they read. */
export const logRoutes: FastifyPluginAsyncZod<{ store: LogStore }> = async (app, { store }) => {
  app.get(
    '/logs',
    {
      schema: {
        summary: 'Search stored lines',
        tags: ['logs'],
        querystring: searchQuery,
        response: { 200: pageSchema, '4xx': problemSchema },
      },
    },
    (request, reply) => {
      const query = conditionsOf(request.query);
      return whileConnected(reply, (signal) => store.reader(callersScope(request), signal).search(query));
    },
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
    (request, reply) => {
      const { by, step, ...rest } = conditionsOf(request.query);
      const query = { ...rest, stepMs: step, ...(by !== 'none' && { by }) };
      return whileConnected(reply, (signal) => store.reader(callersScope(request), signal).histogram(query));
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
    (request, reply) => {
      const query = conditionsOf(request.query);
      return whileConnected(reply, (signal) => store.reader(callersScope(request), signal).facets(query));
    },
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
    (request, reply) => {
      const { id, ...rest } = request.query;
      const query = { ...rest, ...id };
      return whileConnected(reply, (signal) => store.reader(callersScope(request), signal).context(query));
    },
  );

  app.get(
    '/patterns',
    {
      schema: {
        summary: 'Cluster lines by how they read',
        description:
          'Numbers, ids, times and addresses aside, and whatever else differs between lines that are otherwise alike.',
        tags: ['logs'],
        querystring: patternsQuery,
        response: { 200: patternsSchema, '4xx': problemSchema },
      },
    },
    (request, reply) => {
      const query = conditionsOf(request.query);
      return whileConnected(reply, (signal) => store.reader(callersScope(request), signal).patterns(query));
    },
  );
};
