import { MillraceError } from '@millrace/wire';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { parseLogsRequest } from '../../device-api/query.ts';
import type { LocalLogBackend } from '../../logging/local-backend.ts';
import type { Apps } from '../apps.ts';

export interface AppRoutesOptions {
  apps: Apps;
  local: LocalLogBackend;
}

type Params = { appId: string; name?: string };
type AppRequest = FastifyRequest<{ Params: Params; Querystring: Record<string, unknown> }>;

const maxBodyBytes = 1024 * 1024;
const actions = ['start', 'stop', 'restart'] as const;

/** The app API: what runs on this device, and how to change it. */
export function appRoutes({ apps, local }: AppRoutesOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    // `curl -d` says that it sends a form, others say nothing: what a body is follows from where it is sent.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', { parseAs: 'string', bodyLimit: maxBodyBytes }, (_request, body, done) =>
      done(null, body),
    );

    app.get('/v1/apps', async (request: AppRequest) => {
      checkQuery(request, []);
      return { apps: (await apps.known())?.list() ?? [] };
    });
    app.get('/v1/apps/:appId', async (request: AppRequest) => {
      checkQuery(request, []);
      return (await known(request)).get(idOf(request));
    });
    app.post('/v1/apps/:appId', async (request: AppRequest, reply) => {
      const retry = flagOf(request, 'retry');
      const { parseApp } = await import('@millrace/wire/apps');
      const given = withId(readJson(request.body), idOf(request));
      return deployed(reply, await (await apps.manager()).deploy(given, parseApp(given), { retry }));
    });
    app.post('/v1/apps/:appId/compose', async (request: AppRequest, reply) => {
      const retry = flagOf(request, 'retry');
      const { parseCompose } = await import('@millrace/wire/apps');
      const { given, app: parsed } = await parseCompose(textOf(request.body), idOf(request));
      return deployed(reply, await (await apps.manager()).deploy(given, parsed, { retry }));
    });
    app.delete('/v1/apps/:appId', async (request: AppRequest, reply) => {
      const volumes = flagOf(request, 'volumes');
      const view = await (await known(request)).remove(idOf(request), { volumes });
      return reply.code(202).send(view);
    });
    for (const action of actions) {
      app.post(`/v1/apps/:appId/${action}`, async (request: AppRequest) => {
        checkQuery(request, []);
        return (await known(request))[action](idOf(request));
      });
      app.post(`/v1/apps/:appId/services/:name/${action}`, async (request: AppRequest) => {
        checkQuery(request, []);
        return (await known(request))[action](idOf(request), request.params.name);
      });
    }
    app.get('/v1/apps/:appId/services/:name/logs', async (request: AppRequest) => {
      const appId = idOf(request);
      const { query, follow } = parseLogsRequest({ ...request.query, serviceName: request.params.name });
      if (follow)
        throw new MillraceError('PARAMETER_INVALID', 'follow is not known here; GET /v1/logs has it');
      const logs = await local.getLogs({ ...query, appId });
      return { count: logs.length, logs };
    });

    async function known(request: AppRequest) {
      const manager = await apps.known();
      if (!manager) throw new MillraceError('NOT_FOUND', `there is no app ${idOf(request)}`);
      return manager;
    }
  };
}

function deployed(
  reply: FastifyReply,
  { isChanged, view }: { isChanged: boolean; view: object },
): FastifyReply {
  return reply.code(isChanged ? 202 : 200).send(view);
}

function idOf({ params: { appId } }: AppRequest): number {
  if (/^[1-9]\d{0,14}$/.test(appId)) return Number(appId);
  throw new MillraceError('PARAMETER_INVALID', 'the app id in the address must be a whole number from 1');
}

function textOf(body: unknown): string {
  if (typeof body === 'string' && body.trim() !== '') return body;
  throw new MillraceError('BODY_INVALID', 'the body is empty');
}

function readJson(body: unknown): unknown {
  try {
    return JSON.parse(textOf(body));
  } catch (cause) {
    if (cause instanceof MillraceError) throw cause;
    throw new MillraceError('BODY_INVALID', `the body is not JSON: ${(cause as Error).message}`, { cause });
  }
}

/** The id may be left out of the body, but not be another there. */
function withId(given: unknown, appId: number): unknown {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return given;
  const { appId: said = appId } = given as { appId?: unknown };
  if (said === appId || typeof said !== 'number') return { ...given, appId: said };
  throw new MillraceError('APP_INVALID', `appId is ${said}, but the address says ${appId}`);
}

function flagOf(request: AppRequest, name: string): boolean {
  checkQuery(request, [name]);
  const value = request.query[name] ?? 'false';
  if (value === 'true' || value === '1') return true;
  if (value === 'false' || value === '0') return false;
  throw new MillraceError('PARAMETER_INVALID', `${name} must be true or false`);
}

function checkQuery({ query }: AppRequest, known: readonly string[]): void {
  const other = Object.keys(query).find((name) => !known.includes(name));
  if (other !== undefined) throw new MillraceError('PARAMETER_INVALID', `${other} is not known`);
}
