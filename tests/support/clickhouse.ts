import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, rename, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from './ports.ts';
import { memoryDir } from './tmp.ts';
import { until } from './wait.ts';

const run = promisify(execFile);

/**
 * A real ClickHouse server out of the embedded library: its C entry point runs a `clickhouse local` command line,
 * and that can listen. It must run on a main thread, hence a program of its own.
 */
const program = `
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
  void *library = dlopen(argv[1], RTLD_NOW);
  if (!library) { fprintf(stderr, "%s\\n", dlerror()); return 1; }
  void *(*query)(int, char **) = (void *(*)(int, char **))dlsym(library, "query_stable_v2");
  if (!query) { fprintf(stderr, "%s\\n", dlerror()); return 1; }
  argv[1] = "clickhouse";
  query(argc - 1, argv + 1);
  return 0;
}
`;

export interface ClickHouseServer extends AsyncDisposable {
  url: string;
  /** Ends the process at once, as a power cut would. */
  kill(): Promise<void>;
  /** Starts it again on the same data and port. */
  start(): Promise<void>;
  /** Sends a signal and waits for nothing. */
  signal(name: NodeJS.Signals): void;
}

/** How a server knows the others: the TCP port of each is the one replica of a shard. */
interface ClusterPlan {
  name: string;
  tcpPorts: readonly number[];
  /** Which of them this one is. */
  own: number;
}

export interface ClickHouseCluster extends AsyncDisposable {
  name: string;
  /** One of each shard, in the shards' order. */
  servers: readonly ClickHouseServer[];
  /** All their addresses, separated by commas. */
  url: string;
}

/** Starts servers that know each other as the shards of a cluster. */
export async function startClickHouseCluster(shards = 3, name = 'fleet'): Promise<ClickHouseCluster> {
  await using starting = new AsyncDisposableStack();
  const tcpPorts: number[] = [];
  for (let i = 0; i < shards; i++) tcpPorts.push(await freePort());
  const started = await Promise.allSettled(
    tcpPorts.map((_, own) => startClickHouse({ name, tcpPorts, own })),
  );
  const servers: ClickHouseServer[] = [];
  for (const one of started) if (one.status === 'fulfilled') servers.push(starting.use(one.value));
  for (const one of started) if (one.status === 'rejected') throw one.reason;
  const running = starting.move();
  return {
    name,
    servers,
    url: servers.map(({ url }) => url).join(','),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** Starts a ClickHouse server on loopback, with HTTP; in a cluster with TCP as well. Needs gcc, once. */
export async function startClickHouse(cluster?: ClusterPlan): Promise<ClickHouseServer> {
  const require = createRequire(import.meta.url);
  const platform = `@chdb/lib-${process.platform}-${process.arch}${process.platform === 'linux' ? '-gnu' : ''}`;
  const library = join(dirname(require.resolve(`${platform}/package.json`)), 'libchdb.so');
  const binary = await compiled();
  const dir = await memoryDir();
  const config = join(dir.path, 'config.xml');
  await writeFile(
    config,
    `<clickhouse>
  <mark_cache_size>67108864</mark_cache_size>
  <max_server_memory_usage>2000000000</max_server_memory_usage>
  <!-- Otherwise it counts what all programs beside it take as its own, and refuses queries for it. -->
  <memory_worker_use_cgroup>0</memory_worker_use_cgroup>
  <users><default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></default></users>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
${cluster ? remoteServers(cluster) : ''}</clickhouse>
`,
  );
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let child: ChildProcess | undefined;

  const start = async () => {
    const output: string[] = [];
    const started = spawn(
      binary,
      [
        library,
        `--config-file=${config}`,
        `--path=${join(dir.path, 'data')}`,
        `--http_port=${port}`,
        ...(cluster ? [`--tcp_port=${cluster.tcpPorts[cluster.own]}`] : []),
        '--listen_host=127.0.0.1',
        // It serves for as long as this query runs; without the setting such a sleep is refused.
        `--query=SYSTEM START LISTEN HTTP; ${cluster ? 'SYSTEM START LISTEN TCP; ' : ''}SELECT sleepEachRow(3) FROM system.numbers FORMAT Null SETTINGS max_block_size=1, function_sleep_max_microseconds_per_block=0`,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    started.stdout?.on('data', (data) => output.push(String(data)));
    started.stderr?.on('data', (data) => output.push(String(data)));
    child = started;
    await until(
      async () => {
        if (started.exitCode !== null) throw new Error(`ClickHouse ended: ${output.join('')}`);
        const answer = await fetch(`${url}/ping`).catch(() => undefined);
        return answer?.ok;
      },
      { what: () => `ClickHouse to answer on ${url}: ${output.join('')}` },
    );
  };
  const kill = async () => {
    const running = child;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    // It ignores SIGTERM.
    running.kill('SIGKILL');
    await ended;
  };
  try {
    await start();
  } catch (error) {
    await kill();
    await dir[Symbol.asyncDispose]();
    throw error;
  }
  return {
    url,
    kill,
    start,
    signal: (name) => void child?.kill(name),
    [Symbol.asyncDispose]: async () => {
      await kill();
      await dir[Symbol.asyncDispose]();
    },
  };
}

function remoteServers({ name, tcpPorts }: ClusterPlan): string {
  const shards = tcpPorts.map(
    (port) =>
      `<shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>${port}</port></replica></shard>`,
  );
  return `  <remote_servers><${name}>${shards.join('')}</${name}></remote_servers>
`;
}

let compiling: Promise<string> | undefined;

/** The servers of a cluster start at once, and one of them makes it for all. */
function compiled(): Promise<string> {
  compiling ??= compile();
  return compiling;
}

/** Compiles the program, once per version of it. */
async function compile(): Promise<string> {
  const cache = join(import.meta.dirname, '../../node_modules/.cache/millrace');
  const name = `clickhouse-${createHash('sha256').update(program).digest('hex').slice(0, 12)}`;
  const binary = join(cache, name);
  if (await exists(binary)) return binary;
  await mkdir(cache, { recursive: true });
  const source = join(cache, `${name}-${process.pid}.c`);
  await writeFile(source, program);
  const mine = `${binary}-${process.pid}`;
  try {
    await run('gcc', ['-O1', '-o', mine, source, '-ldl']);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new Error(
      missing
        ? 'these tests run a real ClickHouse server, whose starter is compiled with gcc: install it (Debian: apt-get install gcc libc6-dev)'
        : `gcc failed: ${(error as Error).message}`,
      { cause: error },
    );
  }
  // Several test files may do this at once.
  await rename(mine, binary);
  return binary;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
