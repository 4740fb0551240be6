import type { IncomingMessage } from 'node:http';
import { MillraceError } from '@millrace/wire';
import type { FastifyRequest } from 'fastify';
import type { Identity } from '../identity/identity.ts';
import { type Scope, unlimited } from '../query/index.ts';

/** The token of `Authorization: Bearer …` (RFC 6750, 2.1). The URL is never looked at: URLs end up in logs. */
export function bearerToken(request: IncomingMessage): string | undefined {
  return /^bearer +([^\s]+) *$/i.exec(request.headers.authorization ?? '')?.[1];
}

/** A hook that lets admins pass. */
export function adminsOnly(identity: Identity): (request: FastifyRequest) => Promise<void> {
  return async (request) => {
    if (await identity.isAdmin(bearerToken(request.raw))) return;
    throw new MillraceError(
      'UNAUTHORIZED',
      request.headers.authorization === undefined ? 'no token was sent' : 'the token is not known here',
    );
  };
}

/** Whose lines the caller may see. Behind {@link adminsOnly} every caller is an admin. */
export function callersScope(_request: FastifyRequest): Scope {
  return unlimited;
}
