import { type ChildProcess, type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { freePort } from './ports.ts';
import { makeCertificates, type TestCertificates } from './tls.ts';
import { tempDir } from './tmp.ts';
import { until } from './wait.ts';

const run = promisify(execFile);

export interface MosquittoOptions {
  /** Serve TLS with a server certificate for `localhost` and 127.0.0.1 from a CA of its own. */
  tls?: boolean;
  /** Ask clients for a certificate of that CA. Implies `tls`. */
  clientCerts?: boolean;
  /** Name → password. Without it everyone may connect. */
  users?: Record<string, string>;
  /** Listen for MQTT over WebSocket as well. */
  websocket?: boolean;
  /** Keep sessions, queues and retained messages in a file, so that they outlive `restart()` (not `kill()`). */
  persistence?: boolean;
  /** Lines for an ACL file; see mosquitto.conf(5). */
  acl?: string[];
  /** More lines for the head of mosquitto.conf. */
  config?: string[];
}

/** A real Mosquitto on free ports of 127.0.0.1. */
export interface Mosquitto extends AsyncDisposable {
  /** `mqtt://127.0.0.1:PORT`, or `mqtts://localhost:PORT` with TLS. */
  readonly url: string;
  readonly port: number;
  /** `ws://127.0.0.1:PORT` or `wss://localhost:PORT`; set with `websocket`. */
  readonly websocketUrl: string | undefined;
  /** CA, and a client certificate with its key, as PEM; set with `tls`. */
  readonly certificates: TestCertificates | undefined;
  readonly users: Readonly<Record<string, string>> | undefined;
  /** The broker's log, its first 20 000 lines. */
  readonly log: readonly string[];
  readonly running: boolean;
  start(): Promise<void>;
  /** SIGTERM, and waits for the end. */
  stop(): Promise<void>;
  /** SIGKILL, and waits for the end. */
  kill(): Promise<void>;
  /** Sends a signal and waits for nothing. */
  signal(name: NodeJS.Signals): void;
  /** Stops (unless stopped already) and starts again on the same ports. */
  restart(): Promise<void>;
  /** Replaces the users while the broker runs. It ends the connections of those whose password changed. */
  setUsers(users: Record<string, string>): Promise<void>;
}

const maxLogLines = 20_000;

/** Starts `mosquitto`. Throws with the broker's own words when it does not come up. */
export async function startMosquitto(options: MosquittoOptions = {}): Promise<Mosquitto> {
  const dir = await tempDir('millrace-mosquitto-');
  const port = await freePort();
  const websocketPort = options.websocket ? await freePort() : undefined;
  const tls = options.tls || options.clientCerts;
  const certificates = tls ? await makeCertificates(dir.path) : undefined;
  const passwordFile = join(dir.path, 'passwords');
  const configFile = join(dir.path, 'mosquitto.conf');
  const log: string[] = [];
  let users = options.users;
  let child: ChildProcess | undefined;

  const listener = (listenPort: number, protocol: string) => [
    `listener ${listenPort} 127.0.0.1`,
    `protocol ${protocol}`,
    ...(certificates
      ? [
          `cafile ${certificates.caFile}`,
          `certfile ${certificates.serverCertFile}`,
          `keyfile ${certificates.serverKeyFile}`,
          ...(options.clientCerts ? ['require_certificate true'] : []),
        ]
      : []),
  ];
  const aclFile = join(dir.path, 'acl');
  if (options.acl) await writeFile(aclFile, `${options.acl.join('\n')}\n`);
  await writeFile(
    configFile,
    [
      // As root, mosquitto would become a user who may not read our folder.
      ...(process.getuid?.() === 0 ? ['user root'] : []),
      'log_dest stderr',
      ...['error', 'warning', 'notice', 'information', 'subscribe'].map((type) => `log_type ${type}`),
      // The default drops what a slow subscriber has not fetched, and a test would take that for our loss.
      'max_queued_messages 0',
      `persistence ${options.persistence ? 'true' : 'false'}`,
      ...(options.persistence ? [`persistence_location ${dir.path}/`] : []),
      `allow_anonymous ${users ? 'false' : 'true'}`,
      ...(users ? [`password_file ${passwordFile}`] : []),
      ...(options.acl ? [`acl_file ${aclFile}`] : []),
      ...(options.config ?? []),
      ...listener(port, 'mqtt'),
      ...(websocketPort ? listener(websocketPort, 'websockets') : []),
      '',
    ].join('\n'),
  );
  if (users) await writePasswords(passwordFile, users);

  const start = async () => {
    if (child) return;
    // The port was free a moment ago; someone's outgoing connection may hold it for another moment.
    for (let attempt = 1; ; attempt++) {
      const started = spawnBound('mosquitto', ['-c', configFile]);
      child = started;
      const ended = new Promise<string>((resolve) => {
        started.once('error', (error) => resolve(error.message));
        started.once('exit', (code, signal) => resolve(`ended with ${code ?? signal}`));
      });
      let failure: string | undefined;
      ended.then((why) => {
        failure = why;
        if (child === started) child = undefined;
      });
      const from = log.length;
      collectLines(started, log);
      // It listens a moment before it handles signals; this line of its log comes after both.
      const isUp = () => log.slice(from).some((line) => /^mosquitto version \S+ running/.test(line));
      await until(() => failure ?? isUp(), {
        what: () => `mosquitto to listen: ${log.slice(-5).join(' | ')}`,
      });
      if (!failure) return;
      if (attempt === 5 || failure.includes('ENOENT')) {
        throw new Error(`mosquitto did not start: ${failure}: ${log.slice(-5).join(' | ')}`);
      }
    }
  };
  const end = async (signal: NodeJS.Signals) => {
    const running = child;
    if (!running) return;
    child = undefined;
    await endProcess(running, signal);
  };
  const killAtExit = () => child?.kill('SIGKILL');
  process.once('exit', killAtExit);

  const host = certificates ? 'localhost' : '127.0.0.1';
  const broker: Mosquitto = {
    url: `${certificates ? 'mqtts' : 'mqtt'}://${host}:${port}`,
    port,
    websocketUrl:
      websocketPort === undefined ? undefined : `${certificates ? 'wss' : 'ws'}://${host}:${websocketPort}`,
    certificates,
    get users() {
      return users;
    },
    log,
    get running() {
      return child !== undefined;
    },
    start,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    signal: (name) => void child?.kill(name),
    async restart() {
      await end('SIGTERM');
      await start();
    },
    async setUsers(next) {
      if (!users) throw new Error('start the broker with users to change them');
      users = next;
      await writePasswords(passwordFile, next);
      const seen = log.length;
      child?.kill('SIGHUP');
      if (child) await until(() => log.slice(seen).some((line) => line.includes('Reloading config')));
    },
    async [Symbol.asyncDispose]() {
      process.off('exit', killAtExit);
      await end('SIGKILL');
      await dir[Symbol.asyncDispose]();
    },
  };
  try {
    await start();
  } catch (error) {
    await broker[Symbol.asyncDispose]();
    throw error;
  }
  return broker;
}

async function writePasswords(file: string, users: Record<string, string>): Promise<void> {
  await writeFile(file, '', { mode: 0o600 });
  for (const [name, password] of Object.entries(users)) {
    await run('mosquitto_passwd', ['-b', file, name, password]);
  }
}

export interface SubscriberOptions {
  qos?: 0 | 1 | 2;
  user?: string;
  password?: string;
  /** PEM files or `broker.certificates`; taken from the broker by default. */
  certificates?: Pick<TestCertificates, 'caFile' | 'clientCertFile' | 'clientKeyFile'>;
  /** More arguments for mosquitto_sub. */
  args?: string[];
}

/** What a person sees who runs `mosquitto_sub -t TOPIC -v`. */
export interface Subscriber extends AsyncDisposable {
  /** Each line printed: the topic, a space, the payload. */
  readonly lines: readonly string[];
  /** The same, taken apart. */
  readonly messages: readonly { topic: string; payload: string }[];
}

/** Anything with a URL will do, such as an embedded broker. */
export type BrokerAddress = Pick<Mosquitto, 'url'> & Partial<Pick<Mosquitto, 'users' | 'certificates'>>;

/**
 * Runs the real `mosquitto_sub -v` and collects what it prints; returns once the broker has confirmed the
 * subscription. Credentials are the broker's first user unless given. Stop it with its scope.
 */
export async function mosquittoSub(
  broker: BrokerAddress,
  topic: string | string[],
  options: SubscriberOptions = {},
): Promise<Subscriber> {
  const { hostname, port, protocol } = new URL(broker.url);
  const [firstUser] = Object.entries(broker.users ?? {});
  const user = options.user ?? firstUser?.[0];
  const password = options.password ?? firstUser?.[1];
  const certificates = options.certificates ?? (protocol === 'mqtts:' ? broker.certificates : undefined);
  const topics = typeof topic === 'string' ? [topic] : topic;
  const args = [
    // Debug lines tell when the subscription stands; without line buffering they would come too late.
    ...['-oL', 'mosquitto_sub', '-d', '-v', '-h', hostname, '-p', port, '-q', String(options.qos ?? 0)],
    ...topics.flatMap((one) => ['-t', one]),
    ...(user ? ['-u', user] : []),
    ...(password ? ['-P', password] : []),
    ...(certificates
      ? [
          '--cafile',
          certificates.caFile,
          '--cert',
          certificates.clientCertFile,
          '--key',
          certificates.clientKeyFile,
        ]
      : []),
    ...(options.args ?? []),
  ];
  const child = spawnBound('stdbuf', args);
  const lines: string[] = [];
  const errors: string[] = [];
  let subscribed = false;
  let exit: string | undefined;
  child.once('error', (error) => {
    exit = error.message;
  });
  child.once('exit', (code, signal) => {
    exit ??= `ended with ${code ?? signal}`;
  });
  eachLine(child.stdout, (line) => {
    if (line.startsWith('Subscribed (mid: ')) subscribed = true;
    else if (!/^Client \S+ (sending|received) [A-Z]+/.test(line)) lines.push(line);
  });
  eachLine(child.stderr, (line) => errors.push(line));
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  const dispose = async () => {
    process.off('exit', killAtExit);
    if (exit === undefined) await endProcess(child, 'SIGKILL');
  };
  try {
    await until(() => subscribed || exit, { what: `mosquitto_sub to subscribe to ${topics}` });
    if (!subscribed) throw new Error(`mosquitto_sub ${exit}: ${[...lines, ...errors].join(' | ')}`);
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    lines,
    get messages() {
      return lines.map((line) => {
        const at = line.indexOf(' {');
        const end = at < 0 ? line.indexOf(' ') : at;
        return { topic: line.slice(0, end), payload: line.slice(end + 1) };
      });
    },
    [Symbol.asyncDispose]: dispose,
  };
}

/** A program that ends with this process even when that is killed, as the worker of a test that hangs is. */
function spawnBound(command: string, args: string[]): ChildProcessByStdio<null, Readable, Readable> {
  const bound = process.platform === 'linux' ? ['setpriv', '--pdeathsig', 'KILL', command] : [command];
  const [program, ...rest] = bound as [string, ...string[]];
  return spawn(program, [...rest, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

async function endProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill(signal);
  await ended;
}

function collectLines(child: ChildProcessByStdio<null, Readable, Readable>, into: string[]): void {
  child.stdout.resume();
  eachLine(child.stderr, (line) => {
    if (into.length < maxLogLines) into.push(line.replace(/^\d+: /, ''));
  });
}

function eachLine(stream: NodeJS.ReadableStream, each: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) each(part);
  });
}
