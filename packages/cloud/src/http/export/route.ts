import { pipeline, Readable, type Transform } from 'node:stream';
import { constants, createGzip, createZstdCompress } from 'node:zlib';
import { errorText, MillraceError, type StoredLine } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import * as z from 'zod';
import type { Records } from '../../records/records.ts';
import type { LogStore } from '../../store/index.ts';
import { callersScope, forReaders } from '../bearer.ts';
import { conditionsOf, exportQuery } from '../parameters.ts';
import { problemSchema } from '../schemas.ts';
import { whileConnected } from '../while-connected.ts';
import { type ExportFormat, exportFormat } from './formats.ts';

export interface ExportRouteOptions {
  store: LogStore;
  records: Records;
  log: Logger;
  /** Exports that run at a time; each may hold a page of lines. */
  maxExports?: number;
  /** A caller that takes nothing for so long is cut off. */
  idleTimeoutMs?: number;
}

/** Says how many lines will come, for whoever shows progress. */
export const linesHeader = 'millrace-lines';

/** Lines that are encoded before the process turns to others. */
const linesPerChunk = 200;

/**
 * `GET /export`: all lines of a query as a file. It is read as fast as it is taken. When it fails in the middle, the
 * connection is cut instead of ended, so that half a file is not taken for a whole one.
 */
export const exportRoute: FastifyPluginAsyncZod<ExportRouteOptions> = async (app, options) => {
  const { store, records, log, maxExports = 8, idleTimeoutMs = 300_000 } = options;
  let running = 0;
  app.get(
    '/export',
    {
      exposeHeadRoute: false,
      config: forReaders,
      schema: {
        summary: 'Export all lines of a query',
        description:
          'Any number of lines, streamed; gzip or zstd as `Accept-Encoding` asks for. `Millrace-Lines` is how many will come. A failure in the middle cuts the connection.',
        tags: ['logs'],
        querystring: exportQuery,
        response: {
          200: {
            description: 'The file.',
            content: {
              'application/x-ndjson': {
                schema: z.string().describe('A line of `GET /api/v1/logs` per line.'),
              },
              'text/csv': { schema: z.string().describe('RFC 4180, with a header row.') },
              'text/plain': { schema: z.string().describe('`<time> <device> <service> <level> <message>`') },
            },
          },
          '4xx': problemSchema,
        },
      },
    },
    async (request, reply) => {
      const { format: name, formulas, ...query } = conditionsOf(request.query);
      const format = exportFormat(name, { keepFormulas: formulas === 'keep' });
      const response = reply.raw;
      if (running >= maxExports) throw new MillraceError('OVERLOADED', `${running} exports are running`);
      running++;
      const gone = new AbortController();
      response.on('close', () => {
        running--;
        gone.abort();
      });
      const reader = store.reader(callersScope(request), records.devices, gone.signal);
      const { lines, pages } = await whileConnected(reply, () => reader.export(query));
      const [encoding, compressor] = compression(request.headers['accept-encoding']);
      const second = new Date().toISOString().slice(0, 19).replaceAll(':', '');
      reply.hijack();
      response.setTimeout(idleTimeoutMs, () => response.destroy());
      response.writeHead(200, {
        'content-type': format.contentType,
        'content-disposition': `attachment; filename="millrace-${second}Z.${format.extension}"`,
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        vary: 'accept-encoding',
        [linesHeader]: lines,
        ...(encoding && { 'content-encoding': encoding }),
      });
      // In bytes, so that what waits for a slow reader is a few chunks and not sixteen.
      const source = Readable.from(encoded(pages, format), { objectMode: false });
      // A failure destroys the response, and with it the connection.
      pipeline([source, ...compressor, response], (error) => {
        if (error && error.code !== 'ERR_STREAM_PREMATURE_CLOSE') {
          log.warn({ error: errorText(error) }, 'an export failed');
        }
      });
    },
  );
};

async function* encoded(pages: AsyncIterable<StoredLine[]>, format: ExportFormat): AsyncGenerator<Buffer> {
  if (format.head !== '') yield Buffer.from(format.head);
  for await (const page of pages) {
    for (let from = 0; from < page.length; from += linesPerChunk) {
      const lines = page.slice(from, from + linesPerChunk);
      yield Buffer.from(lines.map((line) => format.encode(line)).join(''));
    }
  }
}

/** What the caller understands best. Higher levels would take longer than the store does. */
function compression(
  accepted: string | string[] | undefined,
): [encoding: string | undefined, compressor: Transform[]] {
  const codings = String(accepted ?? '')
    .toLowerCase()
    .split(',')
    .map((part) => part.split(';').map((piece) => piece.trim()))
    .filter(([, quality]) => !/^q=0(\.0*)?$/.test(quality ?? ''))
    .map(([coding]) => coding);
  if (codings.includes('zstd')) {
    return ['zstd', [createZstdCompress({ params: { [constants.ZSTD_c_checksumFlag]: 1 } })]];
  }
  return codings.includes('gzip') ? ['gzip', [createGzip({ level: 3 })]] : [undefined, []];
}
