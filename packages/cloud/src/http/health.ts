import { errorText } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import * as z from 'zod';

export interface HealthRouteOptions {
  /** Each throws, or takes too long, when its part does not work. */
  checks: Record<string, () => Promise<void>>;
  log: Logger;
  checkTimeoutMs?: number;
}

const healthSchema = z.object({
  status: z.enum(['ok', 'failing']),
  checks: z.record(z.string(), z.enum(['ok', 'failing'])),
});
type Health = z.infer<typeof healthSchema>;

/** `GET /healthz`, for load balancers: open to all, so it says no more than yes or no for each part. */
export const healthRoute: FastifyPluginAsyncZod<HealthRouteOptions> = async (app, options) => {
  let running: Promise<Health> | undefined;
  app.get(
    '/healthz',
    {
      schema: {
        summary: 'Whether everything works',
        tags: ['health'],
        security: [],
        response: { 200: healthSchema, 503: healthSchema },
      },
    },
    async (_request, reply) => {
      // Strangers may ask as often as they like; the parts are asked once at a time.
      running ??= checkAll(options).finally(() => {
        running = undefined;
      });
      const health = await running;
      return reply.code(health.status === 'ok' ? 200 : 503).send(health);
    },
  );
};

async function checkAll({ checks, log, checkTimeoutMs = 2000 }: HealthRouteOptions): Promise<Health> {
  const results = await Promise.all(
    Object.entries(checks).map(async ([name, check]) => {
      const { promise: late, reject } = Promise.withResolvers<never>();
      const timer = setTimeout(() => reject(new Error(`no answer in ${checkTimeoutMs} ms`)), checkTimeoutMs);
      try {
        await Promise.race([check(), late]);
        return [name, 'ok'] as const;
      } catch (error) {
        log.warn({ part: name, error: errorText(error) }, 'a health check failed');
        return [name, 'failing'] as const;
      } finally {
        clearTimeout(timer);
      }
    }),
  );
  const status = results.every(([, result]) => result === 'ok') ? 'ok' : 'failing';
  return { status, checks: Object.fromEntries(results) };
}
