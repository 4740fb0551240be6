import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { AppState } from '@millrace/wire';
import { type AppRelease, parseApp, targetDocument } from '@millrace/wire/apps';
import { busyboxImage } from '../../../../../tests/support/docker.ts';

export const deviceUuid = 'd1';

/** A release as a cloud would ask for it, of services as the app API takes them. */
export function release(appId: number, releaseUuid: string, services: object[] = [web()]): AppRelease {
  const given = { appId, services };
  return { appId, appUuid: `app-${appId}`, releaseUuid, releaseId: 1, given, app: parseApp(given) };
}

export function web(more: object = {}): object {
  return { serviceName: 'web', imageName: busyboxImage, ...more };
}

export function documentOf(...releases: AppRelease[]) {
  return targetDocument({ uuid: deviceUuid, name: 'till-7' }, releases);
}

/** A cloud as far as targets go, by the contract in wire/apps/target.ts, on real HTTP. */
export async function startTargetCloud({ port = 0 } = {}) {
  let target: { version: string; body: string } | undefined;
  /** Answers to questions for the target: how often, by their status. */
  const answers: number[] = [];
  const streams = new Set<ServerResponse>();
  let apps: Record<string, AppState> = {};
  const cloud = {
    url: '',
    answers,
    /** How the device hears that there is something new. */
    tells: 'stream' as 'stream' | 'report' | 'nothing',
    /** Instead of an answer to a question for the target. */
    instead: undefined as ((response: ServerResponse) => void) | undefined,
    /** The apps of the newest report. */
    get reported() {
      return apps;
    },
    /** Has the target be this; a text is sent as it is; without, there is none. */
    want(version: string, document?: object | string): void {
      const body = typeof document === 'string' ? document : JSON.stringify(document);
      target = document === undefined ? undefined : { version, body };
      if (cloud.tells === 'stream') for (const stream of streams) tell(stream);
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
  const tell = (stream: ServerResponse) => {
    if (target) stream.write(`${JSON.stringify({ target: target.version })}\n`);
  };
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const route = `${request.method} ${request.url}`;
    if (route === `POST /device/v2/${deviceUuid}/log-stream`) {
      response.writeHead(200).flushHeaders();
      streams.add(response);
      request.resume().on('close', () => {
        streams.delete(response);
        response.end();
      });
      if (cloud.tells === 'stream') tell(response);
    } else if (route === 'PATCH /api/v3/device/state') {
      const report = (JSON.parse(await text(request)) as Record<string, { apps?: typeof apps }>)[deviceUuid];
      apps = report?.apps ?? apps;
      const headers = target && cloud.tells === 'report' ? { 'Millrace-Target': target.version } : {};
      response.writeHead(200, headers).end('{}');
    } else if (route === `GET /device/v3/${deviceUuid}/state`) {
      if (cloud.instead) return cloud.instead(response);
      const isSame = request.headers['if-none-match'] === `"${target?.version}"`;
      const status = !target ? 404 : isSame ? 304 : 200;
      answers.push(status);
      response.writeHead(status, target && { ETag: `"${target.version}"` });
      response.end(status === 200 ? target?.body : undefined);
    } else response.writeHead(404).end();
  };
  const server = createServer((request, response) => {
    request.on('error', () => {});
    handle(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  server.requestTimeout = 0;
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done));
  cloud.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return cloud;
}
