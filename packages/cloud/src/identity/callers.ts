import { MillraceError } from '@millrace/wire';
import { type Scope, unlimited } from '../query/index.ts';
import type { Records } from '../records/records.ts';
import { type TokenRecord, type TokenRole, tokenRoles } from '../records/tokens.ts';
import { hashSecret, sameHash } from './secrets.ts';

/** Whoever holds a token. */
export interface Caller {
  /** The token's name. */
  name: string;
  role: TokenRole;
  /** Whose lines and what of the devices may be seen. */
  scope: Scope;
  /** The fleets that the token names; `undefined` when it is not limited. */
  fleets: readonly string[] | undefined;
}

/** Most devices that a limited token may lead to: each is named to the store with every search. */
const maxScopeDevices = 100_000;

/**
 * Whom a bearer token belongs to, at this moment: one that was revoked, or has expired, is nobody's. A scope that names
 * fleets is the devices that are in them now.
 *
 * @throws MillraceError `FORBIDDEN` when the scope is too large to be one
 */
export async function callerOf(records: Records, token: string | undefined): Promise<Caller | undefined> {
  const found = await validToken(records, token);
  if (!found) return undefined;
  const { name, role, fleets, devices } = found;
  if (fleets === null && devices === null) return { name, role, scope: unlimited, fleets: undefined };
  const uuids = new Set(devices);
  for (const uuid of await records.devices.inFleets(fleets ?? [])) uuids.add(uuid);
  if (uuids.size > maxScopeDevices) {
    throw new MillraceError(
      'FORBIDDEN',
      `the token "${name}" leads to ${uuids.size} devices, and ${maxScopeDevices} is the most that it can be limited to`,
    );
  }
  return { name, role, scope: { devices: uuids }, fleets: fleets ?? [] };
}

/** The record of a token that opens something now. */
export async function validToken(
  records: Records,
  token: string | undefined,
): Promise<(TokenRecord & { role: TokenRole }) | undefined> {
  return token ? byValidHash(records, hashSecret(token)) : undefined;
}

/** Whether a token, of which this is the hash, opens something now. */
export async function isOpenHash(records: Pick<Records, 'tokens'>, hash: string): Promise<boolean> {
  return (await byValidHash(records, hash)) !== undefined;
}

async function byValidHash(
  records: Pick<Records, 'tokens'>,
  hash: string,
): Promise<(TokenRecord & { role: TokenRole }) | undefined> {
  const found = await records.tokens.byHash(hash);
  if (!found || !sameHash(found.hash, hash)) return undefined;
  if (found.expiresAtMs !== null && found.expiresAtMs <= Date.now()) return undefined;
  // A role of a newer program opens nothing here.
  const role = tokenRoles.find((known) => known === found.role);
  return role && { ...found, role };
}
