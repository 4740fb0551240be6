import { MillraceError } from '@millrace/wire';
import { type App, parseApp } from './schema.ts';

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

type Mapping = Record<string, unknown>;

/**
 * Reads a compose file as the app of that id.
 *
 * @returns what the app API would have been given for it, and what that means
 * @throws MillraceError `APP_INVALID` that names the line, or the field under its name in the file
 */
export async function parseCompose(text: string, appId: number): Promise<{ given: unknown; app: App }> {
  const file = await readYaml(text);
  const names = ['version', 'name', 'services', 'networks', 'volumes'];
  const unknown = Object.keys(file).find((key) => !names.includes(key) && !key.startsWith('x-'));
  if (unknown !== undefined) throw wrong(`${unknown} is not supported; ${names.join(', ')} are`);
  checkNamesOnly(file, 'networks');
  checkNamesOnly(file, 'volumes');
  const services = Object.entries(mapping(file.services, 'services'));
  const given = {
    appId,
    ...(file.name !== undefined && { appName: file.name }),
    services: services.map(([serviceName, service]) => ({
      serviceName,
      ...serviceOf(mapping(service, `services.${serviceName}`), `services.${serviceName}`),
    })),
  };
  const app = parseApp(given, (path) => {
    const [top, index, field, ...rest] = path;
    if (top !== 'services' || typeof index !== 'number')
      return path.map(String).join('.').replace('appName', 'name');
    const inside = [field, ...rest]
      .filter((part) => part !== undefined && part !== 'serviceName')
      .map((part) =>
        typeof part === 'number' ? `[${part}]` : `.${composeNames.get(String(part)) ?? String(part)}`,
      );
    return `services.${services[index]?.[0] ?? index}${inside.join('')}`;
  });
  return { given, app };
}

async function readYaml(text: string): Promise<Mapping> {
  // Nine megabytes that only those pay who send such a file.
  const yaml = await import('yaml');
  const lines = new yaml.LineCounter();
  const document = yaml.parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: true });
  const [error] = document.errors;
  if (error) throw wrong(`line ${lines.linePos(error.pos[0]).line}: ${error.message}`);
  try {
    // Aliases of aliases could make a small file a large one.
    return mapping(document.toJS({ maxAliasCount: 100 }), 'the file');
  } catch (error) {
    if (error instanceof ReferenceError) throw wrong(error.message);
    throw error;
  }
}

function serviceOf(service: Mapping, path: string): Mapping {
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
    const filled = withoutVariables(value, `${path}.${key}`);
    out[ours] = key === 'healthcheck' ? healthOf(filled, `${path}.${key}`) : filled;
    if (key === 'tmpfs' && typeof filled === 'string') out[ours] = [filled];
  }
  return out;
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

/** Networks and volumes are made as they are used; a file may list them, but not configure them. */
function checkNamesOnly(file: Mapping, key: 'networks' | 'volumes'): void {
  for (const [name, settings] of Object.entries(mapping(file[key] ?? {}, key))) {
    only(mapping(settings ?? {}, `${key}.${name}`), [], `${key}.${name}`);
  }
}

function only(given: Mapping, known: readonly string[], path: string): void {
  const other = Object.keys(given).find((key) => !known.includes(key));
  if (other !== undefined) throw wrong(`${path}.${other} is not supported`);
}

/** `$$` is a dollar. A variable would have to come from somewhere, and here is no such place. */
function withoutVariables(value: unknown, path: string): unknown {
  if (typeof value === 'string') {
    if (/(?<!\$)(?:\$\$)*\$[{A-Za-z_]/.test(value)) {
      throw wrong(`${path} holds a variable, which is not filled in; write $$ for a dollar`);
    }
    return value.replaceAll('$$', '$');
  }
  if (Array.isArray(value)) return value.map((entry, i) => withoutVariables(entry, `${path}[${i}]`));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [key, withoutVariables(entry, `${path}.${key}`)]),
  );
}

function mapping(value: unknown, path: string): Mapping {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Mapping;
  throw wrong(`${path} must be a mapping`);
}

function wrong(detail: string): MillraceError {
  return new MillraceError('APP_INVALID', detail);
}
