import type { Device } from '@millrace/wire';
import { type LogsContext, noticesOn, openClient } from '../logs/connect.ts';
import { ago, span } from '../terminal/ago.ts';
import { painter, wantsColour } from '../terminal/colours.ts';
import { type Column, table } from '../terminal/table.ts';

/** The command line of `millrace devices`. */
export interface DevicesOptions {
  fleet?: string;
  online?: boolean;
  offline?: boolean;
  json?: boolean;
  url?: string;
}

/** @throws MillraceError as `openClient` */
export async function listDevices(options: DevicesOptions, context: LogsContext): Promise<void> {
  const { stdout, env, signal } = context;
  const notice = noticesOn(context);
  const client = await openClient(options.url, notice, context);
  const { fleet, json } = options;
  // A fleet that does not exist would only look empty.
  if (fleet !== undefined) await client.fleets.get(fleet, { signal });
  const online = options.online ? true : options.offline ? false : undefined;
  const devices: Device[] = [];
  for await (const device of client.devices({ fleet, online }, { signal })) {
    if (json) stdout.write(`${JSON.stringify(device)}\n`);
    else devices.push(device);
  }
  if (json) return;
  if (devices.length === 0) {
    notice('no device');
    return;
  }
  const paint = painter(wantsColour(stdout, env));
  const nowMs = Date.now();
  const columns: Column<Device>[] = [
    { title: 'NAME', of: ({ name }) => name ?? '-' },
    { title: 'UUID', of: ({ uuid }) => uuid },
    { title: 'FLEET', of: ({ fleet: of }) => of ?? '-' },
    {
      title: 'ONLINE',
      of: (device) => onlineText(device, nowMs),
      paint: (text, { online: is }) => (is === null ? text : paint(is ? 'green' : 'red', text)),
    },
    {
      title: 'APPS',
      of: ({ apps }) => apps.map(appText).join(', ') || '-',
      paint: (text, { apps }) => (apps.some(isUnwell) ? paint('red', text) : text),
    },
    { title: 'LAST LINE', of: ({ lastSeen }) => (lastSeen === null ? '-' : ago(lastSeen, nowMs)) },
  ];
  stdout.write(table(columns, devices, (text) => paint('dim', text)));
}

/** `online 3 h`, since when that has been so. */
export function onlineText(
  { online, onlineChangedAt }: Pick<Device, 'online' | 'onlineChangedAt'>,
  nowMs: number,
): string {
  if (online === null) return 'unknown';
  const since = onlineChangedAt === null ? '' : ` ${span(nowMs - onlineChangedAt)}`;
  return `${online ? 'online' : 'offline'}${since}`;
}

function appText({ id, name, release, status }: Device['apps'][number]): string {
  const shown = release === null ? '' : ` ${shortRelease(release)}`;
  return `${name ?? id}${shown}${status === null ? '' : ` ${status}`}`;
}

function isUnwell({ status }: Device['apps'][number]): boolean {
  return status === 'rejected' || status === 'aborted';
}

/** The beginning of a uuid tells it from others. */
export function shortRelease(release: string): string {
  return release.slice(0, 8);
}
