import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { isAlive } from './alive.ts';
import {
  type Daemon,
  killProcessesOf,
  outputOf,
  removeShimSockets,
  removeTree,
  startDaemon,
  stopDaemon,
  streamOf,
} from './docker-processes.ts';
import { until } from './wait.ts';

/** The image that {@link TestEngine.buildBusybox} makes: busybox and its applets, nothing else. */
export const busyboxImage = 'millrace-test/busybox';

const folderPrefix = 'millrace-engine-';

export interface EngineOptions {
  /** Containers go on while dockerd is down, instead of being stopped with it. Default false. */
  liveRestore?: boolean;
  /** Listens on this TCP port of loopback too, without TLS. */
  tcpPort?: number;
}

export interface RunOptions {
  name?: string;
  /** The command, for example `['sh', '-c', 'echo hello']`. */
  cmd: string[];
  tty?: boolean;
  labels?: Record<string, string>;
  env?: Record<string, string>;
  /** Removed by the engine when it ends, as `docker run --rm` does. */
  autoRemove?: boolean;
  /** `json-file` (the default), `local`, `none` … */
  logDriver?: string;
  logOptions?: Record<string, string>;
  restart?: 'no' | 'always' | 'on-failure';
  /** How long it may take to end in order. Default 1: a shell as process 1 ignores SIGTERM and would take it all. */
  stopTimeoutS?: number;
}

/** A private Docker engine, with its own containerd, data, network settings and socket. */
export interface TestEngine extends AsyncDisposable {
  /** Path of the engine's socket. */
  readonly socketPath: string;
  /** For `DOCKER_HOST`. */
  readonly host: string;
  readonly docker: Docker;
  /** Imports the image {@link busyboxImage}; done by {@link TestEngine.run} when needed. */
  buildBusybox(): Promise<void>;
  /** Creates and starts a container of {@link busyboxImage}, on the machine's network. */
  run(options: RunOptions): Promise<Docker.Container>;
  /** Creates a container without starting it. */
  create(options: RunOptions): Promise<Docker.Container>;
  /** Removes all containers, for tests that share an engine and each want it empty. */
  clear(): Promise<void>;
  /** Stops dockerd in order (its containers too, unless `liveRestore`), and starts it again. */
  restart(): Promise<void>;
  /** Stops dockerd in order. */
  stop(): Promise<void>;
  /** Ends dockerd with SIGKILL. containerd and the containers live on. */
  kill(): Promise<void>;
  /** Starts dockerd after {@link TestEngine.stop} or {@link TestEngine.kill}. */
  start(): Promise<void>;
  /** Sends dockerd a signal: SIGSTOP makes an engine that accepts connections but never answers. */
  signal(name: NodeJS.Signals): void;
}

/**
 * Starts a private engine in a second or so; needs root, dockerd, containerd and a static busybox. Several may
 * run side by side. Everything it made (containers, mounts, processes, folders) is gone after its disposal.
 */
export async function startEngine(options: EngineOptions = {}): Promise<TestEngine> {
  await sweepStale();
  const root = await mkdtemp(join(tmpdir(), folderPrefix));
  const engine = new PrivateEngine(root, options);
  try {
    await engine.start();
  } catch (error) {
    await engine[Symbol.asyncDispose]();
    throw error;
  }
  return engine;
}

class PrivateEngine implements TestEngine {
  readonly socketPath: string;
  readonly host: string;
  readonly docker: Docker;
  private readonly root: string;
  private readonly options: EngineOptions;
  private containerd: Daemon | undefined;
  private dockerd: Daemon | undefined;
  private image: Promise<void> | undefined;

  constructor(root: string, options: EngineOptions) {
    this.root = root;
    this.options = options;
    this.socketPath = join(root, 'docker.sock');
    this.host = `unix://${this.socketPath}`;
    this.docker = new Docker({ socketPath: this.socketPath });
  }

  async start(): Promise<void> {
    if (!this.containerd?.isRunning()) await this.startContainerd();
    // The pid in a file that SIGKILL left behind may by now belong to somebody else.
    await rm(join(this.root, 'docker.pid'), { force: true });
    const daemon = startDaemon('dockerd', this.dockerdArguments(), join(this.root, 'dockerd.log'));
    this.dockerd = daemon;
    await this.answering('dockerd', daemon, async () => {
      await this.docker.ping();
      return true;
    });
  }

  async buildBusybox(): Promise<void> {
    this.image ??= this.importBusybox();
    await this.image;
  }

  async create(options: RunOptions): Promise<Docker.Container> {
    await this.buildBusybox();
    return this.docker.createContainer({
      name: options.name,
      Image: busyboxImage,
      Cmd: options.cmd,
      Tty: options.tty ?? false,
      Labels: options.labels,
      Env: Object.entries(options.env ?? {}).map(([key, value]) => `${key}=${value}`),
      StopTimeout: options.stopTimeoutS ?? 1,
      HostConfig: {
        // None of its own: for each of those the engine runs itself once more, half of what a short container costs.
        NetworkMode: 'host',
        AutoRemove: options.autoRemove ?? false,
        LogConfig: { Type: options.logDriver ?? 'json-file', Config: options.logOptions ?? {} },
        RestartPolicy: { Name: options.restart ?? 'no' },
      },
    });
  }

