import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort } from './ports.ts';
import { tempDir } from './tmp.ts';
import { until } from './wait.ts';

const java = '/usr/bin/java';
const jar = '/usr/share/java/zookeeper.jar';

/** Debian's package `libzookeeper-java` and a Java; the first is installed for the tests where the second is there. */
export const hasZooKeeper = existsSync(java) && existsSync(jar);

export interface ZooKeeper extends AsyncDisposable {
  readonly port: number;
}

/** A real ZooKeeper on a free port of 127.0.0.1, with files of its own. */
export async function startZooKeeper(): Promise<ZooKeeper> {
  await using starting = new AsyncDisposableStack();
  const dir = starting.use(await tempDir('millrace-zookeeper-'));
  const port = await freePort();
  const config = join(dir.path, 'zoo.cfg');
  const lines = ['tickTime=500', `dataDir=${dir.path}`, 'clientPortAddress=127.0.0.1', `clientPort=${port}`];
  await writeFile(config, `${[...lines, 'admin.enableServer=false'].join('\n')}\n`);
  const main = 'org.apache.zookeeper.server.quorum.QuorumPeerMain';
  // What lasts for seconds is not worth to be compiled well.
  const child = spawn(java, ['-Xmx64m', '-XX:TieredStopAtLevel=1', '-cp', jar, main, config], {
    stdio: 'ignore',
  });
  starting.defer(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  });
  await until(
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect({ host: '127.0.0.1', port }, () => {
          socket.destroy();
          resolve(true);
        });
        socket.on('error', () => resolve(false));
      }),
    { timeoutMs: 60_000, what: 'ZooKeeper to listen' },
  );
  const running = starting.move();
  return { port, [Symbol.asyncDispose]: () => running.disposeAsync() };
}
