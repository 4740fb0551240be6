import { composeFieldNames, type Mapping, mapping, only, serviceOf, wrong } from './compose-fields.ts';
import { type App, parseApp } from './schema.ts';

/**
 * Reads a compose file as the app of that id.
 *
 * @returns what the app API would have been given for it, and what that means
 * @throws MillraceError `APP_INVALID` that names the line, or the field under its name in the file
 */
export async function parseCompose(text: string, appId: number): Promise<{ given: unknown; app: App }> {
  const file = await readYaml(text);
  const names = ['version', 'name', 'services', 'networks', 'volumes'];
  const unknown = Object.keys(file).find((key) => !names.includes(key) && !key.startsWith('x-'));
  if (unknown !== undefined) throw wrong(`${unknown} is not supported; ${names.join(', ')} are`);
  checkNamesOnly(file, 'networks');
  checkNamesOnly(file, 'volumes');
  const services = Object.entries(mapping(file.services, 'services'));
  const given = {
    appId,
    ...(file.name !== undefined && { appName: file.name }),
    services: services.map(([serviceName, service]) => ({
      serviceName,
      ...serviceOf(mapping(service, `services.${serviceName}`), `services.${serviceName}`, withoutVariables),
    })),
  };
  const app = parseApp(given, composeFieldNames(services.map(([serviceName]) => serviceName)));
  return { given, app };
}

async function readYaml(text: string): Promise<Mapping> {
  // Nine megabytes that only those pay who send such a file.
  const yaml = await import('yaml');
  const lines = new yaml.LineCounter();
  const document = yaml.parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: true });
  const [error] = document.errors;
  if (error) throw wrong(`line ${lines.linePos(error.pos[0]).line}: ${error.message}`);
  try {
    // Aliases of aliases could make a small file a large one.
    return mapping(document.toJS({ maxAliasCount: 100 }), 'the file');
  } catch (error) {
    if (error instanceof ReferenceError) throw wrong(error.message);
    throw error;
  }
}

/** Networks and volumes are made as they are used; a file may list them, but not configure them. */
function checkNamesOnly(file: Mapping, key: 'networks' | 'volumes'): void {
  for (const [name, settings] of Object.entries(mapping(file[key] ?? {}, key))) {
    only(mapping(settings ?? {}, `${key}.${name}`), [], `${key}.${name}`);
  }
}

/** `$$` is a dollar. A variable would have to come from somewhere, and here is no such place. */
function withoutVariables(value: unknown, path: string): unknown {
  if (typeof value === 'string') {
    if (/(?<!\$)(?:\$\$)*\$[{A-Za-z_]/.test(value)) {
      throw wrong(`${path} holds a variable, which is not filled in; write $$ for a dollar`);
    }
    return value.replaceAll('$$', '$');
  }
  if (Array.isArray(value)) return value.map((entry, i) => withoutVariables(entry, `${path}[${i}]`));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [key, withoutVariables(entry, `${path}.${key}`)]),
  );
}
