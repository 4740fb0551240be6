import type { Service } from '@millrace/wire/apps';

/**
 * What a container, network or volume of ours says of itself. That a container is ours takes both: the label with
 * this agent's id, and the name that follows from its labels; an image made from a container of ours (`docker commit`)
 * would hand down the labels alone.
 */
export const labelNames = {
  owner: 'io.millrace.managed-by',
  app: 'io.millrace.app-id',
  service: 'io.millrace.service',
  /** The release that the container was made for; it may serve later ones as well. */
  release: 'io.millrace.release',
  /** Of all that makes a container what it is: one with another has to be replaced. */
  config: 'io.millrace.config',
  /** Services that it wants to outlive. */
  dependsOn: 'io.millrace.depends-on',
} as const;

/** Behind the name of a container that has been replaced for good: how it ended no longer tells anything. */
export const retiredSuffix = '_retired';

export interface ContainerLabels {
  appId: number;
  service: string;
  release: number;
  config: string;
  dependsOn: string[];
  isRetired: boolean;
}

export function containerName({
  appId,
  service,
  release,
  config,
}: Pick<ContainerLabels, 'appId' | 'service' | 'release' | 'config'>): string {
  return `${service}_${appId}_${release}_${config.slice(0, 8)}`;
}

/** Networks and volumes of an app, under their names on the engine, as balena names them. */
export function objectName(appId: number, name: string): string {
  return `${appId}_${name}`;
}

export const defaultNetwork = 'default';

/** The networks, by their names on the engine, that a service is in. */
export function networksOf(appId: number, { networks, networkMode }: Service): string[] {
  if (networkMode) return [];
  return (networks?.length ? networks : [defaultNetwork]).map((name) => objectName(appId, name));
}

export function volumesOf(appId: number, { volumes = [] }: Service): string[] {
  return volumes.flatMap(({ kind, source }) => (kind === 'volume' ? [objectName(appId, source)] : []));
}

/** `undefined` for a container that is none of ours. */
export function readLabels(
  labels: Readonly<Record<string, string>>,
  name: string,
  owner: string,
): ContainerLabels | undefined {
  if (labels[labelNames.owner] !== owner) return undefined;
  const found = {
    appId: Number(labels[labelNames.app]),
    service: labels[labelNames.service] ?? '',
    release: Number(labels[labelNames.release]),
    config: labels[labelNames.config] ?? '',
    dependsOn: (labels[labelNames.dependsOn] ?? '').split(',').filter(Boolean),
  };
  const isRetired = name === containerName(found) + retiredSuffix;
  return isRetired || name === containerName(found) ? { ...found, isRetired } : undefined;
}
