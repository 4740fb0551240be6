import type { App } from '@millrace/wire/apps';
import { hasFinished, type ServicePlan } from './plan.ts';

export interface Unwell {
  serviceName: string;
  detail: string;
}

export type Verdict =
  | { is: 'ready' }
  | { is: 'failed'; why: Unwell }
  | { is: 'undecided'; why: Unwell; inMs?: number };

export interface PatienceOptions {
  /** How long a service without a health check has to run. */
  stableMs: number;
  /** How long a release may take from its last image to being ready, beside the start periods of its health checks. */
  healthyMs: number;
}

/** How long the release may take, with the times that its services ask for. */
export function patienceMs({ services }: App, { healthyMs, stableMs }: PatienceOptions): number {
  const startMs = services.map(({ healthcheck }) => healthcheck?.startPeriod ?? 0);
  return healthyMs + stableMs + startMs.reduce((sum, ms) => sum + ms, 0);
}

/** Whether all services that shall run are well. */
export function judge(services: readonly ServicePlan[], { stableMs }: PatienceOptions): Verdict {
  const verdicts = services
    .filter(({ phase }) => phase !== 'stopped')
    .map((plan) => judgeService(plan, stableMs));
  const failed = verdicts.find(({ is }) => is === 'failed');
  if (failed) return failed;
  const undecided = verdicts.filter((verdict) => verdict.is === 'undecided');
  const [first] = undecided;
  if (!first) return { is: 'ready' };
  const times = undecided.flatMap(({ inMs }) => (inMs === undefined ? [] : [inMs]));
  return { ...first, ...(times.length > 0 && { inMs: Math.min(...times) }) };
}

function judgeService({ service, current, phase, waitsFor }: ServicePlan, stableMs: number): Verdict {
  const why = (detail: string): Unwell => ({ serviceName: service.serviceName, detail });
  if (!current) return { is: 'undecided', why: why(waitsFor ? `waits for ${waitsFor}` : `is ${phase}`) };
  if (hasFinished(current, service)) {
    return current.exitCode === 0
      ? { is: 'ready' }
      : {
          is: 'failed',
          why: why(`exited with code ${current.exitCode}${current.isOutOfMemory ? ', out of memory' : ''}`),
        };
  }
  if (current.state === 'running') {
    // Of one that is not running the engine says so too.
    if (current.health === 'unhealthy') return { is: 'failed', why: why('is unhealthy') };
    if (current.health === 'healthy') return { is: 'ready' };
    if (current.health === 'starting')
      return { is: 'undecided', why: why('has not passed its health check') };
    if (current.runningMs >= stableMs) return { is: 'ready' };
    const short = current.restarts > 0 ? `ended ${current.restarts} times` : 'has not run for long';
    return { is: 'undecided', why: why(short), inMs: stableMs - current.runningMs };
  }
  if (current.state === 'restarting') {
    return {
      is: 'undecided',
      why: why(`exits with code ${current.exitCode}, ${current.restarts + 1} times so far`),
    };
  }
  return { is: 'undecided', why: why(waitsFor ? `waits for ${waitsFor}` : `is ${phase}`) };
}
