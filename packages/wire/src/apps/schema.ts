import * as z from 'zod';
import { MillraceError } from '../errors.ts';
import * as fields from './fields.ts';

const whole = (min: number, max: number) => {
  const message = `must be a whole number from ${min} to ${max}`;
  return z.number(message).int(message).min(min, message).max(max, message);
};
const id = whole(1, Number.MAX_SAFE_INTEGER);
const name = z
  .string('must be a text')
  .regex(fields.objectName, 'must be 1 to 63 letters, digits, _ . or -, the first a letter or digit');
const list = <T extends z.ZodType>(of: T) =>
  z.array(of, 'must be a list').max(100, 'has more than 100 entries');
const flag = z.boolean('must be true or false');
const text = (max: number) => z.string('must be a text').max(max, `is longer than ${max}`);

/** As the engine reads it: registry, path, tag and digest. */
const imageName = z
  .string('must be the name of an image, such as nginx:alpine')
  .max(255, 'is longer than 255')
  .regex(
    /^(?:(?:[a-zA-Z0-9][a-zA-Z0-9.-]*(?::\d{1,5})?|\[[0-9a-fA-F:]+\]:\d{1,5})\/)?[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*(?::\w[\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$/,
    'must be the name of an image, such as nginx:alpine',
  );

const healthcheck = z.strictObject(
  {
    /** A text runs in the container's shell. */
    test: z.union([text(65_536), list(text(65_536))], 'must be a text or a list of texts').optional(),
    interval: fields.duration.optional(),
    timeout: fields.duration.optional(),
    startPeriod: fields.duration.optional(),
    retries: whole(1, 1000).optional(),
    /** Switches off the check that the image brings. */
    disable: flag.optional(),
  },
  'must be an object with test, interval, timeout, startPeriod, retries or disable',
);

export const serviceSchema = z.strictObject(
  {
    serviceId: id.optional(),
    serviceName: name,
    imageName,
    command: fields.words.optional(),
    entrypoint: fields.words.optional(),
    environment: fields.environment.optional(),
    ports: list(fields.port).optional(),
    volumes: list(fields.mount).optional(),
    tmpfs: list(fields.absolutePath).optional(),
    networks: list(name).optional(),
    networkMode: z.enum(['bridge', 'host', 'none'], 'must be bridge, host or none').optional(),
    restart: fields.restart.optional(),
    labels: fields.labels.optional(),
    devices: list(fields.device).optional(),
    privileged: flag.optional(),
    capAdd: list(fields.capability).optional(),
    capDrop: list(fields.capability).optional(),
    memLimit: fields.size.optional(),
    memReservation: fields.size.optional(),
    cpus: fields.cpus.optional(),
    pidsLimit: whole(1, 4_194_304).optional(),
    healthcheck: healthcheck.optional(),
    dependsOn: fields.dependsOn.optional(),
    workingDir: fields.absolutePath.optional(),
    user: text(200).optional(),
    hostname: text(63)
      .regex(/^[a-zA-Z0-9][a-zA-Z0-9.-]*$/, 'must be a host name')
      .optional(),
    extraHosts: list(fields.extraHost).optional(),
    stopSignal: z
      .string('must be a signal such as SIGINT')
      .regex(/^(SIG[A-Z0-9+]{2,12}|\d{1,2})$/, 'must be a signal such as SIGINT')
      .optional(),
    stopGracePeriod: fields.duration.optional(),
    init: flag.optional(),
    readOnly: flag.optional(),
    tty: flag.optional(),
  },
  'must be an object',
);

const appSchema = z
  .strictObject(
    {
      appId: id,
      appName: name.optional(),
      services: z
        .array(serviceSchema, 'must be a list of services')
        .min(1, 'is empty: use DELETE to remove the app')
        .max(100, 'has more than 100 entries'),
    },
    'must be an object with appId and services',
  )
  .superRefine(({ services }, context) => {
    const wrong = (path: (string | number)[], message: string) =>
      context.addIssue({ code: 'custom', path: ['services', ...path], message });
    const byName = new Map(services.map((service) => [service.serviceName, service]));
    const names = new Set<string>();
    for (const [i, service] of services.entries()) {
      const { serviceName, networks, networkMode, ports } = service;
      if (names.has(serviceName)) wrong([i, 'serviceName'], `${serviceName} is there twice`);
      names.add(serviceName);
      if (networks && networkMode) wrong([i, 'networks'], 'cannot be given beside networkMode');
      if (ports?.length && (networkMode === 'host' || networkMode === 'none')) {
        wrong([i, 'ports'], `cannot be published with networkMode ${networkMode}`);
      }
      for (const { serviceName: other, condition } of service.dependsOn ?? []) {
        const needed = byName.get(other);
        if (!needed) wrong([i, 'dependsOn'], `there is no service ${other}`);
        else if (condition === 'service_healthy' && (!needed.healthcheck || needed.healthcheck.disable)) {
          wrong([i, 'dependsOn'], `${other} has no healthcheck to wait for`);
        } else if (condition === 'service_completed_successfully' && keepsRunning(needed)) {
          wrong([i, 'dependsOn'], `${other} is always started again: give it restart no or on-failure`);
        }
      }
    }
    const cycle = dependencyCycle(services);
    if (cycle)
      wrong(
        [services.findIndex((s) => s.serviceName === cycle[0]), 'dependsOn'],
        `goes in a circle: ${cycle.join(' → ')}`,
      );
  });

/** One service, as it is to run. */
export type Service = z.output<typeof serviceSchema>;
/** One app, as it is to run. */
export type App = z.output<typeof appSchema>;

/** Whether the engine starts it again whenever it ends. */
export function keepsRunning({ restart }: Pick<Service, 'restart'>): boolean {
  // Without a policy too: a device's services are to be there after a crash and after a reboot.
  return restart === undefined || restart.name === 'always' || restart.name === 'unless-stopped';
}

function dependencyCycle(services: readonly Service[]): string[] | undefined {
  const needs = new Map(services.map((s) => [s.serviceName, s.dependsOn ?? []]));
  const done = new Set<string>();
  const visit = (name: string, path: string[]): string[] | undefined => {
    if (path.includes(name)) return [...path.slice(path.indexOf(name)), name];
    if (done.has(name)) return undefined;
    for (const { serviceName } of needs.get(name) ?? []) {
      const found = visit(serviceName, [...path, name]);
      if (found) return found;
    }
    done.add(name);
    return undefined;
  };
  for (const name of needs.keys()) {
    const found = visit(name, []);
    if (found) return found;
  }
  return undefined;
}

export type FieldNames = (path: readonly PropertyKey[]) => string;

/** `services[0].ports[1]` */
export const jsonFieldNames: FieldNames = (path) =>
  path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');

/**
 * Reads an app as the app API takes it.
 *
 * @throws MillraceError `APP_INVALID` that names each wrong field, up to ten
 */
export function parseApp(value: unknown, fieldName: FieldNames = jsonFieldNames): App {
  const parsed = appSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const reasons = parsed.error.issues.flatMap((issue) => {
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => `${fieldName([...issue.path, key])} is not known`);
    }
    const field = fieldName(issue.path);
    return [field === '' ? `the app ${issue.message}` : `${field} ${issue.message}`];
  });
  throw new MillraceError('APP_INVALID', reasons.slice(0, 10).join('; '));
}
