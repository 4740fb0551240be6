import { randomUUID } from 'node:crypto';
import { levels, MillraceError, type Policy } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { PolicyRecord } from '../records/policies.ts';
import type { Records, RecordTables } from '../records/records.ts';
import { retentionClasses } from '../retention/days.ts';
import type { PolicyBook } from '../retention/policy-book.ts';
import { entry } from './audit-entry.ts';
import { problemSchema } from './schemas.ts';

export interface PolicyRoutesOptions {
  records: Records;
  policies: PolicyBook;
}

/** What a policy costs is paid per line and device, and all are in every process's memory. */
export const maxPolicies = 500;
/** A plan names them in every row, so that they are few for the lines of one device. */
export const maxServicesPerGroup = 20;

const name = (what: string, most: number) =>
  z
    .string(`must be ${what}, or null for any`)
    .min(1, `must be ${what}, or null for any`)
    .max(most, `must have at most ${most} characters`)
    .regex(/^\P{Cc}*$/u, 'must have no control characters')
    .nullable()
    .default(null);

const body = z
  .strictObject({
    fleet: name('the name of a fleet', 64).describe('For devices of this fleet.'),
    device: name('the uuid of a device', 256).describe('For this device.'),
    service: name('the name of a service', 256).describe('For lines of this service.'),
    level: z
      .enum(levels, `must be one of ${levels.join(', ')}, or null for any`)
      .nullable()
      .default(null)
      .describe('For lines of this level.'),
    retentionDays: z
      .literal([...retentionClasses], `must be one of ${retentionClasses.join(', ')}, or null`)
      .nullable()
      .default(null)
      .describe('How long they are kept after they arrived.'),
    dailyQuotaBytes: z
      .int('must be a whole number of bytes, or null')
      .min(0, 'must be a whole number of bytes, or null')
      .nullable()
      .default(null)
      .describe('What each device may send in a day (UTC), in bytes of messages.'),
  })
  .superRefine((policy, context) => {
    const wrong = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message });
    if (policy.retentionDays === null && policy.dailyQuotaBytes === null) {
      wrong('retentionDays', 'a policy must set retentionDays, dailyQuotaBytes or both');
    }
    if (policy.dailyQuotaBytes !== null && (policy.service !== null || policy.level !== null)) {
      wrong('dailyQuotaBytes', 'is for devices as a whole: it cannot go with service or level');
    }
    if (policy.device !== null && policy.fleet !== null) {
      wrong('fleet', 'cannot go with device, which is in one fleet at most');
    }
  });

const policySchema = z.object({
  id: z.string(),
  fleet: z.string().nullable(),
  device: z.string().nullable(),
  service: z.string().nullable(),
  level: z.enum(levels).nullable(),
  retentionDays: z.number().nullable(),
  dailyQuotaBytes: z.number().nullable(),
  changedAt: z.number().describe('In ms since 1970.'),
}) satisfies z.ZodType<Policy>;

const params = z.strictObject({ id: z.string().max(64, 'must have at most 64 characters') });

/** `/policies`: how long lines are kept, and how much devices may send. */
export const policyRoutes: FastifyPluginAsyncZod<PolicyRoutesOptions> = async (
  app,
  { records, policies },
) => {
  app.get(
    '/policies',
    {
      schema: {
        summary: 'List policies',
        tags: ['retention'],
        querystring: z.strictObject({}),
        response: { 200: z.object({ policies: z.array(policySchema) }), '4xx': problemSchema },
      },
    },
    async () => ({ policies: (await records.policies.list()).map(shown) }),
  );

  app.post(
    '/policies',
    {
      schema: {
        summary: 'Make a policy',
        description:
          'For lines that arrive from now on. Of those that are for a line the most specific counts.',
        tags: ['retention'],
        body,
        response: { 201: policySchema, '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const policy = { ...request.body, id: randomUUID(), changedAtMs: Date.now() };
      await records.audited(entry(request, 'policy.create', policy.id, request.body), async (tables) => {
        if ((await tables.policies.count()) >= maxPolicies) {
          throw new MillraceError('CONFLICT', `there are ${maxPolicies} policies, which is the most`);
        }
        await save(tables, policy);
      });
      await policies.refresh();
      return reply.code(201).send(shown(policy));
    },
  );

  app.put(
    '/policies/:id',
    {
      schema: {
        summary: 'Replace a policy',
        tags: ['retention'],
        params,
        body,
        response: { 200: policySchema, '4xx': problemSchema },
      },
    },
    async (request) => {
      const policy = { ...request.body, id: request.params.id, changedAtMs: Date.now() };
      await records.audited(entry(request, 'policy.change', policy.id, request.body), async (tables) => {
        // Taken out first, so that it does not count against itself.
        if (!(await tables.policies.remove(policy.id))) throw unknown(policy.id);
        await save(tables, policy);
      });
      await policies.refresh();
      return shown(policy);
    },
  );

  app.delete(
    '/policies/:id',
    {
      schema: {
        summary: 'Remove a policy',
        tags: ['retention'],
        params,
        response: { 204: z.null(), '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      await records.audited(entry(request, 'policy.remove', id), async (tables) => {
        if (!(await tables.policies.remove(id))) throw unknown(id);
      });
      await policies.refresh();
      return reply.code(204).send(null);
    },
  );
};

async function save(tables: RecordTables, policy: PolicyRecord): Promise<void> {
  const { fleet, device, service } = policy;
  if (fleet !== null && !(await tables.fleets.get(fleet))) {
    throw new MillraceError('BODY_INVALID', `fleet: there is no fleet "${fleet}"`);
  }
  if (service !== null) {
    const others = (await tables.policies.list()).filter(
      (other) => other.fleet === fleet && other.device === device && other.service !== null,
    );
    const services = new Set([...others.map((other) => other.service), service]);
    if (services.size > maxServicesPerGroup) {
      throw new MillraceError(
        'CONFLICT',
        `policies name ${maxServicesPerGroup} services for these devices, which is the most`,
      );
    }
  }
  if (!(await tables.policies.save(policy))) {
    throw new MillraceError('CONFLICT', 'another policy is for the same fleet, device, service and level');
  }
}

function shown({ changedAtMs, ...policy }: PolicyRecord) {
  return { ...policy, changedAt: changedAtMs };
}

function unknown(id: string): MillraceError {
  return new MillraceError('NOT_FOUND', `there is no policy ${id}`);
}
