import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startDaemon, stopDaemon } from './docker-processes.ts';
import { freePort } from './ports.ts';
import { tempDir } from './tmp.ts';
import { until } from './wait.ts';

/** A private image registry on loopback, which engines use without TLS. */
export interface TestRegistry extends AsyncDisposable {
  /** What the names of its images begin with. */
  readonly address: string;
  /** Gives an image that is there one more tag. */
  tag(repository: string, from: string, to: string): Promise<void>;
}

/** Needs Debian's package docker-registry. */
export async function startRegistry(): Promise<TestRegistry> {
  await using started = new AsyncDisposableStack();
  const dir = started.use(await tempDir('millrace-registry-'));
  const address = `127.0.0.1:${await freePort()}`;
  const config = [
    'version: 0.1',
    'log: { level: error }',
    `storage: { filesystem: { rootdirectory: ${join(dir.path, 'data')} } }`,
    `http: { addr: '${address}' }`,
  ];
  await writeFile(join(dir.path, 'config.yml'), config.join('\n'));
  const daemon = startDaemon(
    'docker-registry',
    ['serve', join(dir.path, 'config.yml')],
    join(dir.path, 'registry.log'),
  );
  started.defer(() => stopDaemon(daemon, 2_000));
  const answers = () =>
    fetch(`http://${address}/v2/`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until(answers, { what: 'the registry to answer' });
  const parts = started.move();
  const tag = async (repository: string, from: string, to: string) => {
    const manifests = `http://${address}/v2/${repository}/manifests`;
    const type = 'application/vnd.docker.distribution.manifest.v2+json';
    const found = await fetch(`${manifests}/${from}`, { headers: { accept: type } });
    const put = { method: 'PUT', body: await found.text(), headers: { 'content-type': type } };
    const { ok, status } = await fetch(`${manifests}/${to}`, put);
    if (!ok) throw new Error(`the registry answered ${status}`);
  };
  return { address, tag, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}
