import { type EngineApi, EngineRefusal } from '../../docker/api.ts';
import { labelNames, readLabels } from './labels.ts';
import type { Observed, OwnedContainer } from './observed.ts';

interface Inspected {
  Id: string;
  Name: string;
  RestartCount: number;
  State: {
    Status: OwnedContainer['state'];
    OOMKilled: boolean;
    ExitCode: number;
    StartedAt: string;
    Health?: { Status: 'none' | 'starting' | 'healthy' | 'unhealthy' };
  };
  Config: { Labels: Record<string, string> | null };
  NetworkSettings: { Networks: Record<string, unknown> | null };
}

interface Named {
  Name: string;
  Labels: Record<string, string> | null;
}

// Most of what changes something takes a moment; a disk under load takes long.
const changeTimeoutMs = 120_000;
const stopSlackMs = 60_000;
/** Under what the engine waits for when a service does not say. */
const defaultStopS = 10;

/** What the reconciler asks of the engine. `owner` is the id that its containers, networks and volumes carry. */
export class AppEngine {
  readonly owner: string;
  readonly #api: EngineApi;
  /** When this process first saw a container run, by its id and the time of its start. */
  #runningSince = new Map<string, number>();

  constructor({ api, owner }: { api: EngineApi; owner: string }) {
    this.#api = api;
    this.owner = owner;
  }

  async observe(images: Iterable<string>, signal: AbortSignal): Promise<Observed> {
    const [containers, networks, volumes, present] = await Promise.all([
      this.#containers(signal),
      this.#api.ask({ method: 'GET', path: '/networks' }, signal),
      this.#api.ask({ method: 'GET', path: '/volumes' }, signal),
      Promise.all(
        [...new Set(images)].map(async (image): Promise<[string, string][]> => {
          const id = await this.imageId(image, signal);
          return id === undefined ? [] : [[image, id]];
        }),
      ),
    ]);
    return {
      containers,
      images: new Map(present.flat()),
      networks: this.#owners(networks as Named[]),
      volumes: this.#owners((volumes as { Volumes: Named[] | null }).Volumes ?? []),
    };
  }

  create(name: string, body: object, signal: AbortSignal): Promise<unknown> {
    return this.#change('POST', '/containers/create', signal, { query: { name }, body });
  }

  start(id: string, signal: AbortSignal): Promise<unknown> {
    return this.#change('POST', `/containers/${id}/start`, signal);
  }

