import { execFile } from 'node:child_process';
import { appendFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LogMessage } from '@millrace/wire';
import { expect, test } from 'vitest';
import { JournalFolder } from '../../../../tests/support/journal-files.ts';
import { captureLog } from '../../../../tests/support/log.ts';
import { freePort } from '../../../../tests/support/ports.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { type Agent, startAgent } from '../../src/main.ts';

const run = promisify(execFile);

async function linesOf(agent: Agent): Promise<string[]> {
  const response = await fetch(`${agent.deviceApiUrl}/v1/logs?limit=1000`);
  const { logs } = (await response.json()) as { logs: LogMessage[] };
  return logs
    .filter(({ source }) => source.type === 'system')
    .map(({ serviceName, message }) => `${serviceName}: ${message}`)
    .sort();
}

test('an agent reads what its settings ask for, and goes on after a restart: each line once', async () => {
  await using dir = await tempDir();
  const journal = new JournalFolder(join(dir.path, 'journal'));
  const file = join(dir.path, 'log', 'till.log');
  await mkdir(join(dir.path, 'log'));
  await writeFile(file, 'one\n');
  await journal.write([{ MESSAGE: 'one', SYSLOG_IDENTIFIER: 'sshd' }]);
  const env = {
    DATA_DIR: join(dir.path, 'data'),
    DOCKER_HOST: `unix://${dir.path}/no.sock`,
    DEVICE_API_PORT: '0',
    API_PORT: '0',
    JOURNALD: 'on',
    JOURNALD_DIR: journal.path,
    SYSLOG_PORT: String(await freePort()),
    LOG_FILES: `${dir.path}/log/*.log`,
  };
  const send = (text: string) =>
    run('logger', ['--server', '127.0.0.1', '--port', env.SYSLOG_PORT, '--tcp', '--tag', 'shop', text]);
  const { log } = captureLog();
  {
    await using agent = await startAgent({ env, log });
    await send('one');
    const expected = ['shop: one', 'sshd: one', 'till: one'];
    await until(async () => (await linesOf(agent)).length === expected.length);
    expect(await linesOf(agent)).toEqual(expected);
    const device = (await (await fetch(`${agent.deviceApiUrl}/v1/device`)).json()) as Agent['state'];
    expect(device.sources).toEqual({
      journald: { connected: true, lines: 1 },
      syslog: { connected: true, lines: 1, dropped: 0, detail: `127.0.0.1:${env.SYSLOG_PORT} (UDP, TCP)` },
      files: { connected: true, lines: 1, detail: '1 file' },
    });
  }
  await journal.write([{ MESSAGE: 'two', SYSLOG_IDENTIFIER: 'sshd' }]);
  await appendFile(file, 'two\n');
  await using agent = await startAgent({ env, log });
  await send('two');
  const expected = ['shop: one', 'shop: two', 'sshd: one', 'sshd: two', 'till: one', 'till: two'];
  await until(async () => (await linesOf(agent)).length >= expected.length);
  expect(await linesOf(agent)).toEqual(expected);
});

test('an agent that is not asked reads nothing besides containers', async () => {
  await using dir = await tempDir();
  const env = {
    DATA_DIR: dir.path,
    DOCKER_HOST: `unix://${dir.path}/no.sock`,
    DEVICE_API_PORT: '0',
    API_PORT: '0',
  };
  await using agent = await startAgent({ env, log: captureLog().log });
  expect(agent.state.sources).toEqual({});
});
