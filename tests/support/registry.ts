import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestEngine } from './docker.ts';
import { startDaemon, stopDaemon } from './docker-processes.ts';
import { freePort } from './ports.ts';
import { tempDir } from './tmp.ts';
import { until } from './wait.ts';

/** A private image registry on loopback, which engines use without TLS. */
export interface TestRegistry extends AsyncDisposable {
  /** What the names of its images begin with. */
  readonly address: string;
  /** Of one that wants a login: as dockerode's `authconfig`, and as `auth` in Docker's config.json. */
  readonly login: { username: string; password: string };
  readonly auth: string;
  /**
   * Pushes images, each with a layer of so many bytes that no other has, so that pulling it takes a download. Resolves
   * when the engine has them no longer.
   */
  push(engine: TestEngine, repository: string, tags: readonly string[], bytes?: number): Promise<void>;
  /** Gives an image that is there one more tag. */
  tag(repository: string, from: string, to: string): Promise<void>;
}

// With its hash (bcrypt, as htpasswd makes it): nothing here makes one.
const login = { username: 'shop', password: 's3cret-of-the-shop' };
const htpasswd = 'shop:$2b$04$0J7oNFPYZLqdGEJ/fPL.fOt7F4qP8IyH9RxY95Esq6BqnyVR3U77O\n';

/** Needs Debian's package docker-registry. */
export async function startRegistry({ isPrivate = false } = {}): Promise<TestRegistry> {
  await using started = new AsyncDisposableStack();
  const dir = started.use(await tempDir('millrace-registry-'));
  const address = `127.0.0.1:${await freePort()}`;
  const config = [
    'version: 0.1',
    'log: { level: error }',
    `storage: { filesystem: { rootdirectory: ${join(dir.path, 'data')} } }`,
    `http: { addr: '${address}' }`,
    ...(isPrivate ? [`auth: { htpasswd: { realm: shop, path: ${join(dir.path, 'htpasswd')} } }`] : []),
  ];
  await writeFile(join(dir.path, 'htpasswd'), htpasswd);
  await writeFile(join(dir.path, 'config.yml'), config.join('\n'));
  const daemon = startDaemon(
    'docker-registry',
    ['serve', join(dir.path, 'config.yml')],
    join(dir.path, 'registry.log'),
  );
  started.defer(() => stopDaemon(daemon, 2_000));
  const auth = Buffer.from(`${login.username}:${login.password}`).toString('base64');
  const authorization = `Basic ${auth}`;
  const answers = () =>
    fetch(`http://${address}/v2/`, { headers: { authorization } }).then(
      ({ ok }) => ok,
      () => false,
    );
  await until(answers, { what: 'the registry to answer' });
  const parts = started.move();
  const tag = async (repository: string, from: string, to: string) => {
    const manifests = `http://${address}/v2/${repository}/manifests`;
    const type = 'application/vnd.docker.distribution.manifest.v2+json';
    const found = await fetch(`${manifests}/${from}`, { headers: { accept: type, authorization } });
    const put = { method: 'PUT', body: await found.text(), headers: { 'content-type': type, authorization } };
    const { ok, status } = await fetch(`${manifests}/${to}`, put);
    if (!ok) throw new Error(`the registry answered ${status}`);
  };
  const push = async (engine: TestEngine, repository: string, tags: readonly string[], bytes = 1000) => {
    const { docker } = engine;
    const repo = `${address}/${repository}`;
    for (const tag of tags) {
      const made = await engine.run({ cmd: ['sh', '-c', `head -c ${bytes} /dev/urandom > /blob`] });
      await made.wait();
      await made.commit({ repo, tag });
      await made.remove();
      const image = docker.getImage(`${repo}:${tag}`);
      const progress = await image.push({ authconfig: { ...login, serveraddress: address } });
      await new Promise<void>((done, failed) => {
        docker.modem.followProgress(progress, (error: Error | null) => (error ? failed(error) : done()));
      });
      await image.remove();
    }
  };
  return { address, push, login, auth, tag, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}
