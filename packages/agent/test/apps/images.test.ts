import { readFile, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { busyboxImage, startEngine, type TestEngine } from '../../../../tests/support/docker.ts';
import { startRegistry, type TestRegistry } from '../../../../tests/support/registry.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { service as serviceOf, TestApps } from './test-apps.ts';

/** On the machine's network: none has to be made for what is about images. */
const service = (name: string, fields: object = {}) => serviceOf(name, { networkMode: 'host', ...fields });

let engine: TestEngine;
let registry: TestRegistry;
beforeAll(async () => {
  [engine, registry] = await Promise.all([startEngine(), startRegistry({ isPrivate: true })]);
  await engine.buildBusybox();
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

/** A device of its own on the common engine; with a file of logins, which can be changed. */
async function startDevice(env: Record<string, string> = {}) {
  const parts = new AsyncDisposableStack();
  const dir = parts.use(await tempDir());
  const path = join(dir.path, 'config.json');
  const logins = (content: object | string) =>
    writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  await logins({ auths: { [registry.address]: { auth: registry.auth } } });
  const apps = parts.use(
    await TestApps.start(engine, join(dir.path, 'data'), { REGISTRY_AUTH_FILE: path, ...env }),
  );
  const images = async () => {
    const all = await engine.docker.listImages();
    return all.flatMap(({ RepoTags }) => RepoTags ?? []).filter((name) => name.startsWith(registry.address));
  };
  const remove = async (...ids: number[]) => {
    for (const id of ids) await apps.ask('DELETE', `/apps/${id}`);
    for (const id of ids) await apps.gone(id);
  };
  /** What is on record as pulled. */
  const pulled = async () => JSON.parse(await readFile(join(dir.path, 'data', 'apps.json'), 'utf8')).pulled;
  return { apps, logins, images, pulled, remove, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

test('an image is pulled with the login for its registry; until it is there, what runs goes on', async () => {
  // The pause before the next attempt is a random share of up to a minute.
  const random = vi.spyOn(Math, 'random').mockReturnValue(0.02);
  onTestFinished(() => random.mockRestore());
  await using device = await startDevice();
  const { apps } = device;
  const repository = `${registry.address}/shop/web`;
  await registry.push(engine, 'shop/web', ['1']);
  const imageName = `${repository}:2`;
  await apps.deploy(2001, [service('web'), service('db')]);
  const before = await apps.running(2001);
  await apps.deploy(2001, [service('web', { imageName }), service('db', { environment: { A: '1' } })]);
  const missing = await apps.until(2001, ({ services }) => services[0]?.error);
  expect(missing.services[0]).toMatchObject({ status: 'pulling', error: { code: 'IMAGE_MISSING' } });
  const old = before.services.map(({ containerId }) => containerId as string);
  for (const id of old) expect((await engine.docker.getContainer(id).inspect()).State.Running).toBe(true);

  await registry.tag('shop/web', '1', '2');
  const after = await apps.until(2001, ({ state }) => state === 'running');
  expect(after.services.map(({ containerId }) => containerId)).not.toContain(old[0]);
  expect(await apps.told()).toContain(`Pulled image ${imageName}`);
  await device.remove(2001);
});

test('a registry that refuses is named; the file of logins is read anew, and shown nowhere', async () => {
  await using device = await startDevice();
  const { apps, logins } = device;
  await registry.push(engine, 'private/web', ['1']);
  const services = [service('web', { imageName: `${registry.address}/private/web:1` })];
  const seen: string[] = [];
  const refused = async (content: object | string) => {
    await logins(content);
    // Asked for anew, so that no test waits for the next attempt.
    await apps.ask('DELETE', '/apps/2002');
    await apps.gone(2002);
    await apps.deploy(2002, services);
    const app = await apps.until(2002, ({ services: [web] }) => web?.error);
    seen.push(JSON.stringify(app));
    const { code, detail } = app.services[0]?.error ?? {};
    return `${code} ${detail}`;
  };
  await apps.deploy(2002, services);
  await apps.running(2002);
  const auth = Buffer.from('shop:wrong-s3cret').toString('base64');
  expect(await refused({ auths: { [registry.address]: { auth } } })).toContain(
    `REGISTRY_REFUSED ${registry.address}/private/web:1: the registry refused the login for ${registry.address}: `,
  );
  expect(await refused({ auths: { 'ghcr.io': { auth } } })).toContain(
    `REGISTRY_REFUSED ${registry.address}/private/web:1: the registry wants a login for ${registry.address}: `,
  );
  expect(await refused({ auths: { [registry.address]: {} }, credsStore: 'pass' })).toMatch(
    /^LOGINS_UNUSABLE REGISTRY_AUTH_FILE="\S+" holds no login at \S+: it is in the program pass \(credsStore\)$/,
  );
  expect(await refused(`{"auths":{"x":{"auth":"${auth}"}`)).toMatch(
    /^LOGINS_UNUSABLE .*config.json" is not JSON$/,
  );
  // Found out by itself, without another word.
  await logins({ auths: { [`http://${registry.address}/v1/`]: registry.login } });
  await apps.running(2002);
  const everything = seen.join() + JSON.stringify(await apps.ask('GET', '/logs?limit=5000'));
  for (const secret of [registry.login.password, registry.auth, 'wrong-s3cret', auth]) {
    expect(everything).not.toContain(secret);
  }
  await device.remove(2002);
});

test('images that only the release before used go when that is gone for good; shared ones and strangers stay', async () => {
  await using device = await startDevice();
  const { apps, images } = device;
  const image = (name: string) => `${registry.address}/old/${name}`;
  await registry.push(engine, 'old/web', ['1', '2', '3']);
  for (const name of ['shared', 'used', 'brought']) await registry.push(engine, `old/${name}`, ['1']);
  const web = (tag: string, more: object = {}) => service('web', { imageName: image(`web:${tag}`), ...more });
  const shared = service('shared', { imageName: image('shared:1') });
  const used = service('used', { imageName: image('used:1') });
  const brought = service('brought', { imageName: image('brought:1') });
  const pull = await engine.docker.pull(image('brought:1'), { authconfig: registry.login });
  await new Promise((done) => {
    engine.docker.modem.followProgress(pull, done);
  });

  await apps.deploy(2003, [web('1'), shared, used, brought]);
  await apps.deploy(2004, [shared]);
  await apps.running(2003);
  await apps.running(2004);
  const stranger = await engine.docker.createContainer({ Image: image('used:1'), Cmd: ['true'] });
  // A release that is rolled back takes its own image along, and not that of the one before.
  await apps.deploy(2003, [web('2', { healthcheck: { test: 'false', interval: '100ms', retries: 1 } })]);
  await apps.until(2003, ({ state }) => state === 'rolled-back');
  const names = (...list: string[]) => list.map(image).sort();
  const become = (...list: string[]) =>
    until(async () => String((await images()).sort()) === String(names(...list)), {
      timeoutMs: 20_000,
      what: `${names(...list)} to be what is left`,
    });
  await become('web:1', 'shared:1', 'used:1', 'brought:1');
  expect(await apps.told()).toContain(`Removing image ${image('web:2')}`);

  await apps.deploy(2003, [web('3')]);
  await apps.until(2003, ({ state, release }) => state === 'running' && release === 3);
  await become('web:3', 'shared:1', 'used:1', 'brought:1');
  await device.remove(2003);
  await become('shared:1', 'used:1', 'brought:1');
  await stranger.remove();
  // What somebody else puts under the name of one that we pulled is not ours.
  await engine.docker.getImage(busyboxImage).tag({ repo: image('shared'), tag: '1' });
  await device.remove(2004);
  await become('shared:1', 'brought:1');
  for (const name of ['shared:1', 'brought:1']) await engine.docker.getImage(image(name)).remove();
});

test('an image that could not be pulled, and came by other means, is not taken for ours', async () => {
  await using device = await startDevice();
  const { apps, images } = device;
  const imageName = `${registry.address}/late/web:1`;
  await apps.deploy(2007, [service('web', { imageName })]);
  await apps.until(2007, ({ services: [web] }) => web?.error?.code === 'IMAGE_MISSING');
  await engine.docker.getImage(busyboxImage).tag({ repo: `${registry.address}/late/web`, tag: '1' });
  await apps.running(2007);
  expect(await device.pulled()).toEqual([]);
  await device.remove(2007);
  expect(await images()).toEqual([imageName]);
  await engine.docker.getImage(imageName).remove();
});

test('old images stay when the settings say so', async () => {
  await using device = await startDevice({ APPS_KEEP_IMAGES: 'true' });
  const { apps, images } = device;
  const imageName = `${registry.address}/kept/web:1`;
  await registry.push(engine, 'kept/web', ['1']);
  await apps.deploy(2005, [service('web', { imageName })]);
  await apps.running(2005);
  await apps.deploy(2005, [service('web')]);
  await apps.until(2005, ({ state, release }) => state === 'running' && release === 2);
  await device.remove(2005);
  expect(await images()).toContain(imageName);
  await engine.docker.getImage(imageName).remove();
});

test('how far a download is shows while it goes on; when the engine dies in the middle of it, it is begun anew', async () => {
  const goOn = Promise.withResolvers<void>();
  // The registry over a slow line, which stops in the middle of a layer.
  const relay = createServer((incoming, outgoing) => {
    const { method, url, headers } = incoming;
    request(`http://${registry.address}${url}`, { method, headers }, async (answer) => {
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      let bytes = 0;
      for await (const chunk of answer as AsyncIterable<Buffer>) {
        // The engine tells of its progress ten times a second at most: at once it would come to nothing.
        if (bytes > 0) await pause(20);
        if (bytes < 1_500_000 && bytes + chunk.length >= 1_500_000) await goOn.promise;
        bytes += chunk.length;
        outgoing.write(chunk);
      }
      outgoing.end();
    }).end();
  });
  await new Promise<void>((done) => relay.listen(0, '127.0.0.1', done));
  await using _closed = {
    async [Symbol.asyncDispose]() {
      relay.closeAllConnections();
      await new Promise((done) => relay.close(done));
    },
  };
  const address = `127.0.0.1:${(relay.address() as AddressInfo).port}`;
  await using device = await startDevice();
  const { apps, logins } = device;
  await registry.push(engine, 'slow/web', ['1'], 3_000_000);
  await logins({ auths: { [address]: { auth: registry.auth } } });
  const imageName = `${address}/slow/web:1`;
  await apps.deploy(2006, [service('web', { imageName })]);
  const app = await apps.until(2006, ({ services: [web] }) => (web?.downloadProgress ?? 0) > 20);
  expect(app).toMatchObject({ state: 'deploying', services: [{ status: 'pulling' }] });
  expect(app.services[0]?.downloadProgress).toBeLessThan(80);
  await engine.kill();
  await apps.until(2006, ({ error }) => error?.code === 'ENGINE_UNREACHABLE');
  goOn.resolve();
  await engine.start();
  await apps.running(2006);
  await device.remove(2006);
  const left = () =>
    engine.docker
      .getImage(imageName)
      .inspect()
      .catch(() => undefined);
  await until(async () => !(await left()), { what: 'the image that was pulled in the end to be removed' });
});
