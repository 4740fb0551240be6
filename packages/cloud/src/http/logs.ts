import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { Records } from '../records/records.ts';
import type { LogReader, LogStore } from '../store/index.ts';
import { callersScope, forReaders } from './bearer.ts';
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
export const logRoutes: FastifyPluginAsyncZod<{ store: LogStore; records: Records }> = async (
  app,
  { store, records },
) => {
  /** Reads on behalf of the caller, for as long as there is one. */
  const read = <T>(request: FastifyRequest, reply: FastifyReply, run: (reader: LogReader) => Promise<T>) =>
    whileConnected(reply, (signal) => run(store.reader(callersScope(request), records.devices, signal)));

  app.get(
    '/logs',
    {
      config: forReaders,
      schema: {
        summary: 'Search stored lines',
        tags: ['logs'],
        querystring: searchQuery,
        response: { 200: pageSchema, '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const query = conditionsOf(request.query);
      return read(request, reply, (reader) => reader.search(query));
    },
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
    async (request, reply) => {
      const { by, step, ...rest } = conditionsOf(request.query);
      const query = { ...rest, stepMs: step, ...(by !== 'none' && { by }) };
      return read(request, reply, (reader) => reader.histogram(query));
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
    async (request, reply) => {
      const query = conditionsOf(request.query);
      return read(request, reply, (reader) => reader.facets(query));
    },
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
    async (request, reply) => {
      const { id, ...rest } = request.query;
      const query = { ...rest, ...id };
      return read(request, reply, (reader) => reader.context(query));
    },
  );

  app.get(
    '/patterns',
    {
      config: forReaders,
      schema: {
        summary: 'Cluster lines by how they read',
        description:
          'Numbers, ids, times and addresses aside, and whatever else differs between lines that are otherwise alike.',
        tags: ['logs'],
        querystring: patternsQuery,
        response: { 200: patternsSchema, '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const query = conditionsOf(request.query);
      return read(request, reply, (reader) => reader.patterns(query));
    },
  );
};
