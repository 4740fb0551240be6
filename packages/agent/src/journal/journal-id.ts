import { randomBytes } from 'node:crypto';

/** A random id of 20 characters [0-9a-z]: 13 random bytes in base 36. */
export function newJournalId(): string {
  return BigInt(`0x${randomBytes(13).toString('hex')}`)
    .toString(36)
    .padStart(20, '0')
    .slice(-20);
}
