import * as z from 'zod';

/*
 * The forms in which values are written in a compose file and, with the same meaning, in the app API's JSON. Each
 * schema takes all forms of one value and gives one.
 */

const shortText = z.string().max(4096);

/** A union of forms that says what it wants instead of everything that it is not. */
function parsed<T>(wanted: string, read: (value: unknown) => T | undefined) {
  return z.unknown().transform((value, context): T => {
    const result = read(value);
    if (result !== undefined) return result;
    context.addIssue({ code: 'custom', message: `must be ${wanted}` });
    return z.NEVER;
  });
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isScalar = (value: unknown) =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';

const maxEntries = 500;

/** `{K: 'v'}` or `['K=v']`; `undefined` where it is neither. */
function pairs(value: unknown): Record<string, string> | undefined {
  const out: Record<string, string> = {};
  if (Array.isArray(value)) {
    for (const entry of value) {
      const at = typeof entry === 'string' ? entry.indexOf('=') : -1;
      if (at < 1) return undefined;
      out[entry.slice(0, at)] = entry.slice(at + 1);
    }
  } else if (isRecord(value)) {
    for (const [name, given] of Object.entries(value)) {
      if (given !== null && !isScalar(given)) return undefined;
      out[name] = given === null ? '' : String(given);
    }
  } else return undefined;
  const names = Object.keys(out);
  const isSound = (text: string) => text.length <= 65_536 && !text.includes('\0');
  return names.length <= maxEntries && names.every((name) => isSound(name) && isSound(out[name] as string))
    ? out
    : undefined;
}

export const environment = parsed('{NAME: value} or ["NAME=value"]', (value) => {
  const found = pairs(value);
  return found && Object.keys(found).every((name) => /^[^=\s]{1,256}$/.test(name)) ? found : undefined;
});

/** Those that say whose a container is are set by the agent alone. */
const reservedLabels = /^io\.millrace\.|^millrace\.(service-name|service-id|app-id)$/;

export const labels = parsed(
  '{name: value} or ["name=value"], without io.millrace.… and millrace.service-name, -service-id and -app-id',
  (value) => {
    const found = pairs(value);
    return found && !Object.keys(found).some((name) => reservedLabels.test(name)) ? found : undefined;
  },
);

/** A list as it is, a text split as a shell would split it: quotes and backslashes, nothing else. */
export const words = parsed('a text or a list of texts', (value) => {
  if (Array.isArray(value)) {
    const all = value.length <= maxEntries && value.every((word) => typeof word === 'string');
    return all ? (value as string[]) : undefined;
  }
  return typeof value === 'string' && value.length <= 65_536 ? splitWords(value) : undefined;
});

function splitWords(text: string): string[] | undefined {
  const out: string[] = [];
  let word: string | undefined;
  for (let i = 0; i < text.length; i++) {
    const char = text[i] as string;
    if (/\s/.test(char)) {
      if (word !== undefined) out.push(word);
      word = undefined;
    } else if (char === "'" || char === '"') {
      word ??= '';
      for (i++; i < text.length && text[i] !== char; i++) {
        if (char === '"' && text[i] === '\\' && /["\\$`]/.test(text[i + 1] ?? '')) i++;
        word += text[i];
      }
      if (i >= text.length) return undefined;
    } else {
      if (char === '\\') i++;
      word = (word ?? '') + (text[i] ?? '');
    }
  }
  if (word !== undefined) out.push(word);
  return out;
}

export interface PublishedPort {
  hostIp: string;
  /** On the device; empty for any free one. */
  hostPort: string;
  /** `80/tcp` */
  containerPort: string;
}

const portPattern =
  /^(?:(?:(?<ip>\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:]+\]):)?(?<host>\d{1,5})?:)?(?<inside>\d{1,5})(?:\/(?<protocol>tcp|udp|sctp))?$/;

export const port = parsed('a port such as 80, "8080:80" or "127.0.0.1:8080:80/udp"', (value) => {
  const match = isScalar(value) ? portPattern.exec(String(value)) : null;
  if (!match?.groups) return undefined;
  const { ip = '', host = '', inside = '', protocol = 'tcp' } = match.groups;
  const inRange = (text: string) => Number(text) >= 1 && Number(text) <= 65_535;
  if (!inRange(inside) || (host !== '' && !inRange(host))) return undefined;
  return {
    hostIp: ip.replace(/^\[|\]$/g, ''),
    hostPort: host,
    containerPort: `${Number(inside)}/${protocol}`,
  };
});

export interface Mount {
  /** A named volume, a path on the device, or nothing: a volume that goes with the container. */
  kind: 'volume' | 'bind' | 'anonymous';
  source: string;
  target: string;
  isReadOnly: boolean;
}

export const objectName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/;

export const mount = parsed(
  'a volume such as "data:/var/lib/data", "/dev/shm:/shm:ro" or "/cache"',
  (value) => {
    if (typeof value !== 'string' || value.length > 4096) return undefined;
    const parts = value.split(':');
    if (parts.length > 3) return undefined;
    const isPath = (text: string | undefined) => text?.startsWith('/') === true && !text.includes('\0');
    const [first = '', second, mode] = parts;
    if (second === undefined) {
      return isPath(first)
        ? { kind: 'anonymous' as const, source: '', target: first, isReadOnly: false }
        : undefined;
    }
    if (!isPath(second) || (mode !== undefined && mode !== 'ro' && mode !== 'rw')) return undefined;
    const kind = isPath(first) ? ('bind' as const) : ('volume' as const);
    if (kind === 'volume' && !objectName.test(first)) return undefined;
    return { kind, source: first, target: second, isReadOnly: mode === 'ro' };
  },
);

export interface Device {
  onHost: string;
  inContainer: string;
  permissions: string;
}

export const device = parsed('a device such as "/dev/ttyUSB0" or "/dev/ttyUSB0:/dev/modem:rw"', (value) => {
  const match =
    typeof value === 'string' ? /^(\/[^:\0]+)(?::(\/[^:\0]+))?(?::([rwm]{1,3}))?$/.exec(value) : null;
  if (!match) return undefined;
  const [, onHost = '', inContainer = onHost, permissions = 'rwm'] = match;
  return { onHost, inContainer, permissions };
});

export interface RestartPolicy {
  name: 'no' | 'always' | 'on-failure' | 'unless-stopped';
  maxRetries: number;
}

export const restart = parsed('no, always, unless-stopped, on-failure or on-failure:5', (value) => {
  // YAML 1.1 reads an unquoted no as false.
  const text = value === false ? 'no' : value;
  const match =
    typeof text === 'string' ? /^(no|always|unless-stopped|on-failure)(?::(\d{1,4}))?$/.exec(text) : null;
  if (!match || (match[2] !== undefined && match[1] !== 'on-failure')) return undefined;
  return { name: match[1] as RestartPolicy['name'], maxRetries: Number(match[2] ?? 0) };
});

const unitMs: Record<string, number> = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Gives milliseconds. */
export const duration = parsed('a time such as "30s", "1m30s" or "500ms"', (value) => {
  if (typeof value !== 'string' || !/^(\d{1,9}(\.\d{1,3})?(us|ms|s|m|h))+$/.test(value)) return undefined;
  let ms = 0;
  for (const [, number, unit] of value.matchAll(/([\d.]+)(us|ms|s|m|h)/g)) {
    ms += Number(number) * (unitMs[unit as string] as number);
  }
  return ms;
});

const unitBytes: Record<string, number> = { b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/** Gives bytes. */
export const size = parsed('a size such as "256m", "1g" or a number of bytes', (value) => {
  const match = isScalar(value) ? /^(\d{1,15}(?:\.\d{1,3})?)\s*([bkmg]?)b?$/i.exec(String(value)) : null;
  if (!match) return undefined;
  return Math.round(Number(match[1]) * (unitBytes[(match[2] || 'b').toLowerCase()] as number));
});

export const cpus = parsed('a number of processors such as 0.5', (value) => {
  const number = isScalar(value) && value !== '' ? Number(value) : Number.NaN;
  return number > 0 && number <= 1024 ? number : undefined;
});

/** What the engine waits for before it starts a service that depends on another. */
export const conditions = ['service_started', 'service_healthy', 'service_completed_successfully'] as const;

export interface Dependency {
  serviceName: string;
  condition: (typeof conditions)[number];
}

export const dependsOn = parsed(
  `a list of services, or {service: {condition}} with ${conditions.join(', ')}`,
  (value) => {
    if (Array.isArray(value)) {
      if (!value.every((name) => typeof name === 'string')) return undefined;
      return value.map((serviceName): Dependency => ({ serviceName, condition: 'service_started' }));
    }
    if (!isRecord(value)) return undefined;
    const out: Dependency[] = [];
    for (const [serviceName, given] of Object.entries(value)) {
      const condition = isRecord(given) ? (given.condition ?? 'service_started') : undefined;
      const known = conditions.find((name) => name === condition);
      if (!known || Object.keys(given as object).some((key) => key !== 'condition')) return undefined;
      out.push({ serviceName, condition: known });
    }
    return out;
  },
);

/** A container's address book entries, `name:ip`. */
export const extraHost = z.string().regex(/^[^:\s]{1,253}:\S{1,64}$/, 'must be name:address');

export const capability = z.string().regex(/^[A-Z_]{1,40}$/, 'must be a capability such as NET_ADMIN');

export const absolutePath = shortText.regex(/^\/[^\0]*$/, 'must be an absolute path');
