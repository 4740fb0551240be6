import { createHash } from 'node:crypto';
import { maxTargetBytes, targetPath } from '@millrace/wire';
import { callCloud } from '../../delivery/cloud-call.ts';

export interface FetchOptions {
  /** Base URL of the cloud. */
  endpoint: string;
  apiKey: string;
  deviceUuid: string;
}

/** What the cloud says of the target: another one than we have, the same, or none. */
export type TargetAnswer = { is: 'new'; version: string; text: string } | { is: 'same' } | { is: 'none' };

const timeoutMs = 60_000;
// None; and what a cloud answers that knows no such thing.
const none = [404, 405, 410, 501];

/**
 * Asks for the target, if it is another one than `version`.
 *
 * @throws CallFailure
 */
export async function fetchTarget(
  { endpoint, apiKey, deviceUuid }: FetchOptions,
  version: string | undefined,
  signal: AbortSignal,
): Promise<TargetAnswer> {
  const { status, headers, body } = await callCloud({
    ...{ method: 'GET', path: targetPath(deviceUuid), endpoint, apiKey, signal, timeoutMs },
    headers: version === undefined ? {} : { 'If-None-Match': `"${version}"` },
    alsoStatus: [304, ...none],
    maxBytes: maxTargetBytes,
  });
  if (status === 304) return { is: 'same' };
  if (none.includes(status)) return { is: 'none' };
  const [, etag] = /^(?:W\/)?"(\w{1,64})"$/.exec(headers.etag ?? '') ?? [];
  // One that says no version has one all the same, or it would be taken over each time.
  return { is: 'new', version: etag ?? createHash('sha256').update(body).digest('hex'), text: body };
}
