import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { FolderDisk } from '../packages/agent/src/journal/disk.ts';
import { Journal } from '../packages/agent/src/journal/journal.ts';
import { walkMembers } from '../packages/agent/src/journal/member.ts';
import { CloudLogBackend } from '../packages/agent/src/logging/cloud-backend.ts';
import { startTestCloud, type TestCloud } from './support/cloud.ts';
import { captureLog } from './support/log.ts';
import { tempDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

/*
 * What a device has sent may come again under another journal id, since the journal that says so was damaged or could
 * not be written. The cloud stores it once, also when it was killed in between.
 */

const apiKey = 'a-device-key-for-tests';

vi.setConfig({ testTimeout: 120_000 });

let dir: Awaited<ReturnType<typeof tempDir>>;
let cloud: TestCloud;
beforeAll(async () => {
  dir = await tempDir();
  cloud = await startTestCloud();
});
afterAll(async () => {
  await cloud[Symbol.asyncDispose]();
  await dir[Symbol.asyncDispose]();
});

class FailingDisk extends FolderDisk {
  isFull = false;

  override async openAppend(name: string) {
    const file = await super.openAppend(name);
    return {
      append: async (bytes: Buffer) => {
        if (this.isFull) throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
        await file.append(bytes);
      },
      sync: () => file.sync(),
      close: () => file.close(),
    };
  }
}

/** A device with numbered lines in its containers' logs, whose agent dies and starts again. */
class Device implements AsyncDisposable {
  readonly uuid: string;
  readonly folder: string;
  readonly #printed = new Map<string, number>();
  #disk!: FailingDisk;
  #backend: CloudLogBackend | undefined;
  journal!: Journal;

  private constructor(uuid: string) {
    this.uuid = uuid;
    this.folder = join(dir.path, uuid);
  }

  static async start(uuid: string): Promise<Device> {
    await cloud.register(uuid, apiKey);
    const device = new Device(uuid);
    await device.start();
    return device;
  }

  async start(options: { sends?: boolean; diskIsFull?: boolean } = {}): Promise<void> {
    this.#disk = new FailingDisk(this.folder);
    this.#disk.isFull = options.diskIsFull ?? false;
    this.journal = new Journal({ disk: this.#disk, syncIntervalMs: 5, outageGraceMs: 10, diskRetryMs: 10 });
    for (const name of this.#printed.keys()) this.#read(name, 1);
    if (options.sends === false) return;
    this.#backend = new CloudLogBackend({
      cloudEndpoint: cloud.url,
      deviceUuid: this.uuid,
      apiKey,
      feed: this.journal.cursor('cloud'),
      backoff: { minMs: 20, maxMs: 100 },
      log: captureLog().log,
    });
    await this.#backend.connect();
  }

  /** Lines of a container; two of one millisecond have the same text. */
  async print(name: string, count: number): Promise<void> {
    const before = this.#printed.get(name) ?? 0;
    this.#printed.set(name, before + count);
    this.#read(name, before + 1);
    await this.journal.flush();
  }

  /** As the engine has them: from the last position on. */
  #read(name: string, from: number): void {
    const position = (this.journal.position(name) as number | undefined) ?? 0;
    for (let n = Math.max(from, position + 1); n <= (this.#printed.get(name) ?? 0); n++) {
      const half = Math.ceil(n / 2);
      const line = { message: `${name} ${half}`, timestamp: 1.76e12 + half };
      const service = { serviceName: name, containerId: name };
      this.journal.append({ ...line, ...service }, { key: name, value: n });
    }
  }

  fillDisk(): void {
    this.#disk.isFull = true;
  }

  freeDisk(): void {
    this.#disk.isFull = false;
  }

  /** Waits until everything is acknowledged. */
  async delivered(): Promise<void> {
    await this.journal.flush();
    await until(() => this.#backend?.state.lag === 0, {
      timeoutMs: 60_000,
      what: () => `all to be delivered; ${JSON.stringify(this.#backend?.state)}`,
    });
  }

  async die(): Promise<void> {
    await this.journal.abandon();
    await this.#backend?.disconnect();
    this.#backend = undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.die();
  }

  newestFile(): string {
    return join(this.folder, readdirSync(this.folder).sort().at(-1) as string);
  }

  /** Cuts the journal off behind so many batches with lines. */
  cutBehind(batches: number): void {
    const { members } = walkMembers(readFileSync(this.newestFile()));
    const last = members.filter(({ header }) => header.count > 0)[batches - 1];
    truncateSync(this.newestFile(), (last?.offset ?? 0) + (last?.bytes.length ?? 0) + 20);
  }

  /** Every line of each container is stored as often as it was printed, and nothing is a gap. */
  async expectAllOnce(): Promise<void> {
    for (const [name, printed] of this.#printed) {
      const expected = Array.from({ length: printed }, (_, i) => `${name} ${Math.ceil((i + 1) / 2)}`);
      const stored = (await cloud.linesOf(name)).filter(({ device }) => device === this.uuid);
      expect(stored.map(({ message }) => message)).toEqual(expected);
    }
    expect(await this.gaps()).toEqual([]);
  }

  async gaps(): Promise<{ journal: string; lines: number }[]> {
    return (
      await cloud.get<{ gaps: { journal: string; lines: number }[] }>(`/api/v1/devices/${this.uuid}/gaps`)
    ).gaps;
  }
}

test('a: the end of a journal that was sent and acknowledged is lost from the disk', async () => {
  await using device = await Device.start('lost-end');
  await device.print('a1', 101);
  await device.print('a2', 301);
  await device.print('a1', 300);
  await device.delivered();
  await device.die();
  device.cutBehind(1);

  // Before anything of it has come again, nobody but the device knows that it will.
  await cloud.restart('SIGKILL');
  await device.start();
  await device.print('a1', 50);
  await device.delivered();
  await device.expectAllOnce();

  // And once more, while the cloud has some of it.
  await device.die();
  device.cutBehind(0);
  await cloud.restart('SIGKILL');
  await device.start();
  await device.print('a2', 20);
  await device.delivered();
  await device.expectAllOnce();
});

test('a: the same when it was sent and never acknowledged, and comes later than what repeats it', async () => {
  await using device = await Device.start('unacknowledged');
  await device.print('u', 101);
  await device.delivered();
  await device.die();
  await device.start({ sends: false });
  await device.print('u', 200);
  const sent = await device.journal.cursor('cloud').next(AbortSignal.timeout(5000));
  await device.die();
  device.cutBehind(1);
  await device.start();
  await device.print('u', 31);
  await device.delivered();
  // A broker or a frozen connection held it back until now.
  const response = await fetch(`${cloud.url}/device/v2/${device.uuid}/log-stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-encoding': 'gzip' },
    body: new Uint8Array(sent?.gzip() ?? Buffer.alloc(0)),
  });
  expect(response.status).toBe(201);
  expect(sent?.header.count).toBeGreaterThan(200);
  await device.expectAllOnce();
});

test('b: a process dies while the disk cannot be written, and what it had sent from memory is read again', async () => {
  await using device = await Device.start('died-in-outage');
  await device.print('b', 101);
  await device.delivered();
  for (const count of [100, 61]) {
    // The second process finds the disk still full.
    device.fillDisk();
    await device.print('b', count);
    await device.delivered();
    expect(device.journal.stats().memoryOnly).toBe(true);
    await device.die();
    await device.start({ diskIsFull: true });
    await device.print('b', 20);
    await device.delivered();
    await device.expectAllOnce();
  }
  await device.die();
  await cloud.restart('SIGKILL');
  await device.start();
  await device.print('b', 40);
  await device.delivered();
  expect(device.journal.stats().memoryOnly).toBe(false);
  await device.expectAllOnce();
});

test('b: an outage that ends: nothing is read again, and nothing is stored twice or taken for a repetition', async () => {
  await using device = await Device.start('outage');
  await device.print('o', 101);
  device.fillDisk();
  await device.print('o', 60);
  await device.delivered();
  device.freeDisk();
  await until(() => !device.journal.stats().memoryOnly, { what: 'the disk to be used again' });
  await device.print('o', 41);
  await device.delivered();
  await device.die();
  await device.start();
  await device.print('o', 41);
  await device.delivered();
  await device.expectAllOnce();
});

test('c: damage in the middle takes positions with it, and lines that were sent are read again', async () => {
  await using device = await Device.start('damaged-middle');
  await device.print('c1', 101);
  await device.print('c2', 101);
  await device.print('c1', 100);
  await device.delivered();
  await device.die();
  const file = device.newestFile();
  const bytes = readFileSync(file);
  const hit = walkMembers(bytes).members.filter(({ header }) => header.count > 0)[1];
  if (!hit) throw new Error('no such batch');
  bytes.fill(0x55, hit.offset + 30, hit.offset + 60);
  writeFileSync(file, bytes);

  await cloud.restart('SIGKILL');
  await device.start();
  expect(device.journal.position('c1')).toBe(201);
  await device.print('c2', 31);
  await device.delivered();
  await device.expectAllOnce();
});

test('c: the same when nothing of it was sent: what can be read again is, and the rest is counted', async () => {
  await using device = await Device.start('unsent-middle');
  await device.delivered();
  await device.die();
  await device.start({ sends: false });
  await device.print('d1', 51);
  await device.print('d2', 51);
  await device.print('d1', 50);
  await device.die();
  const file = device.newestFile();
  const bytes = readFileSync(file);
  const hit = walkMembers(bytes).members.filter(({ header }) => header.count > 0)[1];
  if (!hit) throw new Error('no such batch');
  bytes.fill(0x55, hit.offset + 30, hit.offset + 60);
  writeFileSync(file, bytes);
  await device.start();
  await device.delivered();
  for (const [name, count] of [
    ['d1', 101],
    ['d2', 51],
  ] as const) {
    expect((await cloud.linesOf(name)).length).toBe(count);
  }
  // Nobody can tell that all of it was d2's: what is lost is at most what is counted.
  expect(await device.gaps()).toMatchObject([{ from: 52, to: 102, lines: 51 }]);
});
