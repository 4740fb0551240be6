import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import type { Identity } from '../identity/identity.ts';
import type { CloudMetrics, MetricsSources } from '../metrics/cloud-metrics.ts';
import { authorize } from './bearer.ts';
import { problemSchema } from './schemas.ts';

export interface MetricsRouteOptions {
  identity: Identity;
  metrics: CloudMetrics;
  sources: MetricsSources;
}

/** `GET /metrics`, for Prometheus. It tells how busy a fleet is, so it takes a token: one of the role `metrics`. */
export async function metricsRoute(
  app: FastifyInstance,
  { identity, metrics, sources }: MetricsRouteOptions,
): Promise<void> {
  app.addHook('onRequest', authorize(identity));
  app.get(
    '/metrics',
    {
      config: { roles: ['admin', 'metrics'] },
      schema: {
        summary: 'Figures for Prometheus',
        tags: ['health'],
        response: {
          200: { description: 'In its text format.', content: { 'text/plain': { schema: z.string() } } },
          '4xx': problemSchema,
        },
      },
    },
    async (_request, reply) =>
      reply.header('content-type', metrics.contentType).send(await metrics.render(sources)),
  );
}
