import { spawn } from 'node:child_process';
import { MillraceError } from '@millrace/wire';
import type { Scope } from './places.ts';

/**
 * Runs `systemctl` with these arguments and gives what it printed.
 *
 * @throws MillraceError `SERVICE_FAILED` with what systemctl said
 */
export type Systemctl = (...args: string[]) => Promise<string>;

export function systemctlOf(scope: Scope, env: Record<string, string | undefined>): Systemctl {
  return async (...args) => {
    const { code, stdout, stderr } = await run(scope === 'user' ? ['--user', ...args] : args, env);
    if (code === 0) return stdout.trim();
    const said = stderr.trim().split('\n', 3).join('; ') || stdout.trim() || `exit code ${code}`;
    throw new MillraceError('SERVICE_FAILED', `systemctl ${args.join(' ')}: ${said}`);
  };
}

function run(
  args: string[],
  env: Record<string, string | undefined>,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn('systemctl', args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const texts = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        texts[name] += text;
      });
    }
    child.once('error', (cause) =>
      reject(
        new MillraceError('SERVICE_FAILED', `this machine has no systemctl: ${cause.message}`, { cause }),
      ),
    );
    child.once('close', (code) => resolve({ code, ...texts }));
  });
}
