import { networksOf, retiredSuffix } from '../../src/apps/engine/labels.ts';
import { isUp, type Observed, type OwnedContainer } from '../../src/apps/engine/observed.ts';
import type { Step } from '../../src/apps/reconcile/steps.ts';

/** What the engine does at each step, without an engine: for what is tried thousands of times. */
export class ModelEngine {
  containers: OwnedContainer[] = [];
  readonly images = new Map<string, string>();
  readonly networks = new Map<string, number | undefined>();
  readonly volumes = new Map<string, number | undefined>();
  #ids = 0;

  see(): Observed {
    return {
      containers: this.containers.map((container) => ({ ...container, networks: [...container.networks] })),
      images: new Map(this.images),
      networks: new Map(this.networks),
      volumes: new Map(this.volumes),
    };
  }

  /** Throws where the real one would refuse. */
  take(step: Step): void {
    switch (step.kind) {
      case 'pull':
        this.images.set(step.image, step.image);
        return;
      case 'create-network':
        this.networks.set(step.name, step.appId);
        return;
      case 'create-volume':
        this.volumes.set(step.name, step.appId);
        return;
      case 'remove-network':
        if (this.containers.some(({ networks }) => networks.includes(step.name))) throw new Error('in use');
        this.networks.delete(step.name);
        return;
      case 'remove-volume':
        this.volumes.delete(step.name);
        return;
      case 'create':
        this.#create(step);
        return;
      case 'connect':
        if (!this.networks.has(step.network)) throw new Error('no such network');
        this.#of(step.container).networks.push(step.network);
        return;
      case 'start':
      case 'restart':
        this.#of(step.container).state = 'running';
        return;
      case 'retire': {
        const container = this.#of(step.container);
        Object.assign(container, { isRetired: true, name: container.name + retiredSuffix });
        return;
      }
      case 'stop':
        Object.assign(this.#of(step.container), { state: 'exited', exitCode: 143 });
        return;
      case 'remove':
        if (isUp(this.#of(step.container))) throw new Error('it runs');
        this.containers = this.containers.filter(({ id }) => id !== step.container.id);
        return;
    }
  }

  #create({ service, release, config, appId }: Extract<Step, { kind: 'create' }>): void {
    const name = `${service.serviceName}_${appId}_${release}_${config.slice(0, 8)}`;
    if (this.containers.some((other) => other.name === name)) throw new Error('the name is taken');
    if (!this.images.has(service.imageName)) throw new Error('no such image');
    this.containers.push({
      appId,
      service: service.serviceName,
      release,
      config,
      dependsOn: (service.dependsOn ?? []).map(({ serviceName }) => serviceName),
      isRetired: false,
      id: `c${++this.#ids}`,
      name,
      state: 'created',
      exitCode: 0,
      restarts: 0,
      isOutOfMemory: false,
      runningMs: 0,
      networks: networksOf(appId, service).slice(0, 1),
    });
  }

  #of({ id }: OwnedContainer): OwnedContainer {
    const found = this.containers.find((container) => container.id === id);
    if (!found) throw new Error('no such container');
    return found;
  }
}
