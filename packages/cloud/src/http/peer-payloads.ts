import { timingSafeEqual } from 'node:crypto';
import { MillraceError } from '@millrace/wire';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { DeviceInbox } from '../broker/inbox.ts';
import { uuidPattern } from '../identity/identity.ts';
import { bearerToken } from './bearer.ts';

export interface PeerPayloadsOptions {
  inbox: DeviceInbox;
  /** What a process of this cloud shows to this one. */
  secret: string;
  maxPayloadBytes: number;
}

/** `POST /peers/payloads/{uuid}`: a payload from MQTT that another process of this cloud received for ours. */
export class PeerPayloads {
  #open = 0;
  #idle: (() => void) | undefined;
  #isStopping = false;

  readonly route: FastifyPluginAsyncZod<PeerPayloadsOptions> = async (app, options) => {
    const { inbox, secret, maxPayloadBytes } = options;
    app.removeAllContentTypeParsers();
    app.addContentTypeParser(
      'application/octet-stream',
      { parseAs: 'buffer', bodyLimit: maxPayloadBytes },
      (_request, body, done) => done(null, body),
    );
    app.post(
      '/peers/payloads/:uuid',
      { schema: { hide: true, params: z.object({ uuid: z.string().regex(uuidPattern) }) } },
      async (request, { raw: response }) => {
        if (!isSame(bearerToken(request.raw), secret)) {
          throw new MillraceError('UNAUTHORIZED', 'not a process of this cloud');
        }
        if (this.#isStopping) throw new MillraceError('OVERLOADED', 'the server is stopping');
        const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
        this.#open++;
        try {
          return { messages: await inbox.own(request.params.uuid, body) };
        } finally {
          // Of a response that nobody waits for any more the framework tells no end.
          if (response.closed) this.#answered();
          else response.once('close', () => this.#answered());
        }
      },
    );
  };

  #answered(): void {
    if (--this.#open === 0) this.#idle?.();
  }

  /** Takes no more, and returns when all are answered: lines without numbers would be stored again by another process. */
  async drain(): Promise<void> {
    this.#isStopping = true;
    if (this.#open === 0) return;
    await new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
  }
}

function isSame(given: string | undefined, secret: string): boolean {
  const a = Buffer.from(given ?? '');
  const b = Buffer.from(secret);
  return a.length === b.length && timingSafeEqual(a, b);
}
