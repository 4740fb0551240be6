import {
  type IncomingMessage,
  type RequestOptions,
  request as requestHttp,
  type ServerResponse,
} from 'node:http';
import { request as requestHttps } from 'node:https';
import { errorText, MillraceError } from '@millrace/wire';
import type { PeerRecord } from '../records/peer-table.ts';

/** Set on what one process hands on to another, which hands it on no further. */
export const forwardedHeader = 'millrace-forwarded';

const passedOn = ['authorization', 'content-type', 'content-encoding', 'millrace-acks'] as const;
const passedBack = ['content-type', 'content-length', 'retry-after'] as const;

export interface ForwardedStream {
  request: IncomingMessage;
  response: ServerResponse;
  peer: PeerRecord;
  /** Ends it: the server stops. */
  signal: AbortSignal;
}

/**
 * Hands a log-stream on to the process that answers for the device, and its answer back, as they are: compressed,
 * with the device's own credentials. Resolves when either has ended. What breaks on one side breaks on the other;
 * the device comes again.
 *
 * @throws MillraceError `DEVICE_ELSEWHERE` when there was no answer; then the device is still to be told so
 */
export async function forwardStream({ request, response, peer, signal }: ForwardedStream): Promise<void> {
  const url = new URL(request.url ?? '/', peer.url);
  const headers: Record<string, string> = { [forwardedHeader]: '1' };
  for (const name of passedOn) {
    const value = request.headers[name];
    if (typeof value === 'string') headers[name] = value;
  }
  const options: RequestOptions = { method: 'POST', headers, signal, agent: false };
  const far = url.protocol === 'https:' ? requestHttps(url, options) : requestHttp(url, options);
  const { promise: ended, resolve: end, reject: fail } = Promise.withResolvers<void>();
  far.setNoDelay(true);
  far.on('response', (answer) => {
    const back: Record<string, string> = {};
    for (const name of passedBack) {
      const value = answer.headers[name];
      if (value !== undefined) back[name] = value;
    }
    response.writeHead(answer.statusCode ?? 502, {
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
      ...back,
      ...((answer.statusCode ?? 502) >= 400 && { connection: 'close' }),
    });
    response.flushHeaders();
    answer.pipe(response);
    answer.on('error', () => response.destroy());
    answer.on('close', () => {
      // It ended before its request did: nothing else can use this connection.
      if (!request.readableEnded) response.end(() => request.socket.destroy());
      end();
    });
  });
  far.on('error', (error) => {
    if (response.headersSent || request.destroyed) {
      request.socket.destroy();
      end();
      return;
    }
    request.unpipe(far);
    fail(
      new MillraceError('DEVICE_ELSEWHERE', `${peer.url} does not answer: ${errorText(error)}`, {
        cause: error,
      }),
    );
  });
  request.on('close', () => {
    if (!request.readableEnded) far.destroy();
  });
  response.on('close', () => far.destroy());
  request.pipe(far);
  await ended;
}
