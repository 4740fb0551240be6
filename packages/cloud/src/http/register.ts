import { MillraceError } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { Identity, Joining } from '../identity/identity.ts';
import { bearerToken } from './bearer.ts';
import { problemSchema } from './schemas.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set behind the check of a join key. */
    joining?: Joining;
  }
}

/** `POST /device/register`: an unknown device brings the join key and is known from then on (as balena's). */
export const registerRoute: FastifyPluginAsyncZod<{ identity: Identity }> = async (app, { identity }) => {
  app.decorateRequest('joining');
  const answer = z.object({ uuid: z.string(), api_key: z.string() });
  app.post(
    '/device/register',
    {
      bodyLimit: 64 * 1024,
      // Before the body is read: strangers get nothing parsed.
      onRequest: async (request) => {
        const joining = await identity.joining(bearerToken(request.raw));
        if (!joining) throw new MillraceError('UNAUTHORIZED', 'not a join key');
        request.joining = joining;
      },
      schema: {
        summary: 'Register a device',
        description:
          'Authorization: Bearer <join key>. Keys of the body that are not named here are left alone.',
        tags: ['device'],
        body: z.object({
          uuid: z.string('must be a text').describe('1 to 64 of A-Z, a-z, 0-9, `_`, `-`.'),
          api_key: z
            .string('must be a text')
            .max(512, 'must have at most 512 characters')
            .optional()
            .describe("The device's key, at least 16 characters; made when left out."),
          name: z.string('must be a text').max(200, 'must have at most 200 characters').nullish(),
        }),
        response: {
          200: answer.describe('It had registered before, with this key.'),
          201: answer,
          '4xx': problemSchema,
        },
      },
    },
    async ({ body, joining }, reply) => {
      const { uuid, apiKey, created } = await identity.register(
        { uuid: body.uuid, apiKey: body.api_key, name: body.name ?? undefined },
        joining,
      );
      return reply.code(created ? 201 : 200).send({ uuid, api_key: apiKey });
    },
  );
};
