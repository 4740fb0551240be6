import type { CheckResult } from './result.ts';

const tolerableMs = 5000;

/** Compares this machine's clock with another's, which was asked a moment ago. */
export function clockResult(part: string, theirsMs: number): CheckResult {
  const behindMs = theirsMs - Date.now();
  if (Math.abs(behindMs) < tolerableMs) return { part, state: 'ok', detail: 'agrees with this machine' };
  const seconds = Math.round(Math.abs(behindMs) / 1000);
  return {
    part,
    state: 'warning',
    detail: `this machine is ${seconds} s ${behindMs > 0 ? 'behind' : 'ahead'}`,
    action: 'Let both take their time from the network (NTP): lines carry the time of their arrival.',
  };
}
