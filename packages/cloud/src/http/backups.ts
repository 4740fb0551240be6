import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { Backup, Backups } from '../backup/backups.ts';
import type { Records } from '../records/records.ts';
import { entry } from './audit-entry.ts';
import { problemSchema } from './schemas.ts';

const backupSchema = z.object({
  name: z.string(),
  path: z.string().describe('Its folder, on the machine of the cloud.'),
  createdAt: z.number().describe('When it was begun, in ms since 1970.'),
  lines: z.number().describe('Lines that were stored by then.'),
  records: z
    .boolean()
    .describe('False when the records are in a server, which is backed up by its own means.'),
});

/** `/backups` of the embedded databases, made while they are in use. */
export const backupRoutes: FastifyPluginAsyncZod<{ backups: Backups; records: Records }> = async (
  app,
  { backups, records },
) => {
  app.get(
    '/backups',
    {
      schema: {
        summary: 'List backups',
        tags: ['backups'],
        querystring: z.strictObject({}),
        response: {
          200: z.object({
            backups: z.array(backupSchema).describe('Those that are whole, the newest first.'),
            running: z.string().nullable().describe('Name of the one that is being made.'),
            failed: z
              .object({ name: z.string(), problem: problemSchema })
              .nullable()
              .describe('The last one, if it came to nothing.'),
          }),
          '4xx': problemSchema,
        },
      },
    },
    async () => {
      const { running = null, failed } = backups;
      return {
        backups: (await backups.list()).map(shown),
        running,
        failed: failed ? { name: failed.name, problem: failed.error.toProblem() } : null,
      };
    },
  );

  app.post(
    '/backups',
    {
      schema: {
        summary: 'Begin a backup',
        description: 'Into a folder of its own below BACKUP_DIR. When it is whole it is listed.',
        tags: ['backups'],
        response: { 202: z.object({ name: z.string() }), '4xx': problemSchema },
      },
    },
    async (request, reply) => {
      const { name } = backups.start();
      await records.audit.append(entry(request, 'backup.create', name));
      return reply.code(202).send({ name });
    },
  );
};

function shown({ name, path, createdAtMs, lines, records }: Backup) {
  return { name, path, createdAt: createdAtMs, lines, records };
}
