import { MillraceError } from '@millrace/wire';
import type { TargetDocument, TargetService } from '@millrace/wire/apps';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { Identity } from '../identity/identity.ts';
import type { TargetBook } from '../targets/target-book.ts';
import { bearerToken } from './bearer.ts';
import { deviceUuid } from './names.ts';
import { problemSchema } from './schemas.ts';

export interface DeviceTargetOptions {
  identity: Identity;
  targets: TargetBook;
}

const anything = z.record(z.string(), z.unknown());
const texts = z.record(z.string(), z.string());
const serviceSchema = z.object({
  id: z.number(),
  image_id: z.number(),
  image: z.string(),
  environment: texts,
  labels: texts,
  composition: anything.describe("The other fields of a service, under a compose file's names."),
}) satisfies z.ZodType<TargetService>;
const releaseSchema = z.object({
  id: z.number(),
  services: z.record(z.string(), serviceSchema),
  volumes: anything,
  networks: anything,
});
const documentSchema = z.record(
  z.string(),
  z.object({
    name: z.string(),
    config: texts,
    apps: z.record(
      z.string(),
      z.object({
        id: z.number(),
        name: z.string(),
        class: z.string(),
        releases: z.record(z.string(), releaseSchema),
      }),
    ),
  }),
) satisfies z.ZodType<TargetDocument>;

/** `GET /device/v3/{uuid}/state`: a device asks what it is to run (as balena's). */
export const deviceTargetRoute: FastifyPluginAsyncZod<DeviceTargetOptions> = async (
  app,
  { identity, targets },
) => {
  app.get(
    '/device/v3/:uuid/state',
    {
      schema: {
        summary: "A device's target",
        description:
          "Authorization: Bearer <device key>. What the device is to run, in the shape of balena's v3 target state. With `If-None-Match` of the `ETag` before, 304 when it is the same; 404 when there is no target.",
        tags: ['device'],
        params: z.strictObject({ uuid: deviceUuid }),
        response: {
          200: documentSchema,
          304: z.null().describe('It is the one that If-None-Match names.'),
          '4xx': problemSchema,
        },
      },
    },
    async (request, reply) => {
      const { uuid } = request.params;
      if (!(await identity.isDevice(uuid, bearerToken(request.raw)))) {
        throw new MillraceError('UNAUTHORIZED', `not the key of device ${uuid}`);
      }
      const target = await targets.target(uuid);
      if (!target) throw new MillraceError('NOT_FOUND', `device ${uuid} has no target`);
      const tag = `"${target.version}"`;
      reply.header('etag', tag);
      const known = String(request.headers['if-none-match'] ?? '').split(',');
      if (known.some((one) => one.trim().replace(/^W\//, '') === tag)) {
        return reply.code(304).send(null);
      }
      return reply.send(target.document);
    },
  );
};