  async run(options: RunOptions): Promise<Docker.Container> {
    const container = await this.create(options);
    await container.start();
    return container;
  }

  async clear(): Promise<void> {
    const all = await this.docker.listContainers({ all: true });
    await Promise.all(all.map(({ Id }) => this.docker.getContainer(Id).remove({ force: true, v: true })));
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async stop(): Promise<void> {
    if (this.dockerd) await stopDaemon(this.dockerd, 15_000);
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.dockerd?.exited;
  }

  signal(name: NodeJS.Signals): void {
    this.dockerd?.signal(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Killing the containers first spares dockerd their stop timeouts; when dockerd is down, the shims are found below.
    if (this.dockerd?.isRunning()) {
      this.dockerd.signal('SIGCONT');
      const running = await this.docker.listContainers().catch(() => []);
      await Promise.allSettled(running.map(({ Id }) => this.docker.getContainer(Id).remove({ force: true })));
      // A network is a bridge of the machine's, and would outlive the engine.
      const networks = await this.docker.listNetworks().catch(() => []);
      await Promise.allSettled(
        networks
          .filter(({ Driver }) => Driver === 'bridge')
          .map(({ Id }) => this.docker.getNetwork(Id).remove()),
      );
      await stopDaemon(this.dockerd, 5_000);
    }
    if (this.containerd) await stopDaemon(this.containerd, 2_000);
    await removeEngine(this.root);
  }

  private dockerdArguments(): string[] {
    const { root, options } = this;
    return [
      ...['--data-root', join(root, 'data'), '--exec-root', join(root, 'exec')],
      ...['--pidfile', join(root, 'docker.pid'), '--host', this.host],
      ...['--containerd', join(root, 'containerd.sock')],
      ...['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-masq=false'],
      // Not the machine's own settings: they may name a proxy, another driver or other hosts.
      ...['--config-file', join(root, 'daemon.json')],
      ...(options.liveRestore ? ['--live-restore'] : []),
      ...(options.tcpPort === undefined
        ? []
        : ['--host', `tcp://127.0.0.1:${options.tcpPort}`, '--tls=false']),
    ];
  }

  private async startContainerd(): Promise<void> {
    const { root } = this;
    await writeFile(join(root, 'owner'), String(process.pid));
    await writeFile(join(root, 'daemon.json'), '{}');
    // A containerd of our own: dockerd would otherwise share the machine's, if one runs.
    const config = [
      'version = 2',
      `root = "${root}/containerd"`,
      `state = "${root}/containerd-state"`,
      'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
      `[grpc]\n  address = "${root}/containerd.sock"`,
    ];
    await writeFile(join(root, 'containerd.toml'), config.join('\n'));
    const daemon = startDaemon(
      'containerd',
      ['--config', join(root, 'containerd.toml')],
      join(root, 'containerd.log'),
    );
    this.containerd = daemon;
    await this.answering('containerd', daemon, async () => (await readdir(root)).includes('containerd.sock'));
  }

  private async answering(name: string, daemon: Daemon, answers: () => Promise<boolean>): Promise<void> {
    const isUp = () =>
      answers().then(
        (up) => up,
        () => false,
      );
    await until(async () => !daemon.isRunning() || (await isUp()), {
      timeoutMs: 30_000,
      what: `${name} to answer`,
    });
    if (!daemon.isRunning()) {
      const log = await readFile(join(this.root, `${name}.log`), 'utf8').catch(() => '');
      throw new Error(`${name} ended while starting:\n${log.split('\n').slice(-15).join('\n')}`);
    }
  }

  private async importBusybox(): Promise<void> {
    const files = join(this.root, 'busybox');
    await mkdir(join(files, 'bin'), { recursive: true });
    await mkdir(join(files, 'tmp'));
    await copyFile('/bin/busybox', join(files, 'bin', 'busybox'));
    for (const applet of (await outputOf('/bin/busybox', ['--list'])).split('\n').filter(Boolean)) {
      if (applet !== 'busybox') await symlink('busybox', join(files, 'bin', applet));
    }
    const tar = streamOf('tar', ['-C', files, '-c', '.']);
    const progress = await this.docker.importImage(tar, { repo: busyboxImage, tag: 'latest' });
    await new Promise<void>((resolve, reject) => {
      this.docker.modem.followProgress(progress, (error: Error | null) =>
        error ? reject(error) : resolve(),
      );
    });
  }
}

/** Removes what engines of test runs that were killed left behind. */
async function sweepStale(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(folderPrefix)) continue;
    const root = join(tmpdir(), name);
    const owner = Number(await readFile(join(root, 'owner'), 'utf8').catch(() => '0'));
    if (owner === 0 || isAlive(owner)) continue;
    await removeEngine(root);
  }
}

async function removeEngine(root: string): Promise<void> {
  await killProcessesOf(root);
  await removeShimSockets(join(root, 'containerd-state'));
  await removeTree(root);
}
