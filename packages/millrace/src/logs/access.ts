import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Access } from '@millrace/client';
import { errorText, MillraceError } from '@millrace/wire';

type Env = Record<string, string | undefined>;

/**
 * Finds the server and a token: `--url` or `MILLRACE_URL`, else this machine; `MILLRACE_TOKEN`, else the token that
 * the server left in its data folder for its owner. That one opens only the server on this machine, so it is sent
 * nowhere else.
 *
 * @throws MillraceError `PARAMETER_INVALID`, `TOKEN_UNUSABLE`
 */
export async function findAccess(urlOption: string | undefined, env: Env): Promise<Access> {
  const given = urlOption ?? env.MILLRACE_URL;
  const text = given || `http://127.0.0.1:${env.CLOUD_PORT || 8080}`;
  const parsed = URL.parse(text);
  if (!parsed || !/^https?:$/.test(parsed.protocol) || parsed.username || parsed.search || parsed.hash) {
    const name = urlOption !== undefined ? '--url' : given ? 'MILLRACE_URL' : 'CLOUD_PORT';
    // The text itself may hold credentials, which an error must not repeat.
    throw new MillraceError('PARAMETER_INVALID', `${name}: use an address such as http://127.0.0.1:8080`);
  }
  const url = parsed.href.replace(/\/+$/, '');
  if (env.MILLRACE_TOKEN) return { url, token: env.MILLRACE_TOKEN };
  if (!isThisMachine(parsed.hostname)) {
    throw new MillraceError(
      'TOKEN_UNUSABLE',
      `${parsed.host} is not this machine, so it needs MILLRACE_TOKEN`,
    );
  }
  return { url, token: await localToken(env) };
}

export function isThisMachine(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

async function localToken(env: Env): Promise<string> {
  const path = join(env.DATA_DIR || './data', 'cli-token');
  let token: string;
  try {
    token = (await readFile(path, 'utf8')).trim();
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is none' : errorText(error);
    throw new MillraceError('TOKEN_UNUSABLE', `no token in ${path}: ${why}`, { cause: error });
  }
  if (!token) throw new MillraceError('TOKEN_UNUSABLE', `no token in ${path}: the file is empty`);
  return token;
}
