import type { Logger } from 'pino';
import { type EngineApi, EngineRefusal } from '../../docker/api.ts';
import type { AppEngine } from '../engine/app-engine.ts';
import { createBody } from '../engine/create-body.ts';
import { containerName, retiredSuffix } from '../engine/labels.ts';
import { PullFailure, pullImage } from '../images/pull.ts';
import type { PulledImages } from '../images/pulled-images.ts';
import type { RegistryLogins } from '../images/registry-logins.ts';
import { pullFailure } from './failures.ts';
import type { Step } from './steps.ts';

export interface ExecutorOptions {
  api: EngineApi;
  engine: AppEngine;
  images: PulledImages;
  logins: RegistryLogins;
  log: Logger;
}

const progressLineMs = 10_000;

/** Takes one step, and tells of it in the log. */
export async function takeStep(
  step: Step,
  options: ExecutorOptions,
  onProgress: (percent: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const { engine, log } = options;
  const { appId } = step;
  const tell = (serviceName: string | undefined, message: string) =>
    log.info({ appId, ...(serviceName !== undefined && { service: serviceName }) }, message);
  switch (step.kind) {
    case 'pull': {
      const { image, serviceName } = step;
      tell(serviceName, `Pulling image ${image}`);
      let toldMs = performance.now();
      await pull(step, options, signal, (percent) => {
        onProgress(percent);
        if (performance.now() - toldMs < progressLineMs) return;
        toldMs = performance.now();
        tell(serviceName, `Pulling image ${image}: ${percent} %`);
      });
      tell(serviceName, `Pulled image ${image}`);
      return;
    }
    case 'create-network':
      tell(undefined, `Creating network ${step.name}`);
      return engine.createNetwork(step.name, appId, signal);
    case 'create-volume':
      tell(undefined, `Creating volume ${step.name}`);
      return engine.createVolume(step.name, appId, signal);
    case 'remove-network':
      tell(undefined, `Removing network ${step.name}`);
      return engine.removeNetwork(step.name, signal);
    case 'remove-volume':
      tell(undefined, `Removing volume ${step.name}`);
      return engine.removeVolume(step.name, signal);
    case 'create': {
      const { service, release, config } = step;
      const { serviceName } = service;
      const dependsOn = (service.dependsOn ?? []).map((dependency) => dependency.serviceName);
      const labels = { appId, service: serviceName, release, config, dependsOn };
      tell(serviceName, `Creating service ${serviceName} of release ${release}`);
      await engine.create(containerName(labels), createBody(service, labels, engine.owner), signal);
      return;
    }
    case 'connect': {
      const { container, network } = step;
      await engine.connect(network, container.id, container.service, signal);
      return;
    }
    case 'retire': {
      const { container } = step;
      await engine.rename(container.id, container.name + retiredSuffix, signal);
      return;
    }
    default: {
      const { container, kind } = step;
      const verb = { start: 'Starting', stop: 'Stopping', remove: 'Removing', restart: 'Restarting' }[kind];
      tell(container.service, `${verb} service ${container.service} of release ${container.release}`);
      await engine[kind](container.id, signal);
    }
  }
}

async function pull(
  { image }: Extract<Step, { kind: 'pull' }>,
  { api, engine, images, logins }: ExecutorOptions,
  signal: AbortSignal,
  onProgress: (percent: number) => void,
): Promise<void> {
  // Another service may have brought it since the last look.
  if ((await engine.imageId(image, signal)) !== undefined) return;
  const login = await logins.loginFor(image);
  await images.begun(image);
  try {
    await pullImage(api, { image, login, onProgress }, signal);
  } catch (error) {
    // Of anything else it is not known whether the image has come all the same.
    if (!(error instanceof PullFailure || error instanceof EngineRefusal)) throw error;
    await images.failed(image);
    throw pullFailure(image, error, login !== undefined);
  }
  await images.pulled(image, signal);
}
