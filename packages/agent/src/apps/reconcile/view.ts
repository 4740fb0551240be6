import { type ErrorCode, errorCatalogue, MillraceError, type Problem } from '@millrace/wire';
import type { AppRecord } from '../target/store.ts';
import type { Phase, ServicePlan } from './plan.ts';
import type { Reconciler } from './reconciler.ts';
import { serviceOfStep } from './steps.ts';
import { isRolledBack } from './wanted.ts';

/** An app as the app API shows it. */
export interface AppView {
  appId: number;
  appName?: string;
  /** The release that was asked for last. */
  release: number;
  /** What the cloud calls it, if it asked for it. */
  releaseUuid?: string;
  /** The release whose services run, where that is another. */
  runningRelease?: number;
  runningReleaseUuid?: string;
  state: 'deploying' | 'running' | 'failed' | 'rolled-back' | 'removing';
  error?: Problem;
  services: ServiceView[];
}

export interface ServiceView {
  serviceId?: number;
  serviceName: string;
  imageName: string;
  /** `unknown` as long as the engine has not been asked. */
  status: Phase | 'unknown';
  /** Of its health check, if it has one. */
  health?: string;
  /** Of a pull, in percent. */
  downloadProgress?: number;
  waitsFor?: string;
  containerId?: string;
  /** How often the engine has started the container again. */
  restarts?: number;
  /** Of its last end, if it is not running. */
  exitCode?: number;
  /** Why the step that is due fails. */
  error?: Problem;
}

export function viewOf(record: AppRecord, reconciler: Reconciler): AppView {
  const { appId, release, good, removing, outcome } = record;
  const plan = reconciler.failure === undefined ? reconciler.planOf(record) : undefined;
  const shown = isRolledBack(record) && good ? good : record;
  const given = shown.app as { appName?: string; services?: GivenService[] };
  const planned = new Map(plan?.services.map((service) => [service.service.serviceName, service]));
  const error = record.error
    ? problemOf(record.error)
    : (reconciler.unreadable(appId)?.toProblem() ??
      engineError(reconciler) ??
      removalError(record, reconciler));
  return {
    appId,
    ...(given.appName !== undefined && { appName: given.appName }),
    release,
    ...(record.releaseUuid !== undefined && { releaseUuid: record.releaseUuid }),
    ...(shown !== record && { runningRelease: shown.release }),
    ...(shown !== record && shown.releaseUuid !== undefined && { runningReleaseUuid: shown.releaseUuid }),
    state: removing ? 'removing' : stateOf(record, outcome),
    ...(error && { error }),
    services: removing
      ? []
      : (given.services ?? []).map((service) => {
          const errors = plan?.steps
            .filter((step) => (serviceOfStep(step) ?? service.serviceName) === service.serviceName)
            .map((step) => reconciler.error(step));
          return serviceView(
            appId,
            service,
            planned.get(service.serviceName),
            reconciler,
            errors?.find(Boolean),
          );
        }),
  };
}

type GivenService = Pick<ServiceView, 'serviceId' | 'serviceName' | 'imageName'>;

function stateOf(record: AppRecord, outcome: AppRecord['outcome']): AppView['state'] {
  if (isRolledBack(record)) return 'rolled-back';
  return outcome === 'pending' ? 'deploying' : outcome === 'done' ? 'running' : 'failed';
}

function serviceView(
  appId: number,
  { serviceId, serviceName, imageName }: GivenService,
  plan: ServicePlan | undefined,
  reconciler: Reconciler,
  error: MillraceError | undefined,
): ServiceView {
  const current = plan?.current;
  const flight = reconciler.flight(`${appId}/${serviceName}`);
  const isPulling = flight?.step.kind === 'pull' && flight.step.serviceName === serviceName;
  return {
    ...(serviceId !== undefined && { serviceId }),
    serviceName,
    imageName,
    status: plan?.phase ?? 'unknown',
    ...(current?.health && { health: current.health }),
    ...(isPulling && { downloadProgress: flight.percent ?? 0 }),
    ...(plan?.waitsFor !== undefined && { waitsFor: plan.waitsFor }),
    ...(current && { containerId: current.id, restarts: current.restarts }),
    ...((plan?.phase === 'exited' || plan?.phase === 'restarting') && { exitCode: current?.exitCode ?? 0 }),
    ...(error && { error: error.toProblem() }),
  };
}

function problemOf({ code, detail }: { code: string; detail: string }): Problem {
  const known: ErrorCode = Object.hasOwn(errorCatalogue, code) ? (code as ErrorCode) : 'INTERNAL';
  return new MillraceError(known, detail).toProblem();
}

/** Why an app that is to go does not: it has no services any more to say it of. */
function removalError(record: AppRecord, reconciler: Reconciler): Problem | undefined {
  if (!record.removing) return undefined;
  const errors = reconciler.planOf(record)?.steps.map((step) => reconciler.error(step));
  return errors?.find((error) => error !== undefined)?.toProblem();
}

function engineError(reconciler: Reconciler): Problem | undefined {
  if (reconciler.failure === undefined) return undefined;
  return new MillraceError('ENGINE_UNREACHABLE', reconciler.failure).toProblem();
}
