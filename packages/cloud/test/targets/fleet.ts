import { until } from '../../../../tests/support/wait.ts';
import { adminToken, type TestCloud } from '../support/cloud.ts';

/** A device that does what a test tells it. */
export interface FakeDevice {
  uuid: string;
  key: string;
  /** The releases that it is to have, by app id; `undefined` without a target. */
  wanted(): Promise<Record<string, string> | undefined>;
  /** Reports that it is there, and of each release what is given. */
  report(status?: 'done' | 'rejected' | 'downloading', error?: string): Promise<Response>;
}

export const appOf = (imageName: string, more: object = {}) => ({
  appName: 'shop',
  services: [{ serviceName: 'web', imageName, ...more }],
});

export const compose = (image: string) => `name: shop\nservices:\n  web:\n    image: ${image}\n`;

/** What a test asks of a cloud about targets. */
export class Targets {
  readonly cloud: Pick<TestCloud, 'url' | 'register'>;

  readonly #token: string;

  constructor(cloud: Pick<TestCloud, 'url' | 'register'>, token = adminToken) {
    this.#token = token;
    this.cloud = cloud;
  }

  send(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Response> {
    const isText = typeof body === 'string';
    return fetch(`${this.cloud.url}/api/v1${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(body !== undefined && { 'content-type': isText ? 'application/yaml' : 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: isText ? body : JSON.stringify(body) }),
    });
  }

  async json<T = Record<string, unknown>>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.send(method, path, body);
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return (text === '' ? {} : JSON.parse(text)) as T;
  }

  fleet(name: string): Promise<FleetSeen> {
    return this.json('GET', `/fleets/${name}/target`);
  }

  /** Waits until the fleet's rollout is as it should be. */
  async rollout(name: string, isIt: (fleet: FleetSeen) => boolean, what: string): Promise<FleetSeen> {
    let seen: FleetSeen | undefined;
    await until(
      async () => {
        seen = await this.fleet(name);
        return isIt(seen);
      },
      { what: () => `${what}; there is ${JSON.stringify(seen?.rollout)} ${JSON.stringify(seen?.devices)}` },
    );
    return seen as FleetSeen;
  }

  async device(uuid: string, fleet?: string): Promise<FakeDevice> {
    const { cloud } = this;
    const key = await cloud.register(uuid);
    if (fleet !== undefined) await this.json('PATCH', `/devices/${uuid}`, { fleet });
    const headers = { authorization: `Bearer ${key}` };
    const wanted = async () => {
      const response = await fetch(`${cloud.url}/device/v3/${uuid}/state`, { headers });
      if (response.status === 404) return undefined;
      const document = (await response.json()) as Record<
        string,
        { apps: Record<string, { id: number; releases: object }> }
      >;
      const apps = Object.values(document[uuid]?.apps ?? {});
      return Object.fromEntries(
        apps.map(({ id, releases }) => [String(id), Object.keys(releases)[0] as string]),
      );
    };
    return {
      uuid,
      key,
      wanted,
      async report(status, error) {
        const entries = status ? Object.entries((await wanted()) ?? {}) : [];
        const apps = entries.map(([id, release]) => [
          id,
          {
            name: 'shop',
            release_uuid: status === 'rejected' ? 'before' : release,
            releases: {
              [release]: { update_status: status, services: {}, ...(error !== undefined && { error }) },
            },
          },
        ]);
        return fetch(`${cloud.url}/api/v3/device/state`, {
          method: 'PATCH',
          headers: { ...headers, 'content-type': 'application/json' },
          body: JSON.stringify({
            [uuid]: { status: 'Idle', ...(status && { apps: Object.fromEntries(apps) }) },
          }),
        });
      },
    };
  }
}

export interface FleetSeen {
  apps: { appId: number; appName: string; release: { uuid: string }; app?: unknown }[];
  rollout: {
    id: number;
    state: string;
    reason: string | null;
    batchNo: number;
    devices: Record<string, number>;
  } | null;
  devices: { uuid: string; state: string; error: string | null }[];
}
