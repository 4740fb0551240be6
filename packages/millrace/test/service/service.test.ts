import { existsSync } from 'node:fs';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { outputOf } from '../../../../tests/support/docker-processes.ts';
import { freePort } from '../../../../tests/support/ports.ts';
import { repository } from '../../../../tests/support/programs.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { startUserSystemd, type UserSystemd } from '../../../../tests/support/user-systemd.ts';
import { until } from '../../../../tests/support/wait.ts';
import { type InstallOptions, installAgent } from '../../src/service/install.ts';
import { placesOf } from '../../src/service/places.ts';
import { unitText } from '../../src/service/unit.ts';

const millrace = join(repository, 'packages/millrace/bin/millrace.mjs');

async function agentCommand(systemd: UserSystemd, ...args: string[]) {
  await using program = systemd.run([millrace, 'agent', ...args]);
  const { code } = await program.ended();
  return { code, stdout: program.stdout, stderr: program.stderr };
}

test('the agent becomes a service, comes back when it is killed, takes new settings, and goes', async () => {
  await using dir = await tempDir();
  await using systemd = await startUserSystemd(dir.path);
  const port = await freePort();
  const settings = [`DEVICE_API_PORT=${port}`, `API_PORT=${await freePort()}`];
  const install = (...args: string[]) => agentCommand(systemd, 'install', '--user', ...args);
  const device = async () =>
    (await (await fetch(`http://127.0.0.1:${port}/v1/device`)).json()) as { uuid: string };
  const show = async (property: string) => {
    await using shown = systemd.run(['--user', 'show', '--value', '-p', property, 'millrace-agent'], {
      command: 'systemctl',
    });
    await shown.ended();
    return shown.stdout.trim();
  };

  const first = await install(
    ...settings,
    `DOCKER_HOST=unix://${dir.path}/none.sock`,
    'JOIN_KEY=a "b" $c \\d',
  );
  expect(first).toMatchObject({ code: 0, stderr: '' });
  expect(first.stdout).toContain('the agent runs; its log: journalctl --user -u millrace-agent -f');
  const { uuid } = await until(() => device().catch(() => undefined));
  const file = join(systemd.home, '.config/millrace/agent.env');
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect(existsSync(join(systemd.home, '.local/state/millrace/logs'))).toBe(true);
  // What systemd made of the quotes, as the agent sees it.
  const pid = Number(await show('MainPID'));
  expect((await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0')).toContain('JOIN_KEY=a "b" $c \\d');

  process.kill(pid, 'SIGKILL');
  await until(async () => Number(await show('NRestarts')) === 1 && (await device().catch(() => undefined)));
  expect((await device()).uuid).toBe(uuid);

  // What was set stays; an empty value takes it away.
  expect((await install('LOG_LEVEL=warn', 'JOIN_KEY=')).code).toBe(0);
  const text = await readFile(file, 'utf8');
  expect(text).toContain(`DEVICE_API_PORT="${port}"`);
  expect(text).toContain('LOG_LEVEL="warn"');
  expect(text).not.toContain('JOIN_KEY');
  expect((await until(() => device().catch(() => undefined))).uuid).toBe(uuid);

  // A setting that only shows to be wrong when the agent starts.
  const failed = await install(`CLOUD_ENDPOINT=http://127.0.0.1:${await freePort()}`);
  expect(failed.code).toBe(1);
  expect(failed.stderr).toContain('SERVICE_FAILED');
  expect(failed.stderr).toContain('the agent does not stay up');

  const gone = await agentCommand(systemd, 'uninstall', '--user');
  expect(gone).toMatchObject({ code: 0, stdout: expect.stringContaining('--purge removes them') });
  await expect(device()).rejects.toThrow();
  expect(existsSync(file)).toBe(true);
  expect((await agentCommand(systemd, 'uninstall', '--user', '--purge')).stdout).toContain('was no service');
  expect(existsSync(file)).toBe(false);
  expect(existsSync(join(systemd.home, '.local/state/millrace'))).toBe(false);
}, 120_000);

/** Installs for a user whose home is a folder of the test, in this process. */
async function installAt(home: string, assignments: string[], options: InstallOptions = {}) {
  let printed = '';
  const stdout = { write: (text: string) => (printed += text) };
  const env = { HOME: home };
  await installAgent(assignments, { user: true, ...options }, { env, stdout });
  return printed;
}

describe('what is refused, before anything is written', () => {
  test.each<[string[], string, InstallOptions?]>([
    [['DATA_DIR'], 'OPTION_INVALID: "DATA_DIR" is not of the form NAME=value'],
    [['data-dir=/x'], 'OPTION_INVALID: "data-dir" is not of the form NAME=value'],
    [['CLUOD_ENDPOINT=https://x'], 'OPTION_INVALID: CLUOD_ENDPOINT is no setting of the agent'],
    [['MQTT_QOS=7', 'SYSLOG_PORT=x'], 'CONFIG_INVALID: SYSLOG_PORT="x": '],
    [['MQTT_PASSWORD=one\ntwo'], 'OPTION_INVALID: MQTT_PASSWORD: a value is one line of text'],
    [['DATA_DIR=data'], 'OPTION_INVALID: DATA_DIR: a service needs an absolute path'],
    [['DATA_DIR=/mnt/data'], 'OPTION_INVALID: DATA_DIR: ', { user: false, dryRun: true }],
    [[], 'SERVICE_FAILED: systemctl show --property=Version: '],
    [[], 'OPTION_INVALID: --settings: there is no file /nowhere.env', { settings: '/nowhere.env' }],
  ])('%j', async (assignments, reason, options) => {
    await using dir = await tempDir();
    await expect(installAt(dir.path, assignments, options)).rejects.toThrow(reason);
    expect(existsSync(join(dir.path, '.config'))).toBe(false);
  });

  test('a settings file that somebody wrote wrongly, with its line', async () => {
    await using dir = await tempDir();
    const folder = join(dir.path, '.config/millrace');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'agent.env'), '# mine\nLOG_LEVEL=warn\nexport X=1\n');
    await expect(installAt(dir.path, [])).rejects.toThrow(
      `${folder}/agent.env, line 3: not of the form NAME=value`,
    );
  });
});

