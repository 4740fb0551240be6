import type { z } from 'zod';
import { MillraceError } from './errors.ts';

/**
 * One setting of a program: an environment variable with its type, default and one sentence about it. A
 * program's settings are one object of these; `--help`, the documentation's table and the checks at start all
 * come from it.
 */
export interface Setting<T = unknown> {
  env: string;
  /** Reads the variable's text, or throws. Usually a zod schema with coercion. */
  schema: z.ZodType<T>;
  /** Shown to people; omit when the default is not a fixed value. */
  defaultText?: string;
  help: string;
  /** Never shown, logged or repeated in an error. */
  secret?: boolean;
}

export type Settings = Record<string, Setting>;
export type SettingValues<S extends Settings> = { [K in keyof S]: S[K] extends Setting<infer T> ? T : never };

/**
 * Reads all settings from an environment. An empty variable counts as unset.
 *
 * @throws MillraceError `CONFIG_INVALID` that names every wrong variable, its value unless secret, and what is allowed
 */
export function readSettings<S extends Settings>(
  settings: S,
  env: Record<string, string | undefined>,
): SettingValues<S> {
  const values: Record<string, unknown> = {};
  const wrong: string[] = [];
  for (const [key, setting] of Object.entries(settings)) {
    const text = env[setting.env];
    const parsed = setting.schema.safeParse(text === '' ? undefined : text);
    if (parsed.success) values[key] = parsed.data;
    else {
      let reason = parsed.error.issues.map((issue) => issue.message).join('; ');
      // A schema's own message may repeat what it was given.
      if (setting.secret && text) reason = reason.replaceAll(text, '***');
      const shown = setting.secret ? '' : `="${showable(text ?? '')}"`;
      wrong.push(`${setting.env}${shown}: ${reason}`);
    }
  }
  if (wrong.length > 0) throw new MillraceError('CONFIG_INVALID', wrong.join(' | '));
  return values as SettingValues<S>;
}

/** A value as an error may repeat it: one short line, and without the credentials that a URL may hold. */
function showable(text: string): string {
  const line = text.replace(/\/\/.*@/gs, '//***@').replace(/\p{Cc}+/gu, ' ');
  return line.length > 200 ? `${line.slice(0, 200)}…` : line;
}

/** One row per setting, for `--help` and the documentation. */
export function describeSettings(settings: Settings): { env: string; default: string; help: string }[] {
  return Object.values(settings).map(({ env, defaultText, help }) => ({
    env,
    default: defaultText ?? '',
    help,
  }));
}
