import { MillraceError } from '../errors.ts';
import type { FieldNames } from './schema.ts';

/** What of a compose file is understood: the same fields as in the app API, under compose's names. */
const serviceFields: Readonly<Record<string, string>> = {
  image: 'imageName',
  command: 'command',
  entrypoint: 'entrypoint',
  environment: 'environment',
  ports: 'ports',
  volumes: 'volumes',
  tmpfs: 'tmpfs',
  networks: 'networks',
  network_mode: 'networkMode',
  restart: 'restart',
  labels: 'labels',
  devices: 'devices',
  privileged: 'privileged',
  cap_add: 'capAdd',
  cap_drop: 'capDrop',
  mem_limit: 'memLimit',
  mem_reservation: 'memReservation',
  cpus: 'cpus',
  pids_limit: 'pidsLimit',
  healthcheck: 'healthcheck',
  depends_on: 'dependsOn',
  working_dir: 'workingDir',
  user: 'user',
  hostname: 'hostname',
  extra_hosts: 'extraHosts',
  stop_signal: 'stopSignal',
  stop_grace_period: 'stopGracePeriod',
  init: 'init',
  read_only: 'readOnly',
  tty: 'tty',
};
const healthFields: Readonly<Record<string, string>> = { start_period: 'startPeriod' };
const composeNames = new Map(
  [...Object.entries(serviceFields), ...Object.entries(healthFields)].map(([theirs, ours]) => [ours, theirs]),
);

export type Mapping = Record<string, unknown>;

/**
 * A service's fields under the app API's names.
 *
 * @param fill makes of a value what it stands for
 * @throws MillraceError `APP_INVALID` that names a field that is not supported
 */
export function serviceOf(
  service: Mapping,
  path: string,
  fill: (value: unknown, path: string) => unknown = (value) => value,
): Mapping {
  const out: Mapping = {};
  for (const [key, value] of Object.entries(service)) {
    if (key.startsWith('x-') || value === null) continue;
    if (key === 'deploy') {
      Object.assign(out, limitsOf(mapping(value, `${path}.deploy`), `${path}.deploy`));
      continue;
    }
    const ours = serviceFields[key];
    if (!Object.hasOwn(serviceFields, key) || ours === undefined)
      throw wrong(`${path}.${key} is not supported`);
    const filled = fill(value, `${path}.${key}`);
    out[ours] = key === 'healthcheck' ? healthOf(filled, `${path}.${key}`) : filled;
    if (key === 'tmpfs' && typeof filled === 'string') out[ours] = [filled];
  }
  return out;
}

/** The reverse of {@link serviceOf}: the app API's fields under compose's names. */
export function composeOf(service: Mapping): Mapping {
  return Object.fromEntries(
    Object.entries(service).map(([key, value]) => {
      if (key !== 'healthcheck') return [composeNames.get(key) ?? key, value];
      const fields = Object.entries(mapping(value, key));
      return [
        key,
        Object.fromEntries(fields.map(([name, field]) => [composeNames.get(name) ?? name, field])),
      ];
    }),
  );
}

/** Names a field of an app as a compose file of these services does: `services.web.ports[0]`. */
export function composeFieldNames(serviceNames: readonly string[]): FieldNames {
  return (path) => {
    const [top, index, field, ...rest] = path;
    if (top !== 'services' || typeof index !== 'number')
      return path.map(String).join('.').replace('appName', 'name');
    const inside = [field, ...rest]
      .filter((part) => part !== undefined && part !== 'serviceName')
      .map((part) =>
        typeof part === 'number' ? `[${part}]` : `.${composeNames.get(String(part)) ?? String(part)}`,
      );
    return `services.${serviceNames[index] ?? index}${inside.join('')}`;
  };
}

function healthOf(value: unknown, path: string): Mapping {
  const given = mapping(value, path);
  return Object.fromEntries(Object.entries(given).map(([key, field]) => [healthFields[key] ?? key, field]));
}

/** `deploy.resources` is the newer way to write what `mem_limit`, `cpus` and `pids_limit` say. */
function limitsOf(deploy: Mapping, path: string): Mapping {
  only(deploy, ['resources'], path);
  const resources = mapping(deploy.resources, `${path}.resources`);
  only(resources, ['limits', 'reservations'], `${path}.resources`);
  const limits = mapping(resources.limits ?? {}, `${path}.resources.limits`);
  only(limits, ['memory', 'cpus', 'pids'], `${path}.resources.limits`);
  const reserved = mapping(resources.reservations ?? {}, `${path}.resources.reservations`);
  only(reserved, ['memory'], `${path}.resources.reservations`);
  return {
    ...(limits.memory !== undefined && { memLimit: limits.memory }),
    ...(limits.cpus !== undefined && { cpus: limits.cpus }),
    ...(limits.pids !== undefined && { pidsLimit: limits.pids }),
    ...(reserved.memory !== undefined && { memReservation: reserved.memory }),
  };
}

export function only(given: Mapping, known: readonly string[], path: string): void {
  const other = Object.keys(given).find((key) => !known.includes(key));
  if (other !== undefined) throw wrong(`${path}.${other} is not supported`);
}

export function mapping(value: unknown, path: string): Mapping {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Mapping;
  throw wrong(`${path} must be a mapping`);
}

export function wrong(detail: string): MillraceError {
  return new MillraceError('APP_INVALID', detail);
}
