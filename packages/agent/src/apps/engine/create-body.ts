import { createHash } from 'node:crypto';
import { canonical, keepsRunning, type Service } from '@millrace/wire/apps';
import { type ContainerLabels, labelNames, networksOf, objectName } from './labels.ts';

const nanosPerMs = 1e6;

/**
 * A fingerprint of what a container is made from, over the service as it was given and not over what is sent to the
 * engine: what a later version of this program adds there shall not replace every container of a device. What only
 * orders the steps does not count.
 */
export function configOf(service: Service): string {
  const { dependsOn: _, ...config } = service;
  return createHash('sha256').update(canonical(config)).digest('hex');
}

/** With a tag: without one the engine would pull all there are. */
export function taggedImage(imageName: string): string {
  return /@|:[^/]+$/.test(imageName) ? imageName : `${imageName}:latest`;
}

/** Body of `POST /containers/create`. Only the first network is in it: older engines take no more at once. */
export function createBody(
  service: Service,
  labels: Omit<ContainerLabels, 'isRetired'>,
  owner: string,
): object {
  const { appId } = labels;
  const { ports = [], volumes = [], healthcheck } = service;
  const [network] = networksOf(appId, service);
  const publishedPorts: Record<string, { HostIp: string; HostPort: string }[]> = {};
  for (const { containerPort, hostIp, hostPort } of ports) {
    publishedPorts[containerPort] ??= [];
    publishedPorts[containerPort].push({ HostIp: hostIp, HostPort: hostPort });
  }
  return {
    Image: taggedImage(service.imageName),
    Cmd: service.command,
    Entrypoint: service.entrypoint,
    Env: Object.entries(service.environment ?? {}).map(([name, value]) => `${name}=${value}`),
    ExposedPorts: Object.fromEntries(Object.keys(publishedPorts).map((port) => [port, {}])),
    WorkingDir: service.workingDir,
    User: service.user,
    Hostname: service.hostname,
    Tty: service.tty,
    StopSignal: service.stopSignal,
    StopTimeout:
      service.stopGracePeriod === undefined ? undefined : Math.ceil(service.stopGracePeriod / 1000),
    Healthcheck: healthcheck && healthcheckOf(healthcheck),
    Labels: {
      ...service.labels,
      // By these the lines of its log are named.
      'millrace.app-id': String(appId),
      'millrace.service-name': service.serviceName,
      ...(service.serviceId !== undefined && { 'millrace.service-id': String(service.serviceId) }),
      [labelNames.owner]: owner,
      [labelNames.app]: String(appId),
      [labelNames.service]: labels.service,
      [labelNames.release]: String(labels.release),
      [labelNames.config]: labels.config,
      [labelNames.dependsOn]: labels.dependsOn.join(','),
    },
    Volumes: Object.fromEntries(
      volumes.filter(({ kind }) => kind === 'anonymous').map(({ target }) => [target, {}]),
    ),
    HostConfig: {
      NetworkMode: service.networkMode ?? network,
      PortBindings: publishedPorts,
      Binds: volumes.flatMap(({ kind, source, target, isReadOnly }) =>
        kind === 'anonymous'
          ? []
          : [`${kind === 'volume' ? objectName(appId, source) : source}:${target}${isReadOnly ? ':ro' : ''}`],
      ),
      Tmpfs: service.tmpfs && Object.fromEntries(service.tmpfs.map((path) => [path, ''])),
      RestartPolicy: restartOf(service),
      Devices: service.devices?.map(({ onHost, inContainer, permissions }) => ({
        PathOnHost: onHost,
        PathInContainer: inContainer,
        CgroupPermissions: permissions,
      })),
      Privileged: service.privileged,
      CapAdd: service.capAdd,
      CapDrop: service.capDrop,
      Memory: service.memLimit,
      MemoryReservation: service.memReservation,
      NanoCpus: service.cpus === undefined ? undefined : Math.round(service.cpus * 1e9),
      PidsLimit: service.pidsLimit,
      ExtraHosts: service.extraHosts,
      Init: service.init,
      ReadonlyRootfs: service.readOnly,
    },
    ...(network !== undefined && {
      NetworkingConfig: { EndpointsConfig: { [network]: { Aliases: [service.serviceName] } } },
    }),
  };
}

/**
 * The engine starts containers again after a crash and after a reboot, whether this program runs or not. For it
 * `always` is `unless-stopped`: else it would bring back, after a reboot, what was stopped here, such as the container
 * of the release before.
 */
function restartOf(service: Service): object {
  if (keepsRunning(service)) return { Name: 'unless-stopped' };
  const { name = 'no', maxRetries = 0 } = service.restart ?? {};
  return { Name: name, MaximumRetryCount: maxRetries };
}

function healthcheckOf(check: NonNullable<Service['healthcheck']>): object {
  const nanos = (ms: number | undefined) => (ms === undefined ? undefined : Math.round(ms * nanosPerMs));
  const test = typeof check.test === 'string' ? ['CMD-SHELL', check.test] : check.test;
  return {
    Test: check.disable ? ['NONE'] : test,
    Interval: nanos(check.interval),
    Timeout: nanos(check.timeout),
    StartPeriod: nanos(check.startPeriod),
    Retries: check.retries,
  };
}
