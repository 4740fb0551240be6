import type { FastifyRequest } from 'fastify';
import type { AuditEntry } from '../records/audit.ts';
import { callerOfRequest } from './bearer.ts';

/** What the audit says of a request. */
export function entry(
  request: FastifyRequest,
  action: string,
  subject: string,
  detail: Record<string, unknown> = {},
): AuditEntry {
  return { actor: callerOfRequest(request).name, action, subject, detail };
}
