import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { errorText, MillraceError, statePath } from '@millrace/wire';
import { withDeadline } from '../delivery/pause.ts';
import { displayUrl, redact } from '../delivery/secrets.ts';

export interface PatchOptions {
  /** Base URL of the cloud. */
  endpoint: string;
  apiKey: string;
  body: string;
  signal: AbortSignal;
  timeoutMs: number;
}

/** The cloud's answer was no success, or none came. */
export class ReportFailure extends MillraceError {
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
 * Sends one report.
 *
 * @throws ReportFailure
 */
export async function patchState({ endpoint, apiKey, body, signal, timeoutMs }: PatchOptions): Promise<void> {
  const url = new URL(endpoint);
  url.pathname = `${url.pathname.replace(/\/+$/, '')}${statePath}`;
  using deadline = withDeadline(signal, timeoutMs);
  let response: IncomingMessage;
  try {
    response = await answerTo(url, apiKey, body, deadline.signal);
  } catch (cause) {
    const said = redact(errorText(cause), [apiKey]);
    throw new ReportFailure('CLOUD_UNREACHABLE', `${displayUrl(url)}: ${said}`, 0, cause);
  }
  const { statusCode: status = 0, headers } = response;
  if (status >= 200 && status < 300) return;
  const answered = `${displayUrl(url)} answered ${status}`;
  const retryAfter = headers['retry-after'] ?? '';
  const afterMs = /^\d{1,9}$/.test(retryAfter) ? Math.min(Number(retryAfter), maxRetryAfterS) * 1000 : 0;
  if (status === 408 || status === 429 || status >= 500) {
    throw new ReportFailure('CLOUD_UNREACHABLE', answered, afterMs);
  }
  throw new ReportFailure('CLOUD_REFUSED', answered, Math.max(afterMs, refusedMs));
}

function answerTo(url: URL, apiKey: string, body: string, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      method: 'PATCH',
      // Minutes pass between two reports: a connection kept open for the next would cost more than it saves.
      agent: false,
      signal,
      headers: {
        Authorization: `Bearer ${apiKey}`,
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(body),
      },
    });
    request.on('error', reject);
    request.on('response', (response) => {
      response.resume();
      response.on('end', () => resolve(response));
      response.on('error', reject);
    });
    request.end(body);
  });
}
