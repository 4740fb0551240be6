import { randomBytes } from 'node:crypto';

/*
 * Lines that come without a journal (of balena devices, Node-RED, a shell) get one of the process that takes them in:
 * `cloud` and 16 characters [0-9a-z]. It numbers the lines of all such devices together, so of one device's lines the
 * numbers in between are others', and not missing. Devices' own ids have another length.
 */

const prefix = 'cloud';
const randomChars = 16;

/** The id of a journal for lines that come without one. */
export function newOwnJournal(): string {
  const random = BigInt(`0x${randomBytes(10).toString('hex')}`).toString(36);
  return `${prefix}${random.padStart(randomChars, '0')}`;
}

/** Whether the column `journal` holds such an id, as a condition. */
export const ownJournalSql = `(length(journal) = ${prefix.length + randomChars} AND startsWith(journal, '${prefix}'))`;
