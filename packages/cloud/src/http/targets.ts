import { type AppChange, MillraceError } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { Records, RecordTables } from '../records/records.ts';
import type { TargetOwner } from '../records/targets.ts';
import type { RolloutDriver } from '../targets/rollout-driver.ts';
import {
  nameOf,
  releasesFor,
  releasesOf,
  type TargetRequest,
  type TargetSet,
} from '../targets/set-target.ts';
import type { TargetFeed } from '../targets/target-feed.ts';
import { deviceTargetInfo, fleetTargetInfo, type ViewParts, wantedApp } from '../targets/views.ts';
import { entry } from './audit-entry.ts';
import { callerOfRequest, checkMayRead, forReaders } from './bearer.ts';
import { type DeviceListParts, oneDevice } from './device-list.ts';
import { deviceUuid, label } from './names.ts';
import { idOfCursor, keyOfCursor, pageOf, pageParameters } from './paging.ts';
import { problemSchema } from './schemas.ts';
import {
  acceptCompose,
  appsOfBody,
  deviceTargetBody,
  fleetTargetBody,
  maxTargetBodyBytes,
  maySeeSecrets,
} from './target-body.ts';
import { deviceTargetSchema, fleetTargetSchema, historySchema, setSchema } from './target-schemas.ts';

export interface TargetRoutesOptions extends ViewParts, DeviceListParts {
  feed: TargetFeed;
  rollouts: RolloutDriver;
}

const deviceParams = z.strictObject({ uuid: deviceUuid });
const fleetParams = z.strictObject({ name: label('the name of a fleet') });
const devicePages = z.strictObject(pageParameters(1000, 100));
const removal = z.strictObject({
  app: z
    .string()
    .min(1, 'must be the name or the id of an app')
    .max(64, 'must be the name or the id of an app')
    .optional()
    .describe('Only this app, by its name or id.'),
});
const compose =
  ' The body may be a compose file, too, with `Content-Type: application/yaml`: its options are then parameters of the address, and it says nothing of other apps.';
const tags = ['targets'];
const modes = { PUT: 'replace', PATCH: 'merge' } as const;

