import type { LogInput } from '@millrace/wire';

/** What the engine says about a container in its list and in its events. */
export interface ContainerIdentity {
  /** 64 hexadecimal digits. */
  id: string;
  /** Without the leading slash. */
  name: string;
  labels: Readonly<Record<string, string>>;
}

/** The part of a line's message that is the same for all lines of a container. */
export type ServiceFields = Pick<
  LogInput,
  'serviceName' | 'serviceId' | 'appId' | 'containerId' | 'source' | 'isSystem'
>;

/** The label that leaves a container alone, with the value `off`. */
export const logsLabel = 'millrace.logs';

const nameLabels = ['millrace.service-name', 'io.balena.service-name', 'com.docker.compose.service'];
const serviceIdLabels = ['millrace.service-id', 'io.balena.service-id'];
const appIdLabels = ['millrace.app-id', 'io.balena.app-id', 'com.docker.compose.project'];

/** A container whose owner wants its logs left alone. */
export function isLeftAlone({ labels }: ContainerIdentity): boolean {
  const value = labels[logsLabel]?.trim().toLowerCase();
  return value === 'off' || value === 'false';
}

/**
 * Names the service that a container belongs to: by our own labels, else balena's, else Docker Compose's, else by
 * the container's name. Each of the three values is looked for by itself. An app's id is a number where the label
 * holds one, else text (a Compose project).
 */
export function serviceOf({ id, name, labels }: ContainerIdentity): ServiceFields {
  const serviceName = first(labels, nameLabels) ?? (name || id.slice(0, 12));
  const serviceId = wholeNumber(first(labels, serviceIdLabels));
  const app = first(labels, appIdLabels);
  const appId = wholeNumber(app) ?? app;
  return {
    source: { type: 'container', name: serviceName },
    ...(serviceId !== undefined && { serviceId }),
    serviceName,
    containerId: id,
    isSystem: false,
    ...(appId !== undefined && { appId }),
  };
}

function first(labels: Readonly<Record<string, string>>, keys: string[]): string | undefined {
  for (const key of keys) {
    const value = labels[key]?.trim();
    if (value) return value;
  }
  return undefined;
}

function wholeNumber(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,15}$/.test(text)) return undefined;
  // Leading zeros would be lost: such an id is text.
  return String(Number(text)) === text ? Number(text) : undefined;
}
