import { type Level, levels, parseLevelFilter, parseTime, timeForms } from '@millrace/wire';
import * as z from 'zod';

const once = (what: string) => z.string(`must be given once, as ${what}`);

const time = once('a time').transform((text, context) => {
  const ms = parseTime(text, Date.now());
  if (ms === undefined) {
    context.addIssue({ code: 'custom', message: `must be ${timeForms}` });
    return z.NEVER;
  }
  return ms;
});

const level = once('a list of levels').transform((text, context): Level[] => {
  const chosen = parseLevelFilter(text);
  if (!chosen) {
    context.addIssue({
      code: 'custom',
      message: `must be levels of ${levels.join(', ')}, separated by commas, or one such as warn+ for it and all above`,
    });
    return z.NEVER;
  }
  return chosen;
});

const limitRule = 'must be a number from 1 to 10000';

const text = z
  .union([z.string(), z.array(z.string()).max(20, 'must be given at most 20 times')])
  .transform((value) => (Array.isArray(value) ? value : [value]).flatMap((part) => part.split(/\s+/u)))
  .transform((words) => words.filter((word) => word !== ''))
  .refine((words) => words.length <= 32, 'must have at most 32 words')
  .refine(
    (words) => words.every((word) => word.length <= 1000),
    'must have no word longer than 1000 characters',
  );

const filterParameters = {
  device: once('one uuid')
    .max(64, 'must have at most 64 characters')
    .optional()
    .describe('Uuid of the device.'),
  service: once('one name')
    .max(512, 'must have at most 512 characters')
    .optional()
    .describe('Name of the service.'),
  level: level.optional().describe('`error`, `warn,error`, or `warn+` for that level and all above.'),
  stream: z
    .enum(['stdout', 'stderr'], 'must be stdout or stderr')
    .optional()
    .describe('`stdout` or `stderr`.'),
  text: text.optional().describe('Words that must all occur in the message. May be repeated.'),
};

/** Query of `GET /api/v1/logs/tail`. */
export const tailQuery = z.strictObject(filterParameters);

/** Query of `GET /api/v1/logs`. */
export const searchQuery = z.strictObject({
  ...filterParameters,
  since: time.optional().describe('First time, inclusive: ms since 1970, ISO 8601, or an age such as `10m`.'),
  until: time.optional().describe('Last time, exclusive, in the same forms.'),
  limit: once('a number')
    .regex(/^\d{1,5}$/, limitRule)
    .transform(Number)
    .refine((value) => value >= 1 && value <= 10_000, limitRule)
    .default(100)
    .describe('Most lines in the answer, up to 10000.'),
  order: z
    .enum(['asc', 'desc'], 'must be asc or desc')
    .default('desc')
    .describe('By time: `desc` gives the newest first.'),
  cursor: once('the cursor of the answer before')
    .max(1000, 'must be the cursor of the answer before')
    .optional()
    .describe('Where to go on: the cursor of the answer before, with the same other parameters.'),
});
