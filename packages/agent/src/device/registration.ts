import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { Backoff } from '../delivery/backoff.ts';
import { pause, withDeadline } from '../delivery/pause.ts';
import type { DeviceIdentity } from './identity.ts';

interface RegistrationOptions {
  /** Base URL of the cloud. */
  endpoint: string;
  joinKey: string;
  identity: DeviceIdentity;
  log: Logger;
  signal: AbortSignal;
}

const requestTimeoutMs = 15_000;
// A key that was refused does not become right by itself: an operator has to act.
const refusedPauseMs = 60_000;

/**
 * Makes this device known to the cloud under a key of its own, as balena devices do: `POST /device/register`
 * with the join key. Tries until it succeeds or the signal aborts; a device that is known already gets the same
 * answer.
 *
 * @returns false when the signal aborted first
 */
export async function register(options: RegistrationOptions): Promise<boolean> {
  const backoff = new Backoff();
  for (;;) {
    if (options.signal.aborted) return false;
    const failure = await attempt(options);
    if (!failure) {
      options.log.info({ uuid: options.identity.uuid }, 'registered at the cloud');
      return true;
    }
    options.log.warn(
      { code: failure.code, error: failure.detail },
      'not registered at the cloud yet; trying again',
    );
    await pause(failure.code === 'CLOUD_REFUSED' ? refusedPauseMs : backoff.nextMs(), options.signal);
  }
}

async function attempt(options: RegistrationOptions): Promise<MillraceError | undefined> {
  const { endpoint, joinKey, identity, signal } = options;
  using deadline = withDeadline(signal, requestTimeoutMs);
  try {
    const response = await fetch(new URL('/device/register', endpoint), {
      method: 'POST',
      headers: { authorization: `Bearer ${joinKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({ uuid: identity.uuid, api_key: identity.apiKey }),
      redirect: 'manual',
      signal: deadline.signal,
    });
    await response.body?.cancel();
    if (response.status === 200 || response.status === 201) return undefined;
    if (response.status === 401 || response.status === 403) {
      return new MillraceError('CLOUD_REFUSED', `the join key was refused with ${response.status}`);
    }
    if (response.status === 409) {
      return new MillraceError('CLOUD_REFUSED', `device ${identity.uuid} is known with another key`);
    }
    return new MillraceError('CLOUD_UNREACHABLE', `registering was answered with ${response.status}`);
  } catch (cause) {
    const reason = errorText((cause as Error).cause ?? cause);
    return new MillraceError('CLOUD_UNREACHABLE', reason, { cause });
  }
}
