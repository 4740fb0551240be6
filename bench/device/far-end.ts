import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What far-end-process.ts is told first. */
export interface FarEndStart {
  socketPath: string;
  /** The engine's data folder. */
  root: string;
  containerId: string;
  /** How often the cloud commits what has come, and acknowledges that. */
  commitMs: number;
  /** Keeps all that arrives, to be asked for its {@link FarEndArrivals}. */
  keepsText: boolean;
  /** It stands back where others want the processor, as a cloud would that is another machine. */
  isRemote: boolean;
}

/** What has arrived of the lines of `web-log.ts`. */
export interface FarEndArrivals {
  distinct: number;
  doubled: number;
  /** Files that are on record as missing. */
  gapFiles: number;
  /** Records of which the number of files is not known. */
  otherGaps: number;
}

/** How far the cloud is. */
export interface FarEndCount {
  lines: number;
  batches: number;
  /** Of the bodies of requests. */
  wireBytes: number;
}

export type FarEndOptions = Pick<FarEndStart, 'commitMs'> &
  Partial<Pick<FarEndStart, 'keepsText' | 'isRemote'>>;

const containerId = 'c'.repeat(64);

/** An engine with one container's log files, and a cloud, in a process of their own. */
export class FarEnd implements Disposable {
  /** For `DOCKER_HOST`. */
  readonly dockerHost: string;
  /** The container's log, for whoever plays the container. */
  readonly logPath: string;
  readonly #process: ChildProcess;
  #cloudPort = 0;

  private constructor(dir: string, { commitMs, keepsText = false, isRemote = false }: FarEndOptions) {
    const root = join(dir, 'docker');
    const socketPath = join(dir, 'docker.sock');
    this.dockerHost = `unix://${socketPath}`;
    const folder = join(root, 'containers', containerId);
    this.logPath = join(folder, `${containerId}-json.log`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(
      join(folder, 'config.v2.json'),
      JSON.stringify({ ID: containerId, Name: '/web', Config: {} }),
    );
    this.#process = fork(fileURLToPath(new URL('far-end-process.ts', import.meta.url)));
    this.#process.send({
      socketPath,
      root,
      containerId,
      commitMs,
      keepsText,
      isRemote,
    } satisfies FarEndStart);
  }

  static async start(dir: string, options: FarEndOptions): Promise<FarEnd> {
    const farEnd = new FarEnd(dir, options);
    farEnd.#cloudPort = await farEnd.#answer<number>();
    return farEnd;
  }

  get cloudPort(): number {
    return this.#cloudPort;
  }

  /** Tells of the container: from then on the agent reads its log. */
  startContainer(): void {
    this.#process.send('start');
  }

  count(): Promise<FarEndCount> {
    const answer = this.#answer<FarEndCount>();
    this.#process.send('count');
    return answer;
  }

  arrivals(): Promise<FarEndArrivals> {
    const answer = this.#answer<FarEndArrivals>();
    this.#process.send('arrivals');
    return answer;
  }

  [Symbol.dispose](): void {
    this.#process.kill();
  }

  async #answer<T>(): Promise<T> {
    const [message] = await once(this.#process, 'message');
    return message as T;
  }
}
