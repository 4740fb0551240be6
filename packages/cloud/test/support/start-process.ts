import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect } from 'vitest';
import { nodeFlags } from '../../../../tests/support/programs.ts';
import { memoryDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { adminToken, joinKey } from './cloud.ts';

const cloudProcess = join(import.meta.dirname, 'cloud-process.ts');

/** A cloud in a process of its own. */
export interface CloudProcess extends AsyncDisposable {
  url: string;
}

/** Starts one on a PostgreSQL server; more settings may be given. */
export async function startProcess(
  databaseUrl: string,
  env: Record<string, string> = {},
): Promise<CloudProcess> {
  const dir = await memoryDir();
  const child: ChildProcess = spawn(process.execPath, [...nodeFlags, cloudProcess], {
    env: {
      ...process.env,
      ...{ DATA_DIR: dir.path, DATABASE_URL: databaseUrl, CLOUD_HOST: '127.0.0.1' },
      ...{ CLOUD_PORT: '0', MQTT_PORT: '0', MQTT_WS_PORT: '0', ADMIN_TOKEN: adminToken, JOIN_KEY: joinKey },
      ...env,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
  });
  const dispose = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await dir[Symbol.asyncDispose]();
  };
  try {
    await until(() => printed.includes('\n') || child.exitCode !== null, { what: 'the cloud to start' });
    expect(child.exitCode).toBeNull();
  } catch (error) {
    await dispose();
    throw error;
  }
  return { url: printed.trim(), [Symbol.asyncDispose]: dispose };
}
