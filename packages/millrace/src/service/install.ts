import { existsSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { agentSettings } from '@millrace/agent/config';
import { errorText, MillraceError, type Setting } from '@millrace/wire';
import { harmless } from '../terminal/harmless.ts';
import { type Places, placesOf, type Scope, unitName } from './places.ts';
import {
  changedSettings,
  parseAssignments,
  putFile,
  readSettingsFile,
  settingsText,
} from './settings-file.ts';
import { type Systemctl, systemctlOf } from './systemctl.ts';
import { unitText, wantedGroups } from './unit.ts';

export interface ServiceContext {
  env: Record<string, string | undefined>;
  stdout: { write(text: string): unknown };
}

export interface InstallOptions {
  user?: boolean;
  root?: boolean;
  settings?: string;
  dryRun?: boolean;
  /** False for `--no-start`. */
  start?: boolean;
}

export interface UninstallOptions {
  user?: boolean;
  purge?: boolean;
}

// Longer than the agent takes to find that it cannot start; a unit that is restarting is `activating` meanwhile.
const steadyMs = 3000;

/**
 * Makes the agent a service of systemd and starts it; again, to change its settings or after an upgrade.
 *
 * @throws MillraceError `OPTION_INVALID`, `CONFIG_INVALID`, `SERVICE_FAILED`
 */
export async function installAgent(
  assignments: readonly string[],
  options: InstallOptions,
  { env, stdout }: ServiceContext,
): Promise<void> {
  const places = placesOf(scopeOf(options), env);
  const given = [
    ...(options.settings === undefined ? [] : presentSettings(options.settings)),
    ...parseAssignments(assignments),
  ];
  if (!options.dryRun) requireRights(places);
  const settings = changedSettings(readSettingsFile(places.settings), new Map(given));
  const asRoot = places.scope === 'system' && options.root === true;
  const dataDir = settings.get('DATA_DIR');
  if (dataDir !== undefined && !dataDir.startsWith('/')) {
    throw new MillraceError('OPTION_INVALID', 'DATA_DIR: a service needs an absolute path');
  }
  if (places.scope === 'system' && dataDir !== undefined && !asRoot) {
    throw new MillraceError(
      'OPTION_INVALID',
      `DATA_DIR: the service's own user may write to ${places.data} only; with --root it may be elsewhere`,
    );
  }
  const unit = unitText({
    places,
    node: process.execPath,
    program: realpathSync(process.argv[1] ?? ''),
    asRoot,
    dataDir,
    groups: groupsHere(),
  });
  if (options.dryRun) {
    stdout.write(
      `# ${places.unit}\n${unit}\n# ${places.settings}\n${settingsText(withoutSecrets(settings))}`,
    );
    return;
  }
  const systemctl = systemctlOf(places.scope, env);
  // Where systemd does not run, nothing is left behind.
  await systemctl('show', '--property=Version');
  putFile(places.settings, settingsText(settings), 0o600);
  putFile(places.unit, unit, 0o644);
  stdout.write(`wrote ${places.unit}\nwrote ${places.settings}\n`);
  await systemctl('daemon-reload');
  await systemctl('enable', '--quiet', unitName);
  if (options.start === false) {
    stdout.write(`enabled; starts with the machine, or now: ${command(places, 'start')}\n`);
  } else {
    // A restart starts what is not running, and has new settings read by what is.
    await systemctl('restart', unitName);
    await steady(systemctl, places);
    stdout.write(`the agent runs; its log: ${logCommand(places)}\n`);
  }
  if (places.scope === 'user' && !lingers(env)) {
    stdout.write('it ends when you log out, unless: loginctl enable-linger\n');
  }
}

/**
 * Stops the agent and takes the service away. Data and settings stay unless `purge` is set.
 *
 * @throws MillraceError `SERVICE_FAILED`
 */
export async function uninstallAgent(
  options: UninstallOptions,
  { env, stdout }: ServiceContext,
): Promise<void> {
  const places = placesOf(scopeOf(options), env);
  requireRights(places);
  const systemctl = systemctlOf(places.scope, env);
  // Read before it is removed.
  const data = readSettingsFile(places.settings).get('DATA_DIR') ?? places.data;
  if (existsSync(places.unit)) {
    await systemctl('disable', '--now', '--quiet', unitName);
    remove(places.unit);
    await systemctl('daemon-reload');
    stdout.write('the agent is stopped and no longer a service\n');
  } else {
    stdout.write(`there was no service: ${places.unit} does not exist\n`);
  }
  if (!options.purge) {
    stdout.write(`kept: ${data} (journal, identity) and ${places.settings}; --purge removes them\n`);
    return;
  }
  // Where systemd keeps the state of a user it made up; the usual path is a link to it.
  if (places.scope === 'system' && data === places.data) remove('/var/lib/private/millrace');
  for (const path of [data, places.settings]) remove(path);
  stdout.write(`removed ${data} and ${places.settings}\n`);
}

function scopeOf({ user }: { user?: boolean }): Scope {
  return user ? 'user' : 'system';
}

function presentSettings(path: string): Iterable<[string, string]> {
  if (!existsSync(path)) throw new MillraceError('OPTION_INVALID', `--settings: there is no file ${path}`);
  const texts = readSettingsFile(path);
  return parseAssignments([...texts].map(([name, value]) => `${name}=${value}`));
}

function requireRights({ scope }: Places): void {
  if (scope === 'system' && process.getuid?.() !== 0) {
    throw new MillraceError(
      'SERVICE_FAILED',
      'a service of the machine needs root: try again with sudo, or with --user for a service of your own',
    );
  }
}

function groupsHere(): string[] {
  const known = new Set(
    readFileSync('/etc/group', 'utf8')
      .split('\n')
      .map((line) => line.split(':', 1)[0]),
  );
  return wantedGroups.filter((group) => known.has(group));
}

function withoutSecrets(settings: ReadonlyMap<string, string>): Map<string, string> {
  const secrets = new Set(
    Object.values<Setting>(agentSettings).flatMap(({ env, secret }) => (secret ? [env] : [])),
  );
  // A URL may carry a password, too.
  const shown = (value: string) => harmless(value.replace(/\/\/[^@/]*@/, '//***@'));
  return new Map([...settings].map(([name, value]) => [name, secrets.has(name) ? '***' : shown(value)]));
}

/** @throws MillraceError `SERVICE_FAILED` when the agent does not stay up */
async function steady(systemctl: Systemctl, places: Places): Promise<void> {
  const before = await shown(systemctl);
  await pause(steadyMs);
  const after = await shown(systemctl);
  // Restarts by systemd are counted on and on.
  if (after.ActiveState === 'active' && after.NRestarts === before.NRestarts) return;
  throw new MillraceError(
    'SERVICE_FAILED',
    `the agent does not stay up (${after.ActiveState}, ${after.Result}); systemd keeps trying. Its log: ${logCommand(places)}`,
  );
}

async function shown(systemctl: Systemctl): Promise<Record<string, string | undefined>> {
  const text = await systemctl('show', unitName, '--property=ActiveState,NRestarts,Result');
  return Object.fromEntries(text.split('\n').map((line) => line.split('=', 2)));
}

function command({ scope }: Places, verb: string): string {
  return `systemctl ${scope === 'user' ? '--user ' : ''}${verb} millrace-agent`;
}

function logCommand({ scope }: Places): string {
  return `journalctl ${scope === 'user' ? '--user ' : ''}-u millrace-agent -f`;
}

function lingers(env: Record<string, string | undefined>): boolean {
  return existsSync(join('/var/lib/systemd/linger', env.USER ?? ''));
}

function remove(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (cause) {
    throw new MillraceError('SERVICE_FAILED', `${path}: ${errorText(cause)}`, { cause });
  }
}
