import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { agentSettings } from '@millrace/agent/config';
import { errorText, MillraceError, readSettings } from '@millrace/wire';

export type SettingTexts = ReadonlyMap<string, string>;

/** Variables that are no settings of the agent, but mean something to the libraries in it or to Node. */
const others = new Set([
  ...['DOCKER_CERT_PATH', 'DOCKER_TLS_VERIFY', 'SSL_CERT_FILE', 'NODE_EXTRA_CA_CERTS', 'NODE_OPTIONS'],
  ...['TZ', 'LANG', 'MALLOC_ARENA_MAX', 'NO_COLOR'],
]);

/**
 * Reads `NAME=value` as the command line takes it. An empty value takes a setting away.
 *
 * @throws MillraceError `OPTION_INVALID` for anything else, and for a name that the agent does not know
 */
export function parseAssignments(words: readonly string[]): SettingTexts {
  const texts = new Map<string, string>();
  for (const word of words) {
    const equals = word.indexOf('=');
    const name = word.slice(0, Math.max(0, equals));
    // Nothing of the value: it may be a key.
    if (!/^[A-Z][A-Z0-9_]*$/.test(name)) {
      throw new MillraceError(
        'OPTION_INVALID',
        `"${equals < 0 ? word : name}" is not of the form NAME=value`,
      );
    }
    if (!isKnown(name)) {
      throw new MillraceError(
        'OPTION_INVALID',
        `${name} is no setting of the agent; "millrace agent --help" lists them`,
      );
    }
    const value = word.slice(equals + 1);
    if (/[\n\r\0]/.test(value))
      throw new MillraceError('OPTION_INVALID', `${name}: a value is one line of text`);
    texts.set(name, value);
  }
  return texts;
}

function isKnown(name: string): boolean {
  return others.has(name) || Object.values(agentSettings).some(({ env }) => env === name);
}

/**
 * The settings that are in a file; none when there is no such file.
 *
 * @throws MillraceError `OPTION_INVALID` for a file that cannot be read, or a line that is no setting
 */
export function readSettingsFile(path: string): SettingTexts {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw new MillraceError('OPTION_INVALID', `${path}: ${errorText(error)}`, { cause: error });
  }
  const texts = new Map<string, string>();
  for (const [index, line] of text.split('\n').entries()) {
    if (/^\s*([#;].*)?$/.test(line)) continue;
    const [, name, value] = /^\s*([A-Z][A-Z0-9_]*)=(.*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined) {
      throw new MillraceError('OPTION_INVALID', `${path}, line ${index + 1}: not of the form NAME=value`);
    }
    texts.set(name, unquoted(value.trim()));
  }
  return texts;
}

/**
 * What is in force after `changes`: a setting with an empty value is gone.
 *
 * @throws MillraceError `CONFIG_INVALID` naming every setting that the agent would refuse
 */
export function changedSettings(present: SettingTexts, changes: SettingTexts): SettingTexts {
  const texts = new Map([...new Map([...present, ...changes])].filter(([, value]) => value !== ''));
  readSettings(agentSettings, Object.fromEntries(texts));
  return texts;
}

/** The file's text. systemd.exec(5), EnvironmentFile: within double quotes, `\` escapes itself, `"`, `` ` `` and `$`. */
export function settingsText(texts: SettingTexts): string {
  const lines = [...texts].map(([name, value]) => `${name}="${value.replace(/[\\"`$]/g, '\\$&')}"`);
  return [
    '# Settings of the Millrace agent; see "millrace agent --help".',
    '# After a change: systemctl restart millrace-agent',
    ...lines,
    '',
  ].join('\n');
}

function unquoted(value: string): string {
  if (value.length >= 2 && value.startsWith('"') && value.endsWith('"')) {
    return value.slice(1, -1).replace(/\\([\\"`$])/g, '$1');
  }
  return value.length >= 2 && value.startsWith("'") && value.endsWith("'") ? value.slice(1, -1) : value;
}

/**
 * Puts a file in place at once: it is never there in part, nor readable by others for a moment.
 *
 * @throws MillraceError `SERVICE_FAILED`
 */
export function putFile(path: string, text: string, mode: number): void {
  const temporary = `${path}.new`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    rmSync(temporary, { force: true });
    writeFileSync(temporary, text, { mode });
    renameSync(temporary, path);
  } catch (cause) {
    throw new MillraceError('SERVICE_FAILED', `${path}: ${errorText(cause)}`, { cause });
  }
}
