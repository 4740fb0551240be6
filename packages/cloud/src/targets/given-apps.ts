import { MillraceError } from '@millrace/wire';
import { type App, jsonFieldNames, parseApp, parseCompose } from '@millrace/wire/apps';

/** An app as somebody asks for it. Without an id it is known by its name, and gets the id that the name has. */
export interface GivenApp {
  /** Where it stands in what was sent, for errors: `apps[0]`. Empty when it is all of it. */
  place: string;
  appId?: number;
  name?: string;
  given: object;
  app: App;
}

/** Most apps of a target. */
export const maxApps = 100;

/**
 * Reads `apps`: a list of apps as the app API takes them, in which a name may stand in for the id.
 *
 * @throws MillraceError `APP_INVALID` that names the fields
 */
export function readApps(apps: readonly unknown[]): GivenApp[] {
  if (apps.length > maxApps) throw invalid(`apps has more than ${maxApps} entries`);
  return apps.map((value, i) => {
    const place = `apps[${i}]`;
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    const { appId, appName } = (isObject ? value : {}) as { appId?: unknown; appName?: unknown };
    if (isObject && appId === undefined && appName === undefined) {
      throw invalid(`${place} needs an appId, or an appName by which it is known`);
    }
    const given: unknown = isObject && appId === undefined ? { ...value, appId: 1 } : value;
    const app = parseApp(given, (path) => {
      const field = jsonFieldNames(path);
      return field === '' ? place : `${place}.${field}`;
    });
    return {
      place,
      ...(appId !== undefined && { appId: app.appId }),
      ...(app.appName !== undefined && { name: app.appName }),
      given: given as object,
      app,
    };
  });
}

/**
 * Reads a compose file as an app.
 *
 * @param called the name or the id of the app; else the file's `name` is
 * @throws MillraceError `APP_INVALID` that names the line or the field
 */
export async function readCompose(text: string, called?: string): Promise<GivenApp> {
  const appId = called !== undefined && /^\d{1,15}$/.test(called) ? Number(called) : undefined;
  if (appId === 0) throw invalid('app must be a name, or an id from 1');
  const { given, app } = await parseCompose(text, appId ?? 1);
  const name = appId === undefined ? (called ?? app.appName) : app.appName;
  if (name === undefined && appId === undefined) {
    throw invalid('the app has no name: give the file a line "name: …", or name the app with "app"');
  }
  // Its own name is checked like any.
  const named = { ...(given as object), ...(name !== undefined && { appName: name }) };
  const checked =
    name === app.appName ? app : parseApp(named, (path) => path.join('.').replace('appName', 'app'));
  return {
    place: '',
    ...(appId !== undefined && { appId }),
    ...(name !== undefined && { name }),
    given: named,
    app: checked,
  };
}

export function invalid(detail: string): MillraceError {
  return new MillraceError('APP_INVALID', detail);
}
