import { MillraceError } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import { hashSecret, newSecret } from '../identity/secrets.ts';
import type { Sessions } from '../identity/sessions.ts';
import type { Tag } from '../records/devices.ts';
import type { RecordTables } from '../records/records.ts';
import type { RolloutDriver } from '../targets/rollout-driver.ts';
import type { TargetFeed } from '../targets/target-feed.ts';
import { entry } from './audit-entry.ts';
import { callersScope, checkMayRead, forReaders } from './bearer.ts';
import { type DeviceListParts, listDevices, oneDevice } from './device-list.ts';
import { deviceUuid, label, tags, title } from './names.ts';
import { cursorSchema, keyOfCursor, pageOf, pageParameters } from './paging.ts';
import { deviceSchema, gapSchema, problemSchema } from './schemas.ts';

export interface DeviceRoutesOptions extends DeviceListParts {
  feed: TargetFeed;
  rollouts: RolloutDriver;
  sessions: Sessions;
}

/** Most gaps in one answer. */
const maxGaps = 1000;

const params = z.strictObject({ uuid: deviceUuid });

const tagFilter = z
  .string('must be key=value')
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}=\P{Cc}{0,256}$/u, 'must be key=value');

const listQuery = z.strictObject({
  fleet: label('the name of a fleet').optional().describe('Only devices of this fleet.'),
  tag: z
    .union([tagFilter, z.array(tagFilter).max(10, 'must be given at most 10 times')])
    .transform((given) => (Array.isArray(given) ? given : [given]))
    .optional()
    .describe('Only devices with this tag, as `key=value`. May be repeated: all must be there.'),
  online: z
    .enum(['true', 'false'], 'must be true or false')
    .transform((text) => text === 'true')
    .optional()
    .describe('Only devices that are online, or only those that are not, or of which it is not known.'),
  ...pageParameters(1000, 1000),
});

const changes = z
  .strictObject({
    name: title.nullable().optional().describe('For people; null for none.'),
    fleet: label('the name of a fleet').nullable().optional().describe('Null for none.'),
    tags: tags.optional().describe('All its tags: those left out are removed.'),
  })
  .refine((given) => Object.keys(given).length > 0, 'must name something to change');

/**
 * `/devices`: who has registered or sent lines, and what is known of each; their names, fleets, tags and keys; and
 * which lines of one are missing.
 */
export const deviceRoutes: FastifyPluginAsyncZod<DeviceRoutesOptions> = async (app, options) => {
  const { records, store, sessions, feed, rollouts } = options;

  app.get(
    '/devices',
    {
      config: forReaders,
      schema: {
        summary: 'List devices',
        tags: ['devices'],
        querystring: listQuery,
        response: {
          200: z.object({ devices: z.array(deviceSchema), cursor: cursorSchema }),
          '4xx': problemSchema,
        },
      },
    },
    async (request) => {
      const { tag, cursor, limit, ...filter } = request.query;
      const found = await listDevices(
        options,
        { ...filter, tags: tag?.map(tagOf), after: keyOfCursor(cursor), limit: limit + 1 },
        callersScope(request),
      );
      const page = pageOf(found, limit, ({ uuid }) => uuid);
      return { devices: page.shown, cursor: page.cursor };
    },
  );

  app.get(
    '/devices/:uuid',
    {
      config: forReaders,
      schema: {
        summary: 'Show a device',
        tags: ['devices'],
        params,
        querystring: z.strictObject({}),
        response: { 200: deviceSchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      checkMayRead(request, request.params.uuid);
      return known(await oneDevice(options, request.params.uuid), request.params.uuid);
    },
  );

  app.patch(
    '/devices/:uuid',
    {
      schema: {
        summary: 'Name a device, put it into a fleet, tag it',
        tags: ['devices'],
        params,
        body: changes,
        response: { 200: deviceSchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      const { uuid } = request.params;
      const { body } = request;
      // A typing error must not make a device.
      known(await oneDevice(options, uuid), uuid);
      await records.audited(entry(request, 'device.change', uuid, body), async (tables) => {
        await tables.targetChanges.lock();
        if (body.fleet) await checkFleet(tables, body.fleet);
        await tables.devices.change(uuid, body);
        // Another fleet means other apps, and its name is in the target.
        await tables.targetChanges.note([uuid]);
      });
      feed.look();
      rollouts.heard();
      return known(await oneDevice(options, uuid), uuid);
    },
  );

  app.post(
    '/devices/:uuid/key',
    {
      schema: {
        summary: 'Give a device another key',
        description:
          'The key before is none from this moment on, and what the device has open is ended. This is the only time that the new one is shown.',
        tags: ['devices'],
        params,
        response: { 200: z.object({ uuid: z.string(), api_key: z.string() }), '4xx': problemSchema },
      },
    },
    async (request) => {
      const { uuid } = request.params;
      const key = newSecret();
      await records.audited(entry(request, 'device.key', uuid), async (tables) => {
        if (!(await tables.devices.setKey(uuid, hashSecret(key)))) throw unknown(uuid);
      });
      await sessions.deviceChanged(uuid);
      return { uuid, api_key: key };
    },
  );

  app.delete(
    '/devices/:uuid',
    {
      schema: {
        summary: 'Remove a device',
        description:
          'Its key is none from this moment on; name, fleet and tags are forgotten. Its lines stay until they expire, and with them it is still listed.',
        tags: ['devices'],
        params,
        response: { 204: z.null(), '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const { uuid } = request.params;
      await records.audited(entry(request, 'device.remove', uuid), async (tables) => {
        await tables.targetChanges.lock();
        if (!(await tables.devices.remove(uuid))) throw unknown(uuid);
        await tables.targets.removeOfDevice(uuid);
        await tables.targetChanges.note([uuid]);
        await tables.presence.remove(uuid);
        await tables.states.remove(uuid);
      });
      feed.look();
      await sessions.deviceChanged(uuid);
      return reply.code(204).send(null);
    },
  );

  app.get(
    '/devices/:uuid/gaps',
    {
      config: forReaders,
      schema: {
        summary: "List what is missing of a device's lines",
        tags: ['devices'],
        params,
        querystring: z.strictObject({}),
        response: { 200: z.object({ gaps: z.array(gapSchema) }), '4xx': problemSchema },
      },
    },
    async (request) => {
      checkMayRead(request, request.params.uuid);
      return { gaps: await store.gaps(request.params.uuid, maxGaps) };
    },
  );
};

function tagOf(text: string): Tag {
  const at = text.indexOf('=');
  return [text.slice(0, at), text.slice(at + 1)];
}

function known<T>(device: T | undefined, uuid: string): T {
  if (device === undefined) throw unknown(uuid);
  return device;
}

function unknown(uuid: string): MillraceError {
  return new MillraceError('NOT_FOUND', `there is no device ${uuid}`);
}

/** @throws MillraceError `BODY_INVALID` when there is no such fleet */
export async function checkFleet(tables: RecordTables, name: string): Promise<void> {
  if (await tables.fleets.get(name)) return;
  throw new MillraceError('BODY_INVALID', `fleet: there is no fleet "${name}"`);
}
