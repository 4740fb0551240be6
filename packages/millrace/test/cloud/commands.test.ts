import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import pino from 'pino';
import { expect, test } from 'vitest';
import { freePort } from '../../../../tests/support/ports.ts';
import { startTestCloud } from '../../../cloud/test/support/cloud.ts';
import { backUp, check, restoreFrom } from '../../src/cloud/commands.ts';

function printed() {
  let text = '';
  const stdout = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  return { stdout, text: () => text };
}

test('a backup is made by the cloud that runs, or without one, and is restored', {
  timeout: 180_000,
}, async () => {
  await using cloud = await startTestCloud();
  const port = await freePort();
  const log = pino({ level: 'silent' });
  const run = async (
    env: Record<string, string>,
    command: (context: Parameters<typeof check>[1]) => Promise<unknown>,
  ) => {
    const { stdout, text } = printed();
    const result = await command({ env: { DATA_DIR: cloud.dataDir, ...env }, stdout, log });
    return { result, text: text() };
  };
  const running = { CLOUD_PORT: String(cloud.cloud.httpPort) };
  const byCloud = await run(running, (context) => backUp({}, context));
  expect(byCloud.text).toMatch(/backups\/\d{4}-\d\d-\d\dT\d{6}Z: 0 lines and the records\n$/);
  await expect(
    run({}, (context) => backUp({ url: `http://127.0.0.1:${port}` }, context)),
  ).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
  const checked = await run({ ...running, CLOUD_HOST: '127.0.0.1' }, (context) => check(false, context));
  expect(checked.result).toBe(true);
  expect(checked.text).toMatch(/^ok {7}running cloud: store {3,}works$/m);

  await cloud.cloud.stop();
  const stopped = { CLOUD_PORT: String(port), CLOUD_HOST: '127.0.0.1', MQTT_PORT: '0', MQTT_WS_PORT: '0' };
  const offline = await run(stopped, (context) => backUp({ json: true }, context));
  const { path } = JSON.parse(offline.text) as { path: string };
  await access(join(path, 'backup.json'));
  const target = join(cloud.dataDir, 'elsewhere');
  const restored = await run({ ...stopped, DATA_DIR: target }, (context) => restoreFrom(path, context));
  expect(restored.text).toMatch(/elsewhere: 0 lines and the records, as of \d{4}-/);
  await access(join(target, 'store'));

  const failing = await run({ ...stopped, DATABASE_URL: 'postgres://127.0.0.1:9/x' }, (context) =>
    check(true, context),
  );
  expect(failing.result).toBe(false);
  expect(JSON.parse(failing.text)).toContainEqual(
    expect.objectContaining({ part: 'records', state: 'failed' }),
  );
});
