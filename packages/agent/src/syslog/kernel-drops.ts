import { readFile } from 'node:fs/promises';

/**
 * How many datagrams the kernel dropped because the socket bound to this port had no room, since it was made. 0 where
 * the kernel does not tell.
 */
export async function kernelDrops({ port, family }: { port: number; family: string }): Promise<number> {
  const path = family === 'IPv6' ? '/proc/net/udp6' : '/proc/net/udp';
  return dropsOf(await readFile(path, 'latin1').catch(() => ''), port);
}

/** Reads the table of proc_net(5): `sl local_address:port rem_address … drops`, the port in hexadecimal. */
export function dropsOf(table: string, port: number): number {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  let drops = 0;
  for (const row of table.split('\n').slice(1)) {
    const columns = row.trim().split(/\s+/);
    if (columns[1]?.endsWith(wanted)) drops += Number(columns.at(-1)) || 0;
  }
  return drops;
}
