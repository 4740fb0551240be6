import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { constants, createGzip, type Gzip } from 'node:zlib';
import { encodeHeader, encodeLine } from '@millrace/wire';
import { until } from '../../../../tests/support/wait.ts';

/** One batch of numbered lines as it goes onto the wire. */
export function batch(journal: string, first: number, count: number, text = 'line'): string {
  const lines = Array.from({ length: count }, (_, i) =>
    encodeLine({
      message: `${text} ${first + i}`,
      timestamp: 1_700_000_000_000 + first + i,
      serviceName: 'web',
    }),
  );
  const header = encodeHeader({ journal, first, count, levels: [0, count, 0, 0], sealed: 1_700_000_000_000 });
  return `${header}${lines.join('\n')}\n`;
}

export interface StreamOptions {
  url: string;
  uuid: string;
  key?: string;
  acks?: boolean;
  gzip?: boolean;
  headers?: Record<string, string>;
}

/** A log-stream as a device opens it. */
export class StreamClient implements Disposable {
  readonly request: ClientRequest;
  readonly #gzip: Gzip | undefined;
  response: IncomingMessage | undefined;
  error: Error | undefined;
  /** The answer's body so far. */
  body = '';

  constructor({ url, uuid, key, acks = false, gzip = true, headers }: StreamOptions) {
    this.request = request(`${url}/device/v2/${uuid}/log-stream`, {
      method: 'POST',
      agent: false,
      headers: {
        'content-type': 'application/x-ndjson',
        ...(gzip && { 'content-encoding': 'gzip' }),
        ...(key !== undefined && { authorization: `Bearer ${key}` }),
        ...(acks && { 'millrace-acks': 'stream' }),
        ...headers,
      },
    });
    this.request.flushHeaders();
    this.request.on('error', (error) => {
      this.error = error;
    });
    this.request.on('response', (response) => {
      this.response = response;
      response.on('error', (error) => {
        this.error = error;
      });
      response.setEncoding('utf8').on('data', (text: string) => {
        this.body += text;
      });
    });
    if (gzip) {
      this.#gzip = createGzip();
      this.#gzip.pipe(this.request);
    }
  }

  /** Writes lines and flushes them onto the wire. */
  send(text: string): void {
    if (!this.#gzip) {
      this.request.write(text);
      return;
    }
    this.#gzip.write(text);
    this.#gzip.flush(constants.Z_SYNC_FLUSH);
  }

  end(): void {
    if (this.#gzip) this.#gzip.end();
    else this.request.end();
  }

  /** Acknowledgements so far, oldest first. */
  get acks(): { journal: string; through: number }[] {
    return this.body
      .split('\n')
      .slice(0, -1)
      .filter((line) => line.startsWith('{"ack":'))
      .map((line) => JSON.parse(line).ack);
  }

  async acked(through: number): Promise<void> {
    await until(() => (this.acks.at(-1)?.through ?? 0) >= through, {
      what: () => `an ack of ${through}; there are ${JSON.stringify(this.acks)} ${this.error}`,
    });
  }

  /** The answer's status, once its head is there. */
  async status(): Promise<number> {
    await until(() => this.response ?? this.error, { what: 'an answer' });
    if (!this.response) throw this.error;
    return this.response.statusCode ?? 0;
  }

  /** The answer's status and body, once it has ended. */
  async answer(): Promise<{ status: number; body: string }> {
    const status = await this.status();
    const response = this.response as IncomingMessage;
    if (!response.readableEnded) await once(response, 'end');
    return { status, body: this.body };
  }

  [Symbol.dispose](): void {
    this.request.destroy();
  }
}
