import { MillraceError } from '@millrace/wire';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import * as z from 'zod';
import { type GivenApp, maxApps, readApps, readCompose } from '../targets/given-apps.ts';

export const maxTargetBodyBytes = 2 * 1024 * 1024;

const yamlTypes = ['application/yaml', 'application/x-yaml', 'text/yaml', 'text/x-yaml', 'text/plain'];

const batchMessage = 'must be a number of devices, from 1, or a share of them such as "25%"';
const batch = z
  .union([z.number(), z.string()], batchMessage)
  .transform(String)
  .refine((text) => /^(?:[1-9]\d{0,5}|(?:[1-9]\d?|100)%)$/.test(text), batchMessage)
  .default('100%')
  .describe('How many devices at once: a number, or a share such as `25%`.');

const whole = (min: number, max: number) => {
  const message = `must be a whole number from ${min} to ${max}`;
  return z.int(message).min(min, message).max(max, message);
};

const common = {
  apps: z
    .array(z.unknown(), 'must be a list of apps')
    .max(maxApps, `must be at most ${maxApps} apps`)
    .optional()
    .describe(
      'Apps as in the app API of an agent. `appName` may stand in for `appId`: the id is given out once.',
    ),
  compose: z.string('must be the text of a compose file').optional().describe('In place of `apps`: one app.'),
  app: z
    .string('must be the name of an app')
    .min(1, 'must be the name of an app')
    .max(64, 'must be the name of an app')
    .optional()
    .describe('With `compose`: name or id of the app, where the file has no `name`.'),
  retry: z
    .boolean('must be true or false')
    .default(false)
    .describe('The devices try again what failed, though nothing differs.'),
  dryRun: z.boolean('must be true or false').default(false).describe('Only say what would change.'),
};
const oneOf = (given: { apps?: unknown; compose?: unknown; app?: unknown }) =>
  (given.apps === undefined) !== (given.compose === undefined) &&
  (given.app === undefined || given.compose !== undefined);
const oneOfMessage = 'must have apps, or compose and perhaps app';

export const deviceTargetBody = z.strictObject(common).refine(oneOf, oneOfMessage);
export const fleetTargetBody = z
  .strictObject({
    ...common,
    batch,
    maxFailures: whole(0, 1_000_000)
      .default(0)
      .describe('The rollout stops when more devices than these have failed.'),
    patienceMinutes: whole(1, 10_080)
      .default(30)
      .describe('A device that has given no result after this time counts as failed.'),
  })
  .refine(oneOf, oneOfMessage);

/**
 * Lets a compose file be a body by itself: its options are then parameters of the address.
 *
 *   curl -X PUT --data-binary @compose.yaml -H 'Content-Type: application/yaml' '…/target?batch=25%25'
 */
export function acceptCompose(app: FastifyInstance): void {
  app.addContentTypeParser(
    yamlTypes,
    { parseAs: 'string', bodyLimit: maxTargetBodyBytes },
    (request, text, done) => {
      const options = Object.entries(request.query as Record<string, unknown>);
      request.query = {};
      done(null, { ...Object.fromEntries(options.map(typed)), compose: text });
    },
  );
}

function typed([name, value]: [string, unknown]): [string, unknown] {
  if (name === 'compose' || name === 'apps')
    throw new MillraceError('PARAMETER_INVALID', `"${name}": no such parameter`);
  if ((name === 'retry' || name === 'dryRun') && (value === 'true' || value === 'false')) {
    return [name, value === 'true'];
  }
  const isNumber = name === 'maxFailures' || name === 'patienceMinutes';
  return [name, isNumber && typeof value === 'string' && /^\d{1,9}$/.test(value) ? Number(value) : value];
}

/** @throws MillraceError `APP_INVALID` that names the field */
export async function appsOfBody({
  apps,
  compose,
  app,
}: {
  apps?: unknown[];
  compose?: string;
  app?: string;
}): Promise<GivenApp[]> {
  return compose === undefined ? readApps(apps ?? []) : [await readCompose(compose, app)];
}

/** Whether the caller may see what is in environments. */
export function maySeeSecrets({ caller }: FastifyRequest): boolean {
  return caller?.role === 'admin';
}
