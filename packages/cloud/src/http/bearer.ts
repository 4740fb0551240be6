import type { IncomingMessage } from 'node:http';
import { MillraceError } from '@millrace/wire';
import type { FastifyRequest } from 'fastify';
import type { Caller } from '../identity/callers.ts';
import type { Identity } from '../identity/identity.ts';
import { mayRead, type Scope } from '../query/index.ts';
import type { TokenRole } from '../records/tokens.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set behind {@link authorize}. */
    caller?: Caller;
  }
  interface FastifyContextConfig {
    /** Roles that the address is open to. Default: admins alone. */
    roles?: readonly TokenRole[];
  }
}

/** For `config` of a route: open to readers, too, within their scope. */
export const forReaders = { roles: ['admin', 'reader'] } as const;

/** The token of `Authorization: Bearer …` (RFC 6750, 2.1). The URL is never looked at: URLs end up in logs. */
export function bearerToken(request: IncomingMessage): string | undefined {
  return /^bearer +([^\s]+) *$/i.exec(request.headers.authorization ?? '')?.[1];
}

/** A hook that lets those pass whose role the route is open to. */
export function authorize(identity: Identity): (request: FastifyRequest) => Promise<void> {
  return async (request) => {
    const caller = await identity.caller(bearerToken(request.raw));
    if (!caller || caller.role === 'join') {
      throw new MillraceError(
        'UNAUTHORIZED',
        request.headers.authorization === undefined ? 'no token was sent' : 'the token is not known here',
      );
    }
    const { roles = ['admin'] } = request.routeOptions.config;
    if (!roles.includes(caller.role)) {
      throw new MillraceError('FORBIDDEN', `this is not open to the role "${caller.role}"`);
    }
    request.caller = caller;
  };
}

/** Who asks, behind {@link authorize}. */
export function callerOfRequest({ caller }: FastifyRequest): Caller {
  if (!caller) throw new MillraceError('INTERNAL', 'a route is not behind the check of its caller');
  return caller;
}

/** Whose lines the caller may see. */
export function callersScope(request: FastifyRequest): Scope {
  return callerOfRequest(request).scope;
}

/**
 * What is asked of one device, on behalf of someone who may not know that it exists.
 *
 * @throws MillraceError `NOT_FOUND`
 */
export function checkMayRead(request: FastifyRequest, uuid: string): void {
  if (mayRead(callersScope(request), uuid)) return;
  throw new MillraceError('NOT_FOUND', `there is no device ${uuid}`);
}
