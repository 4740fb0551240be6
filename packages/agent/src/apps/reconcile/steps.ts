import type { Service } from '@millrace/wire/apps';
import type { OwnedContainer } from '../engine/observed.ts';

/**
 * One request to the engine. Whatever is interrupted before, in or after one, the next look at the engine shows what
 * is left to do. Of the steps with one `key` one is under way at a time.
 */
export type Step = { key: string; appId: number } & (
  | { kind: 'pull'; image: string; serviceName: string }
  | { kind: 'create-network' | 'remove-network' | 'create-volume' | 'remove-volume'; name: string }
  | { kind: 'create'; service: Service; release: number; config: string }
  | { kind: 'connect'; container: OwnedContainer; network: string }
  | { kind: 'start' | 'stop' | 'retire' | 'remove' | 'restart'; container: OwnedContainer }
);

/** The service that a step is for; networks and volumes are the whole app's. */
export function serviceOfStep(step: Step): string | undefined {
  if (step.kind === 'pull') return step.serviceName;
  if (step.kind === 'create') return step.service.serviceName;
  return 'container' in step ? step.container.service : undefined;
}

/** Tells whether two steps are the same thing to do. */
export function stepText(step: Step): string {
  const what = 'container' in step ? step.container.id : step.kind === 'create' ? step.config : '';
  const name = 'name' in step ? step.name : step.kind === 'pull' ? step.image : '';
  return [step.kind, what, name, step.kind === 'connect' ? step.network : ''].join(' ');
}
