import { createServer, request } from 'node:http';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startEngine } from '../../../../tests/support/docker.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { service, TestApps } from './test-apps.ts';

test('a look at the engine that began before a step had ended does not lead to the same step again', async () => {
  await using engine = await startEngine();
  await engine.buildBusybox();
  await using dir = await tempDir();
  const socketPath = join(dir.path, 'engine.sock');
  // The stop is let through when a look has shown the container running; the rest of that look, when it has stopped.
  const asked = Promise.withResolvers<void>();
  const looked = Promise.withResolvers<void>();
  const stopped = Promise.withResolvers<void>();
  let isStopping = false;
  const server = createServer(async (incoming, outgoing) => {
    const { method, url = '', headers } = incoming;
    const isStop = /\/stop\b/.test(url);
    if (isStop) {
      isStopping = true;
      asked.resolve();
      await looked.promise;
    }
    const forwarded = request(
      { socketPath: engine.socketPath, method, path: url, headers },
      async (answer) => {
        if (isStopping && url.startsWith('/volumes')) await stopped.promise;
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        outgoing.flushHeaders();
        answer.pipe(outgoing).once('finish', () => {
          if (isStopping && /^\/containers\/\w+\/json/.test(url)) looked.resolve();
          if (isStop) setTimeout(() => stopped.resolve(), 100);
        });
      },
    );
    forwarded.on('error', () => outgoing.destroy());
    outgoing.once('close', () => forwarded.destroy());
    incoming.pipe(forwarded);
  });
  await new Promise<void>((done) => server.listen(socketPath, done));
  await using _closed = {
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
  await using apps = await TestApps.start(engine, join(dir.path, 'data'), {
    DOCKER_HOST: `unix://${socketPath}`,
  });
  await apps.deploy(1, [service('web')]);
  await apps.running(1);
  await apps.ask('POST', '/apps/1/services/web/stop');
  await asked.promise;
  // Has the engine looked at.
  await apps.deploy(2, [service('other')]);
  await apps.running(2);
  const stops = (await apps.told()).filter((line) => line.startsWith('Stopping service web'));
  expect(stops).toHaveLength(1);
  for (const id of [1, 2]) await apps.ask('DELETE', `/apps/${id}`);
  for (const id of [1, 2]) await apps.gone(id);
});
