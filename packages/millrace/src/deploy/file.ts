import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import type { Deployment } from '@millrace/client';
import { errorText, MillraceError } from '@millrace/wire';
import { jsonFieldNames, parseApp, parseCompose } from '@millrace/wire/apps';

const maxFileBytes = 2 * 1024 * 1024;

/**
 * Reads what is to be deployed, and checks it as the cloud and the device will.
 *
 * @param called the app's name or id, for a compose file
 * @throws MillraceError `PARAMETER_INVALID` when the file cannot be read, `APP_INVALID` with the line or the field
 */
export async function readDeployment(
  path: string,
  called: string | undefined,
  stdin: NodeJS.ReadableStream,
): Promise<Pick<Deployment, 'apps' | 'compose' | 'app'>> {
  const content = await contentOf(path, stdin);
  const shown = path === '-' ? 'stdin' : path;
  const isJson = path === '-' ? /^\s*[[{]/.test(content) : /\.json$/i.test(path);
  try {
    if (isJson) {
      if (called !== undefined) throw new MillraceError('PARAMETER_INVALID', '--app is for compose files');
      return { apps: checkedApps(parseJson(content)) };
    }
    const { app } = await parseCompose(content, 1);
    if (app.appName === undefined && called === undefined) {
      throw new MillraceError('APP_INVALID', 'the app has no name: add a line "name: …", or give --app');
    }
  } catch (error) {
    if (!(error instanceof MillraceError) || error.code !== 'APP_INVALID') throw error;
    throw new MillraceError('APP_INVALID', `${shown}: ${error.detail}`, { cause: error });
  }
  return { compose: content, ...(called !== undefined && { app: called }) };
}

async function contentOf(path: string, stdin: NodeJS.ReadableStream): Promise<string> {
  let content: string;
  try {
    content = path === '-' ? await text(stdin) : await readFile(path, 'utf8');
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const why = isMissing ? 'there is no such file' : errorText(error);
    throw new MillraceError('PARAMETER_INVALID', `${path}: ${why}`, { cause: error });
  }
  if (Buffer.byteLength(content) <= maxFileBytes) return content;
  throw new MillraceError('PARAMETER_INVALID', `${path}: is larger than ${maxFileBytes} bytes`);
}

function parseJson(content: string): unknown {
  try {
    return JSON.parse(content);
  } catch (error) {
    const at = /position (\d+)/.exec(errorText(error))?.[1];
    const line = at === undefined ? '' : `line ${content.slice(0, Number(at)).split('\n').length}: `;
    throw new MillraceError('APP_INVALID', `${line}not JSON (${errorText(error)})`, { cause: error });
  }
}

/** One app, a list of them, or `{"apps": […]}`. */
function checkedApps(value: unknown): unknown[] {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  const apps = isObject && 'apps' in value ? value.apps : Array.isArray(value) ? value : [value];
  if (!Array.isArray(apps)) throw new MillraceError('APP_INVALID', 'apps must be a list');
  for (const [i, app] of apps.entries()) {
    const isNamed = typeof app === 'object' && app !== null && 'appName' in app && !('appId' in app);
    // A name stands in for an id, which the cloud gives out.
    parseApp(isNamed ? { ...app, appId: 1 } : app, (path) =>
      apps.length === 1 ? jsonFieldNames(path) : `apps[${i}].${jsonFieldNames(path)}`,
    );
  }
  return apps;
}
