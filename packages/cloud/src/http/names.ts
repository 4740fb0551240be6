import * as z from 'zod';

/** A name that is typed, stands in queries, and is a part of addresses. */
export const label = (what: string) =>
  z
    .string(`must be ${what}`)
    .regex(
      /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
      'must be 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-", beginning with a letter or a digit',
    );

/** A text for people. The database keeps no NUL, and other control characters would disturb a terminal. */
export const plainText = (most: number) =>
  z
    .string('must be a text')
    .max(most, `must have at most ${most} characters`)
    .regex(/^\P{Cc}*$/u, 'must have no control characters');

/** A name for people. */
export const title = z
  .string('must be a text')
  .trim()
  .min(1, 'must not be empty')
  .max(200, 'must have at most 200 characters')
  .regex(/^\P{Cc}*$/u, 'must have no control characters');

/** A device as an address names it. Behind an external broker it is a topic level that this program did not choose. */
export const deviceUuid = z
  .string('must be a uuid')
  .min(1, 'must be a uuid')
  .max(256, 'must have at most 256 characters')
  .regex(/^\P{Cc}*$/u, 'must have no control characters');

const maxTags = 64;

export const tags = z
  .record(label('the key of a tag'), plainText(256))
  .refine((all) => Object.keys(all).length <= maxTags, `must be at most ${maxTags} tags`)
  .describe('Key and value of each tag.');
