import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ErrorCode, errorText, MillraceError } from '@millrace/wire';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Logger } from 'pino';

export const problemType = 'application/problem+json';

/** What a refused peer may still send before its connection is cut. */
const lingerMs = 2000;
const lingerBytes = 4 * 1024 * 1024;

/** Turns anything thrown into an error of the catalogue. What is not ours is logged, and not shown. */
export function toMillraceError(error: unknown, log: Logger): MillraceError {
  if (error instanceof MillraceError) {
    if (error.status >= 500) log.warn({ error: error.message }, 'a request failed');
    return error;
  }
  const { code, statusCode } = error as { code?: string; statusCode?: number };
  const known = code === undefined ? undefined : fastifyCodes[code];
  if (known) return new MillraceError(known.code, known.detail);
  if (statusCode === 400) return new MillraceError('BODY_INVALID', errorText(error));
  log.error(
    { error: errorText(error), stack: error instanceof Error ? error.stack : undefined },
    'a request failed',
  );
  return new MillraceError('INTERNAL', 'the request could not be answered', { cause: error });
}

const fastifyCodes: Record<string, { code: ErrorCode; detail: string }> = {
  FST_ERR_CTP_BODY_TOO_LARGE: {
    code: 'BODY_TOO_LARGE',
    detail: 'the body is over the limit of this address',
  },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: { code: 'BODY_INVALID', detail: 'Content-Type: must be application/json' },
  FST_ERR_CTP_EMPTY_JSON_BODY: { code: 'BODY_INVALID', detail: 'the body is empty' },
  FST_ERR_CTP_INVALID_JSON_BODY: { code: 'BODY_INVALID', detail: 'the body is not JSON' },
  FST_ERR_BAD_URL: { code: 'NOT_FOUND', detail: 'the address is malformed' },
};

/** Answers with a problem document (RFC 9457). */
export function sendProblem(reply: FastifyReply, error: MillraceError): FastifyReply {
  if (error.status === 401) reply.header('www-authenticate', 'Bearer');
  // As bytes: to a text the framework would add a charset, which this type does not have.
  const body = Buffer.from(JSON.stringify(error.toProblem()));
  return reply.code(error.status).header('content-type', problemType).send(body);
}

/** Makes every error of a server, unknown addresses included, a problem document. */
export function useProblems(
  app: FastifyInstance,
  { log, onRefused }: { log: Logger; onRefused: (code: ErrorCode) => void },
): void {
  app.setErrorHandler((error, _request, reply) => {
    const problem = toMillraceError(error, log);
    onRefused(problem.code);
    return sendProblem(reply, problem);
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0];
    onRefused('NOT_FOUND');
    return sendProblem(
      reply,
      new MillraceError('NOT_FOUND', `nothing answers ${request.method} ${path} here`),
    );
  });
}

/**
 * Refuses a request whose body is still coming, without reading it. The answer goes out at once; then the
 * connection stays open for a moment and what comes is thrown away, because closing it with bytes unread resets
 * it, and the peer would lose the answer with it.
 */
export function refuseBody(
  request: IncomingMessage,
  response: ServerResponse,
  error: MillraceError,
  headers: Record<string, string> = {},
): void {
  const body = JSON.stringify(error.toProblem());
  response.writeHead(error.status, {
    'content-type': problemType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    connection: 'close',
    ...headers,
    ...(error.status === 401 && { 'www-authenticate': 'Bearer' }),
  });
  response.write(body);
  linger(request, () => response.end());
}

/** Throws away the rest of a request's body, up to a limit of time and bytes, then calls `done` once. */
export function linger(request: IncomingMessage, done: () => void): void {
  let left = lingerBytes;
  const finish = () => {
    clearTimeout(timer);
    request.off('data', count);
    request.off('end', finish);
    request.off('close', finish);
    done();
  };
  const count = (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) finish();
  };
  const timer = setTimeout(finish, lingerMs);
  if (request.readableEnded || request.destroyed) {
    finish();
    return;
  }
  request.on('end', finish);
  request.on('close', finish);
  // The peer may well be gone by now; the answer has been written, and that was all there was to do.
  request.on('error', () => undefined);
  request.on('data', count);
}
