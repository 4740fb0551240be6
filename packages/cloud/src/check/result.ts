import { errorText, MillraceError } from '@millrace/wire';

export interface CheckResult {
  /** What was looked at. */
  part: string;
  state: 'ok' | 'warning' | 'failed';
  /** What was found; never a secret. */
  detail: string;
  /** What to do about it. */
  action?: string;
}

/** An error of ours says itself what to do. */
export function failed(part: string, error: unknown): CheckResult {
  if (!(error instanceof MillraceError)) return { part, state: 'failed', detail: errorText(error) };
  return { part, state: 'failed', detail: error.detail, action: error.action };
}
