import { readdir, readFile, writeFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { startAgent } from '../../src/main.ts';

test('a wrong shaping file stops the start; a right one is in force, and a wrong change is refused', async () => {
  await using dir = await tempDir('millrace-shaping-');
  const path = `${dir.path}/shaping.yaml`;
  const env = {
    DATA_DIR: `${dir.path}/data`,
    SHAPING_FILE: path,
    DOCKER_HOST: `unix://${dir.path}/none.sock`,
    DEVICE_API_PORT: '0',
    API_PORT: '0',
  };
  const logged: string[] = [];
  const log = pino({ level: 'info' }, { write: (line) => void logged.push(line) });
  await writeFile(path, 'rules:\n  - minLevel: loud\n');
  await expect(startAgent({ env, log })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    detail: expect.stringContaining('line 2: rules.0.minLevel: must be one of'),
  });
  await writeFile(path, 'rules:\n  - minLevel: warn\n');
  await using agent = await startAgent({ env, log });
  const { dropped } = (await (await fetch(`${agent.deviceApiUrl}/v1/device`)).json()) as { dropped: unknown };
  expect(dropped).toEqual({ level: 0, pattern: 0, repeat: 0, rate: 0 });
  await writeFile(path, 'rules:\n\n  - drop: ["(x"]\n');
  const refused = await until(() => logged.find((line) => line.includes('refused')));
  expect(refused).toContain('line 3: rules.0.drop.0: error parsing regexp: missing closing )');
  await writeFile(path, 'rules: []\n');
  await until(() => logged.some((line) => line.includes('was read again')));
});

test('what comes from files is classified and redacted, too: a secret is on no disk', async () => {
  await using dir = await tempDir('millrace-shaping-');
  const path = `${dir.path}/shaping.yaml`;
  await writeFile(path, 'rules:\n  - redact: [email]\n');
  const file = `${dir.path}/app.log`;
  await writeFile(file, 'WARN mail ann@example.com\n');
  const data = `${dir.path}/data`;
  await using agent = await startAgent({
    env: {
      DATA_DIR: data,
      SHAPING_FILE: path,
      LOG_FILES: `app=${file}`,
      DOCKER_HOST: `unix://${dir.path}/none.sock`,
      DEVICE_API_PORT: '0',
      API_PORT: '0',
    },
    log: pino({ level: 'silent' }),
  });
  const logs = async () => {
    const answer = await fetch(`${agent.deviceApiUrl}/v1/logs?serviceName=app`);
    return ((await answer.json()) as { logs: { message: string; level: string }[] }).logs;
  };
  await until(async () => (await logs()).length > 0);
  expect(await logs()).toMatchObject([{ message: 'WARN mail [email]', level: 'warn' }]);
  await agent.stop();
  const names = await readdir(`${data}/logs`);
  const stored = await Promise.all(names.map((name) => readFile(`${data}/logs/${name}`)));
  const text = stored.map((bytes) => gunzipSync(bytes).toString()).join('');
  expect(text).toContain('[email]');
  expect(text).not.toContain('example.com');
});