/** `/devices/{uuid}/target` and `/fleets/{name}/target`: what they are to run. */
export const targetRoutes: FastifyPluginAsyncZod<TargetRoutesOptions> = async (app, options) => {
  const { records, feed, rollouts } = options;
  acceptCompose(app);

  for (const method of ['PUT', 'PATCH'] as const) {
    const what =
      method === 'PUT' ? 'Exactly these apps.' : 'These apps, and of the others those that there are.';
    const mode = modes[method];
    app.route({
      method,
      url: '/devices/:uuid/target',
      bodyLimit: maxTargetBodyBytes,
      schema: {
        summary: method === 'PUT' ? 'Deploy to a device' : 'Deploy apps to a device beside those it has',
        description: `${what} They stand over those of its fleet.${compose}`,
        tags,
        params: deviceParams,
        querystring: z.strictObject({}),
        body: deviceTargetBody,
        response: { 200: setSchema, 202: setSchema, '4xx': problemSchema },
      },
      handler: async (request, reply) => {
        const { uuid } = request.params;
        // A typing error must not make a device.
        if (!(await oneDevice(options, uuid))) throw noDevice(uuid);
        const { dryRun, retry } = request.body;
        const wanted = requestOf(request, { mode, apps: await appsOfBody(request.body), isRetry: retry });
        const set = await inTransaction(records, dryRun, async (tables) => {
          const owner = { device: uuid };
          const made = await releasesFor(tables, await releasesOf(tables, owner), wanted);
          if (made.isChanged) await save(tables, owner, made, wanted);
          if (made.isChanged)
            await tables.audit.append(entry(request, 'device.target', uuid, { apps: made.changes }));
          return made;
        });
        if (set.isChanged && !dryRun) feed.look();
        return reply.code(set.isChanged ? 202 : 200).send(shown(set, dryRun));
      },
    });

    app.route({
      method,
      url: '/fleets/:name/target',
      bodyLimit: maxTargetBodyBytes,
      schema: {
        summary: method === 'PUT' ? 'Deploy to a fleet' : 'Deploy apps to a fleet beside those it has',
        description: `${what} They reach the devices batch by batch; the next batch begins when all of the one before are done.${compose}`,
        tags,
        params: fleetParams,
        querystring: z.strictObject({}),
        body: fleetTargetBody,
        response: { 200: setSchema, 202: setSchema, '4xx': problemSchema },
      },
      handler: async (request, reply) => {
        const { name } = request.params;
        if (!(await records.fleets.get(name))) throw noFleet(name);
        const { dryRun, retry, batch, maxFailures, patienceMinutes } = request.body;
        const wanted = requestOf(request, { mode, apps: await appsOfBody(request.body), isRetry: retry });
        const set = await inTransaction(records, dryRun, async (tables) => {
          const owner = { fleet: name };
          const made = await releasesFor(tables, await releasesOf(tables, owner), wanted);
          if (!made.isChanged) return made;
          const pace = { batch, maxFailures, patienceMs: patienceMinutes * 60_000 };
          await save(tables, owner, made, wanted, pace);
          const detail = { apps: made.changes, batch, maxFailures, patienceMinutes };
          await tables.audit.append(entry(request, 'fleet.target', name, detail));
          return made;
        });
        if (set.isChanged && !dryRun) rollouts.begun();
        return reply.code(set.isChanged ? 202 : 200).send(shown(set, dryRun));
      },
    });
  }

  app.get(
    '/devices/:uuid/target',
    {
      config: forReaders,
      schema: {
        summary: 'What a device is to run, and how far it is',
        description: '`app`, the app as it was given, is shown to admins alone.',
        tags,
        params: deviceParams,
        querystring: z.strictObject({}),
        response: { 200: deviceTargetSchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      const { uuid } = request.params;
      checkMayRead(request, uuid);
      if (!(await oneDevice(options, uuid))) throw noDevice(uuid);
      return deviceTargetInfo(options, uuid, maySeeSecrets(request));
    },
  );

  app.get(
    '/fleets/:name/target',
    {
      config: forReaders,
      schema: {
        summary: 'What a fleet is to run, and how far its devices are',
        description: '`app`, the app as it was given, is shown to admins alone.',
        tags,
        params: fleetParams,
        querystring: devicePages,
        response: { 200: fleetTargetSchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      const { name } = request.params;
      const { limit, cursor } = request.query;
      await checkFleetOpen(request, records, name);
      const found = await fleetTargetInfo(options, name, {
        after: keyOfCursor(cursor),
        limit: limit + 1,
        withApps: maySeeSecrets(request),
      });
      const page = pageOf(found.devices, limit, ({ uuid }) => uuid);
      return { ...found, devices: page.shown, cursor: page.cursor };
    },
  );

  for (const kind of ['devices', 'fleets'] as const) {
    const key = kind === 'devices' ? 'uuid' : 'name';
    const params = z.strictObject({ [key]: kind === 'devices' ? deviceUuid : label('the name of a fleet') });
    const ownerOf = (given: Record<string, string>): TargetOwner =>
      kind === 'devices' ? { device: given[key] ?? '' } : { fleet: given[key] ?? '' };
    const one = kind === 'devices' ? 'device' : 'fleet';

    app.get(
      `/${kind}/:${key}/target/history`,
      {
        config: forReaders,
        schema: {
          summary: `What a ${one} was to run before`,
          description: 'The newest first. The last 100 are kept.',
          tags,
          params,
          querystring: devicePages,
          response: { 200: historySchema, '4xx': problemSchema },
        },
      },
      async (request) => {
        const owner = ownerOf(request.params);
        if ('device' in owner) checkMayRead(request, owner.device);
        else await checkFleetOpen(request, records, owner.fleet);
        const { limit, cursor } = request.query;
        const rows = await records.targets.history(owner, { before: idOfCursor(cursor), limit: limit + 1 });
        const page = pageOf(rows, limit, ({ id }) => String(id));
        const releases = await records.releases.byIds(page.shown.flatMap((target) => target.releases));
        const targets = page.shown.map((target) => ({
          id: target.id,
          createdAt: target.createdAtMs,
          createdBy: target.createdBy,
          apps: target.releases.flatMap((id) => {
            const release = releases.get(id);
            return release ? [wantedApp(release, maySeeSecrets(request))] : [];
          }),
        }));
        return { targets, cursor: page.cursor };
      },
    );

    app.delete(
      `/${kind}/:${key}/target`,
      {
        schema: {
          summary: `Take back what a ${one} is to run`,
          description: `Without \`app\` there is no target of the ${one} any more, and what runs is left as it is. One app is removed from the devices; so are all by a \`PUT\` without apps.`,
          tags,
          params,
          querystring: removal,
          response: { 204: z.null(), '4xx': problemSchema },
        },
      },
      async (request, reply) => {
        const owner = ownerOf(request.params);
        const { app: called } = request.query;
        await inTransaction(records, false, async (tables) => {
          const current = await releasesOf(tables, owner);
          const subject = 'device' in owner ? owner.device : owner.fleet;
          if (!current) throw new MillraceError('NOT_FOUND', `${one} ${subject} has no target of its own`);
          if (called === undefined) {
            await remove(tables, owner);
            await tables.audit.append(entry(request, `${one}.target.remove`, subject));
            return;
          }
          const gone = current.find(
            (release) => String(release.appId) === called || nameOf(release) === called,
          );
          if (!gone) throw new MillraceError('NOT_FOUND', `the target has no app ${called}`);
          const set = { releases: current.filter((release) => release !== gone).map(({ id }) => id) };
          await save(tables, owner, set, requestOf(request, { mode: 'replace', apps: [], isRetry: false }));
          const change = { appId: gone.appId, appName: nameOf(gone), change: 'removed' };
          await tables.audit.append(entry(request, `${one}.target`, subject, { apps: [change] }));
        });
        feed.look();
        rollouts.begun();
        return reply.code(204).send(null);
      },
    );
  }
};

type Pace = { batch: string; maxFailures: number; patienceMs: number };
const allAtOnce: Pace = { batch: '100%', maxFailures: 0, patienceMs: 30 * 60_000 };

async function save(
  tables: RecordTables,
  owner: TargetOwner,
  { releases }: Pick<TargetSet, 'releases'>,
  { by, nowMs }: TargetRequest,
  pace: Pace = allAtOnce,
): Promise<void> {
  const { id } = await tables.targets.add(owner, { releases, createdAtMs: nowMs, createdBy: by });
  if ('device' in owner) {
    await tables.targets.setOfDevice(owner.device, id);
    await tables.targetChanges.note([owner.device]);
  } else {
    await tables.rollouts.begin({
      fleet: owner.fleet,
      target: id,
      ...pace,
      startedAtMs: nowMs,
      startedBy: by,
    });
  }
}

async function remove(tables: RecordTables, owner: TargetOwner): Promise<void> {
  if ('device' in owner) {
    await tables.targets.removeOfDevice(owner.device);
    await tables.targetChanges.note([owner.device]);
  } else {
    await tables.rollouts.removeOfFleet(owner.fleet);
    await tables.targetChanges.note(await tables.devices.inFleets([owner.fleet]));
  }
}

/** One change of targets after another; a rehearsal is taken back. */
async function inTransaction<T>(
  records: Records,
  isRehearsal: boolean,
  work: (tables: RecordTables) => Promise<T>,
): Promise<T> {
  const rehearsed = new MillraceError('CONFLICT', 'only a rehearsal');
  let result: { value: T } | undefined;
  try {
    return await records.transaction(async (tables) => {
      await tables.targetChanges.lock();
      result = { value: await work(tables) };
      if (isRehearsal) throw rehearsed;
      return result.value;
    });
  } catch (error) {
    if (error === rehearsed && result) return result.value;
    throw error;
  }
}

function requestOf(
  request: Parameters<typeof callerOfRequest>[0],
  wanted: Pick<TargetRequest, 'apps' | 'mode' | 'isRetry'>,
): TargetRequest {
  return { ...wanted, by: callerOfRequest(request).name, nowMs: Date.now() };
}

async function checkFleetOpen(
  request: Parameters<typeof callerOfRequest>[0],
  records: Records,
  name: string,
): Promise<void> {
  const { fleets } = callerOfRequest(request);
  const isOpen = fleets === undefined || fleets.includes(name);
  if (!isOpen || !(await records.fleets.get(name))) throw noFleet(name);
}

function shown(
  { isChanged, changes }: TargetSet,
  isDryRun: boolean,
): {
  changed: boolean;
  dryRun: boolean;
  changes: AppChange[];
} {
  return { changed: isChanged, dryRun: isDryRun, changes };
}

function noDevice(uuid: string): MillraceError {
  return new MillraceError('NOT_FOUND', `there is no device ${uuid}`);
}

function noFleet(name: string): MillraceError {
  return new MillraceError('NOT_FOUND', `there is no fleet "${name}"`);
}
