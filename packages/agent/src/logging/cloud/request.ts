import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { AckReader, type CloudAck } from '../../delivery/acks.ts';
import type { SessionFailure } from '../../delivery/session-loop.ts';
import type { CloudContext } from './context.ts';
import { networkFailure, statusFailure } from './failures.ts';

export interface CloudRequestHandlers {
  /** The answer began, and is a success. */
  onSuccess?: () => void;
  onAck: (ack: CloudAck) => void;
}

// Finds out about a dead peer while there is nothing to send.
const tcpKeepAliveMs = 30_000;

/**
 * One POST to the log-stream endpoint. Its answer may come while the body is still being written, which is how
 * acknowledgements arrive.
 */
export class CloudRequest implements Disposable {
  /** Aborted when the answer has ended, or the request has failed. */
  readonly closed: AbortSignal;
  /** Why the request failed; `undefined` while it has not, and after an answer that ended as it should. */
  failure: SessionFailure | undefined;
  /** Status of the answer, once it has begun. */
  status: number | undefined;
  /** Acknowledgements that the answer held. */
  acks = 0;
  /** Set when the answer ended well, after the whole body had been sent. */
  answered = false;
  /** The answer says of the whole body that it is stored, without acknowledging line by line. */
  storedAll = false;
  readonly #context: CloudContext;
  readonly #request: ClientRequest;
  readonly #controller = new AbortController();
  readonly #reader: AckReader;
  readonly #handlers: CloudRequestHandlers;
  #bodyEnded = false;

  /** @param contentLength of the body when it is known; without it the body goes in chunks */
  constructor(context: CloudContext, handlers: CloudRequestHandlers, contentLength?: number) {
    const { settings, agent } = context;
    this.#context = context;
    this.#handlers = handlers;
    this.#reader = new AckReader(settings.onTarget);
    this.closed = this.#controller.signal;
    const headers = {
      ...settings.headers,
      ...(contentLength !== undefined && { 'Content-Length': contentLength }),
    };
    const secure = settings.url.protocol === 'https:';
    const request = (secure ? httpsRequest : httpRequest)(settings.url, {
      ...settings.tls,
      ...{ method: 'POST', agent, headers },
    });
    this.#request = request;
    context.counters.requests++;
    request.setSocketKeepAlive(true, tcpKeepAliveMs);
    // A server that vanished before the connection stood would hold us for minutes.
    const connecting = setTimeout(() => {
      if (request.socket?.connecting !== false) this.fail(new Error('no connection in time'));
    }, settings.ackTimeoutMs);
    this.closed.addEventListener('abort', () => clearTimeout(connecting), { once: true });
    request.on('response', (response) => this.#onResponse(response));
    request.on('error', (error) => this.fail(error));
    request.on('close', () => this.fail(new Error('the connection was closed')));
    request.flushHeaders();
  }

  /** True when the connection had served an earlier request: the server may just have closed it for idleness. */
  get reused(): boolean {
    return this.#request.reusedSocket;
  }

  write(chunk: Buffer): void {
    if (this.closed.aborted || this.#bodyEnded) return;
    this.#context.counters.wireBytes += chunk.length;
    this.#request.write(chunk);
  }

  /** Waits until the socket has taken what was written, or the signal is aborted. */
  async drained(signal: AbortSignal): Promise<void> {
    if (!this.#request.writableNeedDrain || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const go = () => {
        this.#request.off('drain', go);
        signal.removeEventListener('abort', go);
        resolve();
      };
      this.#request.on('drain', go);
      signal.addEventListener('abort', go, { once: true });
    });
  }

  /** Ends the body. */
  end(): void {
    if (this.closed.aborted || this.#bodyEnded) return;
    this.#bodyEnded = true;
    this.#request.end();
  }

  fail(error: unknown): void {
    this.#close(networkFailure(this.#context.settings, error));
  }

  [Symbol.dispose](): void {
    if (!this.answered) this.#request.destroy();
    this.#close(undefined);
  }

  #onResponse(response: IncomingMessage): void {
    const status = response.statusCode ?? 0;
    this.status = status;
    if (status !== 200 && status !== 201) {
      response.resume();
      this.#close(statusFailure(this.#context.settings, response));
      this.#request.destroy();
      return;
    }
    const early = !this.#bodyEnded;
    this.#handlers.onSuccess?.();
    response.setEncoding('utf8');
    response.on('data', (text: string) => this.#take(this.#reader.push(text)));
    response.on('error', (error) => this.fail(error));
    response.on('end', () => {
      this.#take(this.#reader.end());
      if (!this.#bodyEnded) {
        this.fail(new Error('the cloud ended the stream'));
        return;
      }
      this.answered = true;
      // Status 201 says that the whole body is stored (it has been read, or the answer would have come early).
      this.storedAll = status === 201 && this.acks === 0 && !early;
      this.#close(undefined);
    });
  }

  #take(acks: CloudAck[]): void {
    if (this.closed.aborted) return;
    for (const ack of acks) {
      this.acks++;
      this.#handlers.onAck(ack);
    }
  }

  #close(failure: SessionFailure | undefined): void {
    if (this.closed.aborted) return;
    this.failure = failure;
    this.#controller.abort();
  }
}
