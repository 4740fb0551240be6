import { MillraceError } from '@millrace/wire';
import * as z from 'zod';
import { count, once } from './parameters.ts';

/** Parameters of a list that comes in pages. */
export const pageParameters = (most: number, standard: number) => ({
  limit: count(1, most, standard).describe(`Most entries in the answer, up to ${most}.`),
  cursor: once('the cursor of the answer before')
    .max(1000, 'must be the cursor of the answer before')
    .optional()
    .describe('Where to go on: the cursor of the answer before, with the same other parameters.'),
});

export const cursorSchema = z
  .string()
  .optional()
  .describe('Present when there are more: pass it on to get them.');

/**
 * One page, of rows of which one more than `limit` was asked for. A cursor is the key of the last entry shown, so
 * that what is added or removed meanwhile moves nothing.
 */
export function pageOf<T>(
  rows: readonly T[],
  limit: number,
  keyOf: (row: T) => string,
): { shown: T[]; cursor?: string } {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  if (rows.length <= limit || last === undefined) return { shown };
  return { shown, cursor: Buffer.from(keyOf(last)).toString('base64url') };
}

/** The key that a cursor stands for. @throws MillraceError `PARAMETER_INVALID` */
export function keyOfCursor(cursor: string | undefined): string | undefined {
  if (cursor === undefined) return undefined;
  const key = Buffer.from(cursor, 'base64url').toString();
  const isOurs = key !== '' && !key.includes('\0') && Buffer.from(key).toString('base64url') === cursor;
  if (!isOurs) throw new MillraceError('PARAMETER_INVALID', 'cursor: not one of ours');
  return key;
}

/** The same for a list whose keys are numbers. @throws MillraceError `PARAMETER_INVALID` */
export function idOfCursor(cursor: string | undefined): number | undefined {
  const key = keyOfCursor(cursor);
  if (key === undefined) return undefined;
  if (/^\d{1,15}$/.test(key)) return Number(key);
  throw new MillraceError('PARAMETER_INVALID', 'cursor: not one of ours');
}
