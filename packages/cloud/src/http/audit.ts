import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { Records } from '../records/records.ts';
import { plainText } from './names.ts';
import { cursorSchema, idOfCursor, pageOf, pageParameters } from './paging.ts';
import { time } from './parameters.ts';
import { problemSchema } from './schemas.ts';

const filter = plainText(256).optional();

/** `GET /audit`: who did what, the newest first. */
export const auditRoute: FastifyPluginAsyncZod<{ records: Records }> = async (app, { records }) => {
  app.get(
    '/audit',
    {
      schema: {
        summary: 'Show who did what',
        description:
          'Changes made by this API and registrations, the newest first. Entries are never changed or removed.',
        tags: ['audit'],
        querystring: z.strictObject({
          actor: filter.describe('Name of the token that did it.'),
          action: filter.describe('What was done, such as `device.change`.'),
          subject: filter.describe('To whom, such as the uuid of a device.'),
          since: time
            .optional()
            .describe('First time, inclusive: ms since 1970, ISO 8601, or an age such as `10m`.'),
          until: time.optional().describe('Last time, exclusive.'),
          ...pageParameters(1000, 100),
        }),
        response: {
          200: z.object({
            entries: z.array(
              z.object({
                id: z.number(),
                at: z.number().describe('In ms since 1970.'),
                actor: z.string(),
                action: z.string(),
                subject: z.string(),
                detail: z.record(z.string(), z.unknown()).describe('What was given. Never a secret.'),
              }),
            ),
            cursor: cursorSchema,
          }),
          '4xx': problemSchema,
        },
      },
    },
    async (request) => {
      const { limit, cursor, ...asked } = request.query;
      const before = idOfCursor(cursor);
      const found = await records.audit.list({ ...asked, before, limit: limit + 1 });
      const page = pageOf(found, limit, ({ id }) => String(id));
      const entries = page.shown.map(({ atMs, ...rest }) => ({ at: atMs, ...rest }));
      return { entries, cursor: page.cursor };
    },
  );
};
