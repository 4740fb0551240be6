import { MillraceError, type Token } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import { hashSecret, newSecret } from '../identity/secrets.ts';
import type { Sessions } from '../identity/sessions.ts';
import type { Records } from '../records/records.ts';
import { type TokenRecord, tokenRoles } from '../records/tokens.ts';
import { entry } from './audit-entry.ts';
import { checkFleet } from './devices.ts';
import { deviceUuid, label, title } from './names.ts';
import { cursorSchema, keyOfCursor, pageOf, pageParameters } from './paging.ts';
import { problemSchema } from './schemas.ts';

const tokenSchema = z.object({
  name: z.string(),
  role: z.string(),
  fleets: z
    .array(z.string())
    .nullable()
    .describe('What it is limited to, with `devices`. Both null: nothing is left out.'),
  devices: z.array(z.string()).nullable(),
  createdAt: z.number(),
  createdBy: z
    .string()
    .nullable()
    .describe('Name of the token that made it; null for those of the program itself.'),
  expiresAt: z.number().nullable(),
}) satisfies z.ZodType<Token>;

const newToken = z
  .strictObject({
    name: title,
    role: z
      .enum(tokenRoles, `must be ${tokenRoles.join(', ')}`)
      .describe(
        '`admin`: everything. `reader`: to read lines and devices. `metrics`: `/metrics`. `join`: a join key, with which devices register.',
      ),
    fleets: z
      .array(label('the name of a fleet'))
      .max(100, 'must be at most 100 fleets')
      .optional()
      .describe('`reader`: only devices of these fleets. `join`: the one fleet that devices are put into.'),
    devices: z
      .array(deviceUuid)
      .max(1000, 'must be at most 1000 devices')
      .optional()
      .describe('`reader`: these devices, too.'),
    expiresAt: z
      .int('must be ms since 1970')
      .positive('must be ms since 1970')
      .optional()
      .describe('From when on it opens nothing, in ms since 1970.'),
  })
  .superRefine(({ role, fleets, devices, expiresAt }, context) => {
    const wrong = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message });
    if (role !== 'reader' && devices) wrong('devices', `cannot limit the role ${role}`);
    if (role === 'join' && fleets && fleets.length !== 1) wrong('fleets', 'must be one fleet for a join key');
    if ((role === 'admin' || role === 'metrics') && fleets) wrong('fleets', `cannot limit the role ${role}`);
    if (expiresAt !== undefined && expiresAt <= Date.now()) wrong('expiresAt', 'must be in the future');
  });

/** `/tokens`: who may do what. Secrets are shown once, when they are made. */
export const tokenRoutes: FastifyPluginAsyncZod<{ records: Records; sessions: Sessions }> = async (
  app,
  { records, sessions },
) => {
  app.get(
    '/tokens',
    {
      schema: {
        summary: 'List tokens and join keys',
        tags: ['tokens'],
        querystring: z.strictObject(pageParameters(1000, 100)),
        response: {
          200: z.object({ tokens: z.array(tokenSchema), cursor: cursorSchema }),
          '4xx': problemSchema,
        },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const found = await records.tokens.list({ after: keyOfCursor(cursor), limit: limit + 1 });
      const page = pageOf(found, limit, ({ name }) => name);
      return { tokens: page.shown.map(shown), cursor: page.cursor };
    },
  );

  app.post(
    '/tokens',
    {
      schema: {
        summary: 'Make a token or a join key',
        description: 'This is the only time that it is shown: only its hash is kept.',
        tags: ['tokens'],
        body: newToken,
        response: { 201: tokenSchema.extend({ token: z.string() }), '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const { name, role, fleets = null, devices = null, expiresAt = null } = request.body;
      const secret = newSecret();
      const made = entry(request, 'token.create', name, request.body);
      const token = {
        name,
        role,
        hash: hashSecret(secret),
        fleets,
        devices,
        createdAtMs: Date.now(),
        createdBy: made.actor,
        expiresAtMs: expiresAt,
      };
      await records.audited(made, async (tables) => {
        for (const fleet of fleets ?? []) await checkFleet(tables, fleet);
        if (await tables.tokens.add(token)) return;
        throw new MillraceError('CONFLICT', `there is a token "${name}"`);
      });
      return reply.code(201).send({ ...shown(token), token: secret });
    },
  );

  app.delete(
    '/tokens/:name',
    {
      schema: {
        summary: 'Revoke a token or a join key',
        description: 'It opens nothing from this moment on, and what is followed with it is ended.',
        tags: ['tokens'],
        params: z.strictObject({ name: z.string().max(1000, 'must have at most 1000 characters') }),
        response: { 204: z.null(), '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      await records.audited(entry(request, 'token.revoke', name), async (tables) => {
        if (await tables.tokens.remove(name)) return;
        throw new MillraceError('NOT_FOUND', `there is no token "${name}"`);
      });
      await sessions.tokensChanged();
      return reply.code(204).send(null);
    },
  );
};

function shown({ name, role, fleets, devices, createdAtMs, createdBy, expiresAtMs }: TokenRecord) {
  return { name, role, fleets, devices, createdAt: createdAtMs, createdBy, expiresAt: expiresAtMs };
}
