import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError } from '@millrace/wire';
import Docker from 'dockerode';

export type { Docker };

/** The socket of an engine that runs on this machine. */
export const defaultSocketPath = '/var/run/docker.sock';

/**
 * A client of the engine that `DOCKER_HOST` names: `unix:///path`, `tcp://host:port`, `http(s)://host:port` or
 * `npipe:////./pipe/name`; without it, of the one behind {@link defaultSocketPath}. `DOCKER_CERT_PATH` (`ca.pem`,
 * `cert.pem`, `key.pem`), `DOCKER_TLS_VERIFY` and port 2376 mean TLS, as for the `docker` command. Nothing is
 * sent yet.
 *
 * @throws MillraceError `CONFIG_INVALID` when `DOCKER_HOST` is no such address or the certificates cannot be read
 */
export function connectEngine({ env }: { env: Record<string, string | undefined> }): Docker {
  const host = env.DOCKER_HOST;
  // dockerode reads the process's environment itself; every key is given here so that only `env` counts.
  const none = {
    host: undefined,
    port: undefined,
    socketPath: undefined,
    ca: undefined,
    cert: undefined,
    key: undefined,
  };
  if (!host) return new Docker({ ...none, socketPath: defaultSocketPath });
  const local = /^(unix|npipe):\/\/(.*)$/.exec(host);
  if (local) return new Docker({ ...none, socketPath: local[2] || defaultSocketPath });
  const url = URL.canParse(host) ? new URL(host) : undefined;
  if (!url || !['tcp:', 'http:', 'https:'].includes(url.protocol) || !url.hostname) {
    throw new MillraceError('CONFIG_INVALID', `DOCKER_HOST="${host}": use unix:///path or tcp://host:port`);
  }
  const tls = url.protocol === 'https:' || url.port === '2376' || Boolean(env.DOCKER_TLS_VERIFY);
  return new Docker({
    ...none,
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port || (tls ? '2376' : '2375'),
    protocol: tls ? 'https' : 'http',
    ...(tls && env.DOCKER_CERT_PATH ? certificates(env.DOCKER_CERT_PATH) : {}),
  });
}

function certificates(folder: string): { ca: string; cert: string; key: string } {
  const read = (name: string) => {
    try {
      return readFileSync(join(folder, name), 'utf8');
    } catch (cause) {
      throw new MillraceError('CONFIG_INVALID', `DOCKER_CERT_PATH="${folder}": ${name} cannot be read`, {
        cause,
      });
    }
  };
  return { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') };
}
