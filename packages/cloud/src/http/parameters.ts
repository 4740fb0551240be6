import {
  type Level,
  levels,
  maxTimeMs,
  parseLevelFilter,
  parseLineId,
  parseTime,
  timeForms,
} from '@millrace/wire';
import * as z from 'zod';
import { parseQuery } from '../query/index.ts';
import {
  maxBuckets,
  maxContextLines,
  maxFacets,
  maxFacetValues,
  maxPageLines,
  maxPatterns,
  maxSeries,
} from '../store/index.ts';
import { exportFormats } from './export/formats.ts';

export const once = (what: string) => z.string(`must be given once, as ${what}`);

export const time = once('a time').transform((text, context) => {
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

/** A whole number, `standard` when it is not given. */
export const count = (least: number, most: number, standard: number) => {
  const rule = `must be a number from ${least} to ${most}`;
  return once('a number')
    .regex(/^\d{1,5}$/, rule)
    .transform(Number)
    .refine((value) => value >= least && value <= most, rule)
    .default(standard);
};

const maxStepMs = 10 * 365 * 86_400_000;

/** `5m` in ms; `NaN` when it is no length of time. */
function lengthOf(text: string): number {
  // An age is a length before a moment. The other forms that it could have are dates.
  const moment = parseTime(text, maxTimeMs);
  return moment === undefined || /^\d{4}-/.test(text) ? Number.NaN : maxTimeMs - moment;
}

const step = once('a length of time').transform((text, context) => {
  const ms = /^\d+$/.test(text) ? Number(text) : lengthOf(text);
  if (ms >= 1 && ms <= maxStepMs) return ms;
  context.addIssue({ code: 'custom', message: 'must be a length of time such as 30s, 5m, 1h or 1d, or ms' });
  return z.NEVER;
});

const fieldName = once('the name of a field')
  .min(1, 'must be the name of a field')
  .max(256, 'must have at most 256 characters');

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
  query: once('one query')
    .optional()
    .describe(
      'A query in the language of docs/search.md: `"timed out" service:web -level:debug latency:>500`.',
    ),
};

const timeParameters = {
  since: time.optional().describe('First time, inclusive: ms since 1970, ISO 8601, or an age such as `10m`.'),
  until: time.optional().describe('Last time, exclusive, in the same forms.'),
};

/** Query of `GET /api/v1/logs/tail`. */
export const tailQuery = z.strictObject(filterParameters);

/** Query of `GET /api/v1/logs`. */
export const searchQuery = z.strictObject({
  ...filterParameters,
  ...timeParameters,
  limit: count(1, 10_000, 100).describe('Most lines in the answer, up to 10000.'),
  order: z
    .enum(['asc', 'desc'], 'must be asc or desc')
    .default('desc')
    .describe('By time: `desc` gives the newest first.'),
  cursor: once('the cursor of the answer before')
    .max(1000, 'must be the cursor of the answer before')
    .optional()
    .describe('Where to go on: the cursor of the answer before, with the same other parameters.'),
});

/** Query of `GET /api/v1/logs/histogram`. */
export const histogramQuery = z.strictObject({
  ...filterParameters,
  ...timeParameters,
  by: fieldName
    .default('level')
    .describe('What to count by in each bucket: a field as a query names it, or `none`.'),
  buckets: count(1, maxBuckets, 60).describe(`Most buckets, up to ${maxBuckets}.`),
  step: step
    .optional()
    .describe(
      'Length of a bucket: `5m`, or ms. By default the shortest round one that needs no more buckets.',
    ),
  series: count(1, maxSeries, 10).describe(
    'Values counted by themselves, the most frequent; the others together.',
  ),
});

/** Query of `GET /api/v1/logs/facets`. */
export const facetsQuery = z.strictObject({
  ...filterParameters,
  ...timeParameters,
  fields: z
    .union([fieldName.transform((list) => list.split(',')), z.array(fieldName)])
    .refine((names) => names.length <= maxFacets, `must be at most ${maxFacets} names`)
    .default(['level', 'stream', 'service', 'app', 'device'])
    .describe('Fields as a query names them, separated by commas or given several times.'),
  limit: count(1, maxFacetValues, 10).describe(`Most values of each field, up to ${maxFacetValues}.`),
});

/** Query of `GET /api/v1/export`. */
export const exportQuery = z.strictObject({
  ...filterParameters,
  ...timeParameters,
  format: z
    .enum(exportFormats, 'must be ndjson, csv or text')
    .default('ndjson')
    .describe('How lines are written.'),
  order: z
    .enum(['asc', 'desc'], 'must be asc or desc')
    .default('asc')
    .describe('By time: `asc` gives the oldest first.'),
  formulas: z
    .enum(['escape', 'keep'], 'must be escape or keep')
    .default('escape')
    .describe("Cells of a CSV that a spreadsheet would run: `escape` puts a `'` before them."),
});

/** Query of `GET /api/v1/patterns`. */
export const patternsQuery = z.strictObject({
  ...filterParameters,
  ...timeParameters,
  limit: count(1, maxPatterns, 50).describe(
    `Most patterns, those of most lines first, up to ${maxPatterns}.`,
  ),
});

/** Query of `GET /device/v2/{uuid}/logs`. */
export const balenaLogsQuery = z.strictObject({
  stream: z.enum(['0', '1'], 'must be 0 or 1').default('0').describe('`1` to go on with what arrives.'),
  count: once('a number')
    .regex(/^(all|\d{1,5})$/, 'must be all, or a number from 0 to 10000')
    .transform((text) => (text === 'all' ? text : Number(text)))
    .refine((value) => value === 'all' || value <= maxPageLines, 'must be all, or a number from 0 to 10000')
    .optional()
    .describe('How many of the newest lines, up to 10000, or `all`. By default 1000; with `stream=1` none.'),
  start: time.optional().describe('First time, inclusive: ms since 1970 or ISO 8601.'),
});

const lineOfContext = {
  id: once('the id of a line')
    .transform((text, context) => {
      const id = parseLineId(text);
      if (id) return id;
      context.addIssue({ code: 'custom', message: 'must be the id of a line, such as k2j5q8w1x3z7-4711' });
      return z.NEVER;
    })
    .describe('The id of the line.'),
  device: filterParameters.device.describe(
    'Uuid of its device. Needed only where several devices have such a line.',
  ),
};

/** Query of `GET /api/v1/logs/context`. */
export const contextQuery = z.strictObject({
  ...lineOfContext,
  before: count(0, maxContextLines, 10).describe(`Lines before it, up to ${maxContextLines}.`),
  after: count(0, maxContextLines, 10).describe('Lines after it.'),
  within: z
    .enum(['container', 'device'], 'must be container or device')
    .default('container')
    .describe('Lines of the same container, or of the whole device.'),
});

type Filter = z.output<typeof tailQuery>;

/**
 * What the parameters ask for.
 *
 * @throws QueryError
 */
export function conditionsOf<T extends Filter>({ level, text, query, ...rest }: T) {
  return { ...rest, levels: level, words: text, ...(query !== undefined && { query: parseQuery(query) }) };
}

/** A day, which the store can hold: it counts them in 16 bits. */
const day = once('a day')
  .regex(/^\d{4}-\d\d-\d\d$/, 'must be a day such as 2026-11-20')
  .refine(
    (text) => new Date(`${text}T00:00:00Z`).toJSON()?.slice(0, 10) === text,
    'must be a day such as 2026-11-20',
  )
  .refine((text) => text >= '1970-01-01' && text < '2149-06-06', 'must be a day from 1970-01-01');

const days = {
  from: day.optional().describe('First day, UTC. By default the last 30 days are shown.'),
  to: day.optional().describe('Last day, included. By default today.'),
};

/** Query of `GET /api/v1/devices/{uuid}/usage`. */
export const usageOfDeviceQuery = z.strictObject(days);

/** Query of `GET /api/v1/usage`. */
export const usageQuery = z.strictObject({
  ...days,
  device: filterParameters.device,
  limit: count(1, 10_000, 1000).describe('Most rows in the answer, up to 10000.'),
  cursor: once('the cursor of the answer before')
    .max(300, 'must be the cursor of the answer before')
    .transform((text, context) => {
      const after = day.safeParse(text.slice(0, 10));
      if (after.success && text[10] === ' ') return { day: after.data, device: text.slice(11) };
      context.addIssue({ code: 'custom', message: 'must be the cursor of the answer before' });
      return z.NEVER;
    })
    .optional()
    .describe('Where to go on: the cursor of the answer before, with the same other parameters.'),
});

/** Query of `DELETE /api/v1/devices/{uuid}/logs`. */
export const deletionQuery = z.strictObject({
  before: time
    .optional()
    .describe(
      'Only lines with a time of their own before this: ms since 1970, ISO 8601, or an age such as `30d`. All when left out.',
    ),
});
