import { access, constants, open, rm, statfs } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import { type CloudConfig, readCloudConfig } from '../config.ts';
import { isHeldElsewhere, lockFolder } from '../records/folder-lock.ts';
import { checkBroker } from './broker.ts';
import { checkPort } from './ports.ts';
import { checkRecords } from './records.ts';
import { type CheckResult, failed } from './result.ts';
import { checkStore } from './store.ts';

export type { CheckResult } from './result.ts';

export interface CheckOptions {
  env: Record<string, string | undefined>;
  log: Logger;
}

/** Below it a disk is as good as full. */
const leastFreeBytes = 1_000_000_000;

/**
 * Reads the settings and tries to reach every part that a cloud with them would use. Nothing is changed: neither are
 * databases made nor schemas brought up to date. Where a cloud is running on the data folder already, that one holds
 * the embedded parts, and is asked for them.
 */
export async function checkCloud({ env, log }: CheckOptions): Promise<CheckResult[]> {
  let config: CloudConfig;
  try {
    config = readCloudConfig(env);
  } catch (error) {
    return [failed('settings', error)];
  }
  const results: CheckResult[] = [{ part: 'settings', state: 'ok', detail: 'all can be read' }];
  const folder = await checkFolder(config.dataDir);
  results.push(folder.result);
  if (folder.result.state === 'failed') return results;
  const { isRunning } = folder;
  results.push(await checkSpace(config.dataDir));
  if (isRunning) results.push(...(await askRunning(config)));
  results.push(...(await checkStore(config, { isRunning, log })));
  results.push(...(await checkRecords(config, { isRunning, log })));
  results.push(...(await checkBroker(config)));
  if (!isRunning) {
    results.push(await checkPort('CLOUD_PORT', config.host, config.port));
    if (!config.brokerUrl) {
      const host = config.mqttHost ?? config.host;
      results.push(await checkPort('MQTT_PORT', host, config.mqttPort));
      results.push(await checkPort('MQTT_WS_PORT', host, config.mqttWsPort));
    }
  }
  return results;
}

async function checkFolder(dataDir: string): Promise<{ result: CheckResult; isRunning: boolean }> {
  const part = 'data folder';
  const place = resolve(dataDir);
  try {
    const nearest = await nearestFolder(place);
    if (nearest !== place) {
      await access(nearest, constants.W_OK);
      return {
        result: { part, state: 'ok', detail: `${place} will be made at the first start` },
        isRunning: false,
      };
    }
    await tryWriting(place);
    using _lock = await lockFolder(place);
    return { result: { part, state: 'ok', detail: `${place} can be written` }, isRunning: false };
  } catch (error) {
    if (isHeldElsewhere(error)) {
      return {
        result: { part, state: 'ok', detail: `${place} is used by a cloud that is running` },
        isRunning: true,
      };
    }
    const result = failed(part, error);
    return { result: { action: `Let this user write to ${place}.`, ...result }, isRunning: false };
  }
}

async function tryWriting(folder: string): Promise<void> {
  const path = join(folder, `.check-${process.pid}`);
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile('x');
    await file.sync();
  } finally {
    await file.close();
    await rm(path, { force: true });
  }
}

async function checkSpace(dataDir: string): Promise<CheckResult> {
  const part = 'disk';
  const folder = await nearestFolder(resolve(dataDir));
  const { bavail, bsize, blocks } = await statfs(folder);
  const gb = (count: number) => `${((count * bsize) / 1e9).toFixed(1)} GB`;
  const detail = `${gb(bavail)} of ${gb(blocks)} are free`;
  if (bavail * bsize >= leastFreeBytes) return { part, state: 'ok', detail };
  return {
    part,
    state: 'warning',
    detail,
    action: 'Make room: when the disk is full, devices keep their lines.',
  };
}

/** What the cloud that is running says of its parts. */
async function askRunning({ host, port }: CloudConfig): Promise<CheckResult[]> {
  const part = 'running cloud';
  const address = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  const url = `http://${address.includes(':') ? `[${address}]` : address}:${port}`;
  try {
    const response = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(5000) });
    const { checks } = (await response.json()) as { checks: Record<string, string> };
    return Object.entries(checks).map(([name, state]) =>
      state === 'ok'
        ? { part: `${part}: ${name}`, state: 'ok', detail: 'works' }
        : { part: `${part}: ${name}`, state: 'failed', detail: 'does not work', action: 'See its log.' },
    );
  } catch (error) {
    return [
      {
        part,
        state: 'failed',
        detail: `it holds the data folder, and does not answer on ${url} (${reasonOf(error)})`,
        action: 'Give this command the same CLOUD_HOST and CLOUD_PORT as the cloud, or see its log.',
      },
    ];
  }
}

/** What `fetch` says itself is only that it failed. */
function reasonOf(error: unknown): string {
  return errorText(error instanceof TypeError && error.cause !== undefined ? error.cause : error);
}

/** The folder, or the one around it that is there. */
async function nearestFolder(path: string): Promise<string> {
  try {
    await access(path);
    return path;
  } catch {
    return path === dirname(path) ? path : nearestFolder(dirname(path));
  }
}
