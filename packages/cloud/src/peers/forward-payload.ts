import { errorText, MillraceError } from '@millrace/wire';
import type { PeerRecord } from '../records/peer-table.ts';

/** How long the other process may take to commit a payload: as long as its store does, within reason. */
const timeoutMs = 60_000;

/**
 * Hands a device's payload on to the process that answers for the device. Returns the messages for the device's
 * ack topic once it is committed.
 *
 * @throws MillraceError `DEVICE_ELSEWHERE` when it was not committed there, as far as one can tell; or as the other
 * process refused it
 */
export async function forwardPayload(
  peer: PeerRecord,
  { uuid, payload, signal }: { uuid: string; payload: Buffer; signal: AbortSignal },
): Promise<string[]> {
  let status: number;
  let answer: unknown;
  try {
    const response = await fetch(new URL(`/peers/payloads/${encodeURIComponent(uuid)}`, peer.url), {
      method: 'POST',
      headers: { authorization: `Bearer ${peer.secret}`, 'content-type': 'application/octet-stream' },
      body: new Uint8Array(payload),
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
    status = response.status;
    answer = await response.json();
  } catch (error) {
    throw new MillraceError('DEVICE_ELSEWHERE', `${peer.url} does not answer: ${errorText(error)}`, {
      cause: error,
    });
  }
  if (status === 200 && isMessages(answer)) return answer.messages;
  const { code, detail } = answer as { code?: unknown; detail?: unknown };
  if (status === 400 || status === 413) {
    throw new MillraceError(status === 413 ? 'BODY_TOO_LARGE' : 'BODY_INVALID', String(detail));
  }
  // It was refused for good, at least today: offered anew it would come to the same.
  if (status === 429) throw new MillraceError('QUOTA_EXCEEDED', String(detail));
  throw new MillraceError('DEVICE_ELSEWHERE', `${peer.url} answers ${status} ${String(code)}`);
}

function isMessages(answer: unknown): answer is { messages: string[] } {
  const { messages } = (answer ?? {}) as { messages?: unknown };
  return Array.isArray(messages) && messages.every((message) => typeof message === 'string');
}