  /** By its own signal, and with SIGKILL after its grace period. */
  async stop(id: string, signal: AbortSignal): Promise<void> {
    const { Config: config } = (await this.#api.ask(
      { method: 'GET', path: `/containers/${id}/json` },
      signal,
    )) as {
      Config: { StopTimeout?: number | null };
    };
    const answerTimeoutMs = (config.StopTimeout ?? defaultStopS) * 1000 + stopSlackMs;
    await this.#change('POST', `/containers/${id}/stop`, signal, { answerTimeoutMs });
  }

  async restart(id: string, signal: AbortSignal): Promise<void> {
    await this.stop(id, signal);
    await this.start(id, signal);
  }

  /** Takes it out of its service under another name. */
  rename(id: string, name: string, signal: AbortSignal): Promise<unknown> {
    return this.#change('POST', `/containers/${id}/rename`, signal, { query: { name } });
  }

  /** With the volumes that have no name. One that is gone already is no error. */
  remove(id: string, signal: AbortSignal): Promise<void> {
    return this.#delete(`/containers/${id}`, signal, { v: true });
  }

  async createNetwork(name: string, appId: number, signal: AbortSignal): Promise<void> {
    const body = { Name: name, CheckDuplicate: true, Labels: this.#labels(appId) };
    await this.#change('POST', '/networks/create', signal, { body });
  }

  connect(network: string, container: string, alias: string, signal: AbortSignal): Promise<unknown> {
    const body = { Container: container, EndpointConfig: { Aliases: [alias] } };
    return this.#change('POST', `/networks/${network}/connect`, signal, { body });
  }

  removeNetwork(name: string, signal: AbortSignal): Promise<void> {
    return this.#delete(`/networks/${name}`, signal);
  }

  async createVolume(name: string, appId: number, signal: AbortSignal): Promise<void> {
    await this.#change('POST', '/volumes/create', signal, {
      body: { Name: name, Labels: this.#labels(appId) },
    });
  }

  removeVolume(name: string, signal: AbortSignal): Promise<void> {
    return this.#delete(`/volumes/${name}`, signal);
  }

  /** `undefined` when it is not there. */
  async imageId(image: string, signal: AbortSignal): Promise<string | undefined> {
    const found = (await this.#find(`/images/${image}/json`, signal)) as { Id: string } | undefined;
    return found?.Id;
  }

  /** Whether any container, running or not, ours or not, is made from an image or from one that is built on it. */
  async isImageUsed(id: string, signal: AbortSignal): Promise<boolean> {
    const query = { all: true, filters: JSON.stringify({ ancestor: [id] }) };
    const list = await this.#api.ask({ method: 'GET', path: '/containers/json', query }, signal);
    return (list as unknown[]).length > 0;
  }

  /** Takes away its name, and the image when it has no other. The engine refuses while a container uses it. */
  removeImage(image: string, signal: AbortSignal): Promise<void> {
    return this.#delete(`/images/${image}`, signal);
  }

  async #containers(signal: AbortSignal): Promise<OwnedContainer[]> {
    const filters = JSON.stringify({ label: [`${labelNames.owner}=${this.owner}`] });
    const query = { all: true, filters };
    const list = (await this.#api.ask({ method: 'GET', path: '/containers/json', query }, signal)) as {
      Id: string;
    }[];
    const inspected = await Promise.all(list.map(({ Id }) => this.#inspect(Id, signal)));
    const before = this.#runningSince;
    this.#runningSince = new Map();
    return inspected.flatMap((container) => {
      const owned = container && this.#owned(container, before);
      return owned ? [owned] : [];
    });
  }

  #owned(container: Inspected, before: ReadonlyMap<string, number>): OwnedContainer | undefined {
    const { Id: id, State: state } = container;
    const name = container.Name.replace(/^\//, '');
    const labels = readLabels(container.Config.Labels ?? {}, name, this.owner);
    if (!labels) return undefined;
    const nowMs = performance.now();
    let sinceMs = nowMs;
    if (state.Status === 'running') {
      // The engine's clock may be another, or be set while we watch.
      const start = `${id} ${state.StartedAt}`;
      sinceMs = before.get(start) ?? nowMs;
      this.#runningSince.set(start, sinceMs);
    }
    const health = state.Health?.Status;
    return {
      ...labels,
      id,
      name,
      state: state.Status,
      ...(health && health !== 'none' && { health }),
      exitCode: state.ExitCode,
      restarts: container.RestartCount,
      isOutOfMemory: state.OOMKilled,
      runningMs: nowMs - sinceMs,
      networks: Object.keys(container.NetworkSettings.Networks ?? {}),
    };
  }

  async #inspect(id: string, signal: AbortSignal): Promise<Inspected | undefined> {
    return (await this.#find(`/containers/${id}/json`, signal)) as Inspected | undefined;
  }

  /** `undefined` when there is no such thing. */
  async #find(path: string, signal: AbortSignal): Promise<unknown> {
    try {
      return await this.#api.ask({ method: 'GET', path }, signal);
    } catch (error) {
      if (error instanceof EngineRefusal && error.statusCode === 404) return undefined;
      throw error;
    }
  }

  #change(
    method: 'POST' | 'DELETE',
    path: string,
    signal: AbortSignal,
    more: { query?: Record<string, unknown>; body?: object; answerTimeoutMs?: number } = {},
  ): Promise<unknown> {
    return this.#api.ask({ method, path, answerTimeoutMs: changeTimeoutMs, ...more }, signal);
  }

  async #delete(path: string, signal: AbortSignal, query: Record<string, unknown> = {}): Promise<void> {
    try {
      await this.#change('DELETE', path, signal, { query });
    } catch (error) {
      if (!(error instanceof EngineRefusal && error.statusCode === 404)) throw error;
    }
  }

  #labels(appId: number): Record<string, string> {
    return { [labelNames.owner]: this.owner, [labelNames.app]: String(appId) };
  }

  #owners(list: readonly Named[]): Map<string, number | undefined> {
    return new Map(
      list.map(({ Name: name, Labels: labels }) => [
        name,
        labels?.[labelNames.owner] === this.owner ? Number(labels[labelNames.app]) : undefined,
      ]),
    );
  }
}
