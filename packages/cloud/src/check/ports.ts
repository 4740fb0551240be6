import { createServer } from 'node:net';
import { MillraceError } from '@millrace/wire';
import { listen } from '../listening.ts';
import { type CheckResult, failed } from './result.ts';

/** Whether a port could be listened on. */
export async function checkPort(variable: string, host: string, port: number): Promise<CheckResult> {
  if (port === 0) return { part: variable, state: 'ok', detail: 'any free port' };
  const server = createServer();
  try {
    await listen(server, { host, port, variable });
    await new Promise<void>((resolve) => server.close(() => resolve()));
    return { part: variable, state: 'ok', detail: `${port} on ${host} is free` };
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    return failed(variable, error);
  }
}
