import type { Server } from 'node:net';
import { errorText, MillraceError } from '@millrace/wire';

export interface ListenOptions {
  host: string;
  port: number;
  /** The environment variable that sets the port, for the error. */
  variable: string;
}

/**
 * Starts a server and returns the port it listens on, which is another one only when 0 was asked for.
 *
 * @throws MillraceError `PORT_TAKEN` or `CONFIG_INVALID`, naming the variable
 */
export async function listen(server: Server, { host, port, variable }: ListenOptions): Promise<number> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port, host }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') {
      throw new MillraceError('PORT_TAKEN', `${variable} ${port} is taken`, { cause: error });
    }
    throw new MillraceError(
      'CONFIG_INVALID',
      `${variable} ${port} on ${host} cannot be used: ${errorText(error)}`,
      {
        cause: error,
      },
    );
  }
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : port;
}

/** How others on this machine reach a server that listens on `host`, ready for a URL. */
export function reachableHost(host: string): string {
  if (host === '0.0.0.0' || host === '::' || host === '') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}
