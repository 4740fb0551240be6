import { createServer } from 'node:net';
import { MillraceError } from '@millrace/wire';

export interface PortToUse {
  /** The environment variable that sets it. */
  variable: string;
  host: string;
  /** 0 means any free one. */
  port: number;
}

/**
 * Looks whether ports are free before anything is opened: opening the store takes seconds, and a port that is taken
 * should be told at once, all of them together. Whoever listens later checks again.
 *
 * @throws MillraceError `PORT_TAKEN` naming each variable
 */
export async function checkPorts(ports: readonly PortToUse[]): Promise<void> {
  const taken: string[] = [];
  const first = new Map<number, string>();
  for (const { variable, host, port } of ports) {
    if (port === 0) continue;
    const other = first.get(port);
    if (other !== undefined) taken.push(`${variable} ${port} is the same as ${other}`);
    else if (await isTaken(host, port)) taken.push(`${variable} ${port} is taken`);
    first.set(port, variable);
  }
  if (taken.length > 0) throw new MillraceError('PORT_TAKEN', taken.join(' | '));
}

function isTaken(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    // Other failures (no such address, no right to the port) are told better by whoever needs the port.
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EADDRINUSE'));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(false)));
  });
}
