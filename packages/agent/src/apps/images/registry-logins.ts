import { readFile } from 'node:fs/promises';
import { MillraceError } from '@millrace/wire';
import * as z from 'zod';

/** What the engine hands on to a registry, in the form of its `X-Registry-Auth`. */
export interface RegistryLogin {
  username?: string;
  password?: string;
  /** Stands for both, as some registries hand it out. */
  identitytoken?: string;
  registrytoken?: string;
  serveraddress: string;
}

/*
 * Docker's own `config.json`, as far as logins go:
 *
 *   {"auths":{"registry.example.com":{"auth":"<base64 of user:password>"},"https://index.docker.io/v1/":{…}}}
 *
 * https://docs.docker.com/reference/cli/docker/login/ and cli/config/configfile in docker/cli say which forms there are.
 */
const entry = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
const file = z.object({
  auths: z.record(z.string(), entry).default({}),
  credsStore: z.string().optional(),
  credHelpers: z.record(z.string(), z.string()).default({}),
});

const dockerHub = 'docker.io';
const namesOfDockerHub = ['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'];

/** The registry that an image comes from, without a scheme: `docker.io`, `registry.example.com:5000`. */
export function registryOf(image: string): string {
  const [first = '', ...path] = image.split('/');
  const isHost = path.length > 0 && (/[.:A-Z]/.test(first) || first === 'localhost');
  return isHost ? hostOf(first) : dockerHub;
}

/** Logins at registries, out of a file that is read each time it is asked, so that a change takes effect at once. */
export class RegistryLogins {
  readonly #path: string | undefined;

  /** Without a path there are none. */
  constructor(path: string | undefined) {
    this.#path = path;
  }

  /**
   * The login for the registry of an image; `undefined` when the file has none, and the image is asked for without.
   *
   * @throws MillraceError `LOGINS_UNUSABLE`, which names what is wrong but nothing of what the file holds
   */
  async loginFor(image: string): Promise<RegistryLogin | undefined> {
    if (this.#path === undefined) return undefined;
    const registry = registryOf(image);
    const { auths, credsStore, credHelpers } = await this.#read(this.#path);
    const [key, found] = Object.entries(auths).find(([name]) => hostOf(name) === registry) ?? [];
    if (key === undefined || !found) {
      const helper = Object.entries(credHelpers).find(([name]) => hostOf(name) === registry)?.[1];
      if (helper !== undefined) throw this.#wrong(`has the login at ${registry} in the program ${helper}`);
      return undefined;
    }
    const login = this.#loginOf(registry, found);
    if (login) return { ...login, serveraddress: key };
    const elsewhere = credsStore === undefined ? '' : `: it is in the program ${credsStore} (credsStore)`;
    throw this.#wrong(`holds no login at ${registry}${elsewhere}`);
  }

  #loginOf(
    registry: string,
    found: z.output<typeof entry>,
  ): Omit<RegistryLogin, 'serveraddress'> | undefined {
    const { auth, identitytoken, registrytoken } = found;
    let { username, password } = found;
    if (auth) {
      const [, user, secret] = /^([^:]+):(.*?)\0*$/s.exec(Buffer.from(auth, 'base64').toString()) ?? [];
      if (user === undefined) throw this.#wrong(`: "auth" of ${registry} is not user:password in base64`);
      username = user;
      password = secret;
    }
    if (!username && !identitytoken && !registrytoken) return undefined;
    return {
      ...(username && { username, password: password ?? '' }),
      ...(identitytoken && { identitytoken }),
      ...(registrytoken && { registrytoken }),
    };
  }

  async #read(path: string): Promise<z.output<typeof file>> {
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (cause) {
      throw this.#wrong(`cannot be read (${(cause as NodeJS.ErrnoException).code})`, cause);
    }
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      // What the parser says quotes the file, and so perhaps a password.
      throw this.#wrong('is not JSON');
    }
    const parsed = file.safeParse(json);
    if (parsed.success) return parsed.data;
    const where = parsed.error.issues[0]?.path.map(String).join('.') ?? '';
    throw this.#wrong(where === '' ? 'is not an object' : `: ${where} has another form than Docker writes`);
  }

  #wrong(what: string, cause?: unknown): MillraceError {
    const detail = `REGISTRY_AUTH_FILE="${this.#path}" ${what}`.replace('" :', '":');
    return new MillraceError('LOGINS_UNUSABLE', detail, { cause });
  }
}

/** Docker writes a registry with scheme and path (its own hub) or as a bare host. */
function hostOf(name: string): string {
  const host = name
    .replace(/^https?:\/\//, '')
    .replace(/\/.*$/, '')
    .toLowerCase();
  return namesOfDockerHub.includes(host) ? dockerHub : host;
}
