import type { IncomingMessage } from 'node:http';
import { errorText, MillraceError } from '@millrace/wire';
import { redact } from '../../delivery/secrets.ts';
import { SessionFailure } from '../../delivery/session-loop.ts';
import type { CloudSettings } from './options.ts';

const maxRetryAfterMs = 300_000;

/** An answer that is not a success, as a reason to end the session. */
export function statusFailure(settings: CloudSettings, response: IncomingMessage): SessionFailure {
  const { statusCode: status = 0, headers } = response;
  const answered = `${settings.shownUrl} answered ${status}`;
  if (status === 401 || status === 403) {
    return new SessionFailure(new MillraceError('CLOUD_REFUSED', answered), { retry: 'slow' });
  }
  // A proxy's own limit says so in another way.
  if (status === 429 && headers['content-type']?.startsWith('application/problem+json')) {
    return new SessionFailure(new MillraceError('QUOTA_EXCEEDED', answered), {
      afterMs: retryAfterMs(headers['retry-after']),
    });
  }
  if (status === 408 || status === 429 || status >= 500) {
    return new SessionFailure(new MillraceError('CLOUD_UNREACHABLE', answered), {
      afterMs: retryAfterMs(headers['retry-after']),
    });
  }
  const redirected = status >= 300 && status < 400;
  const detail = redirected ? `${answered}, a redirect, which is not followed` : answered;
  return new SessionFailure(new MillraceError('CLOUD_UNREACHABLE', detail), { retry: 'slow' });
}

export function networkFailure(settings: CloudSettings, error: unknown): SessionFailure {
  const said = redact(errorText(error), settings.secrets);
  return new SessionFailure(
    new MillraceError('CLOUD_UNREACHABLE', `${settings.shownUrl}: ${said}`, { cause: error }),
  );
}

/** `Retry-After` in seconds (RFC 9110 §10.2.3); its other form, a date, needs a right clock and is passed over. */
function retryAfterMs(value: string | undefined): number {
  return value && /^\d{1,9}$/.test(value) ? Math.min(Number(value) * 1000, maxRetryAfterMs) : 0;
}