test('a dry run prints unit and settings, without keys, and writes nothing', async () => {
  await using dir = await tempDir();
  const assignments = ['CLOUD_API_KEY=hidden-1', 'CLOUD_ENDPOINT=https://x:hidden-2@logs.example.com'];
  const printed = await installAt(dir.path, assignments, { dryRun: true });
  expect(printed).toContain('ExecStart=');
  expect(printed).toContain('CLOUD_API_KEY="***"');
  expect(printed).not.toContain('hidden');
  expect(existsSync(join(dir.path, '.config'))).toBe(false);
});

describe('the unit of the machine', () => {
  const options = {
    places: placesOf('system', {}),
    node: process.execPath,
    program: '/opt/mill race/100%/bin/$x',
    groups: [],
    dataDir: undefined,
  };

  test.each([
    ['with a user of its own', { asRoot: false }],
    ['as root, with data elsewhere', { asRoot: true, dataDir: '/mnt/data' }],
  ])('is one that systemd understands, %s', async (_, changes) => {
    await using dir = await tempDir();
    const path = join(dir.path, 'millrace-agent.service');
    // The verifier wants a program that exists.
    const program = join(dir.path, 'mill race 100%');
    await writeFile(program, '', { mode: 0o755 });
    await writeFile(path, unitText({ ...options, ...changes, program }));
    // It prints what it does not understand, and fails.
    expect(await outputOf('systemd-analyze', ['verify', '--man=no', path])).toBe('');
  });

  test('gives away little', async () => {
    await using dir = await tempDir();
    const path = join(dir.path, 'millrace-agent.service');
    await writeFile(path, unitText({ ...options, asRoot: false }));
    const judged = await outputOf('systemd-analyze', ['security', '--offline=yes', '--no-pager', path]);
    const exposure = Number(/exposure level for \S+: ([\d.]+)/.exec(judged)?.[1]);
    // systemd's own scale from 0 to 10; a unit that says nothing about it has 9.6.
    expect(exposure).toBeLessThan(4);
  });

  test('quotes what systemd would take for something else', () => {
    expect(unitText({ ...options, asRoot: false })).toContain(
      `ExecStart="${process.execPath}" "/opt/mill race/100%%/bin/$$x" agent`,
    );
  });
});
