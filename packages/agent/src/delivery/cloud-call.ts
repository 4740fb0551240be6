import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { errorText, MillraceError } from '@millrace/wire';
import { withDeadline } from './pause.ts';
import { displayUrl, redact } from './secrets.ts';

export interface CloudCall {
  method: 'GET' | 'PATCH';
  /** Base URL of the cloud; a path is kept in front of `path`. */
  endpoint: string;
  path: string;
  apiKey: string;
  headers?: Record<string, string>;
  /** JSON. */
  body?: string;
  /** Answers that are no success, and wanted all the same. */
  alsoStatus?: readonly number[];
  /** Most bytes of an answer's body; what is longer is an error. Default 0: the body is passed over. */
  maxBytes?: number;
  signal: AbortSignal;
  timeoutMs: number;
}

export interface CloudAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** The cloud's answer was no success, or none came. */
export class CallFailure extends MillraceError {
  /** Not before this long, in ms; 0 when it is all the same. */
  readonly afterMs: number;

  constructor(code: 'CLOUD_REFUSED' | 'CLOUD_UNREACHABLE', detail: string, afterMs = 0, cause?: unknown) {
    super(code, detail, { cause });
    this.afterMs = afterMs;
  }
}

const maxRetryAfterS = 3600;
// What is refused does not become right by itself.
const refusedMs = 300_000;

/**
 * One short request to the cloud.
 *
 * @throws CallFailure
 */
export async function callCloud(call: CloudCall): Promise<CloudAnswer> {
  const { apiKey, alsoStatus = [] } = call;
  const url = new URL(call.endpoint);
  url.pathname = `${url.pathname.replace(/\/+$/, '')}${call.path}`;
  using deadline = withDeadline(call.signal, call.timeoutMs);
  let answer: CloudAnswer;
  try {
    answer = await answerTo(url, call, deadline.signal);
  } catch (cause) {
    const said = redact(errorText(cause), [apiKey]);
    throw new CallFailure('CLOUD_UNREACHABLE', `${displayUrl(url)}: ${said}`, 0, cause);
  }
  const { status, headers } = answer;
  if ((status >= 200 && status < 300) || alsoStatus.includes(status)) return answer;
  const answered = `${displayUrl(url)} answered ${status}`;
  const retryAfter = headers['retry-after'] ?? '';
  const afterMs = /^\d{1,9}$/.test(retryAfter) ? Math.min(Number(retryAfter), maxRetryAfterS) * 1000 : 0;
  if (status === 408 || status === 429 || status >= 500) {
    throw new CallFailure('CLOUD_UNREACHABLE', answered, afterMs);
  }
  throw new CallFailure('CLOUD_REFUSED', answered, Math.max(afterMs, refusedMs));
}

async function answerTo(url: URL, call: CloudCall, signal: AbortSignal): Promise<CloudAnswer> {
  const { method, apiKey, headers, body, maxBytes = 0 } = call;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
    method,
    // Minutes pass between two calls: a connection kept open for the next would cost more than it saves.
    agent: false,
    signal,
    headers: {
      Authorization: `Bearer ${apiKey}`,
      ...headers,
      ...(body !== undefined && {
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(body),
      }),
    },
  });
  request.on('error', reject);
  request.on('response', resolve);
  request.end(body);
  const response = await promise;
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (maxBytes === 0) continue;
    if (bytes > maxBytes) throw new Error(`the answer is longer than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  return { status: response.statusCode ?? 0, headers: response.headers, body: text };
}
