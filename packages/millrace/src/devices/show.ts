import type { MillraceClient } from '@millrace/client';
import {
  type AppState,
  type Device,
  type DeviceState,
  type DeviceTargetInfo,
  MillraceError,
  type ReportedState,
  type StateChange,
} from '@millrace/wire';
import { type LogsContext, noticesOn, openClient } from '../logs/connect.ts';
import { ago, span } from '../terminal/ago.ts';
import { type Colour, type Paint, painter, wantsColour } from '../terminal/colours.ts';
import { harmless } from '../terminal/harmless.ts';
import { localTime } from '../terminal/time.ts';
import { findDeviceOrFleet } from './find.ts';
import { onlineText, shortRelease } from './list.ts';

/** The command line of `millrace device`. */
export interface DeviceOptions {
  json?: boolean;
  url?: string;
}

interface Shown {
  device: Device;
  /** `null` when it never reported. */
  state: ReportedState | null;
  target: DeviceTargetInfo;
  /** The newest first. */
  changes: StateChange[];
}

const shownChanges = 5;

/** @throws MillraceError `PARAMETER_INVALID` when there is no such device, or several; and as `openClient` */
export async function showDevice(given: string, options: DeviceOptions, context: LogsContext): Promise<void> {
  const { stdout, env, signal } = context;
  const client = await openClient(options.url, noticesOn(context), context);
  const found = await findDeviceOrFleet(client, given, { fleets: false, signal });
  if (found.kind !== 'device') return;
  const shown = await gather(client, found.device, signal);
  if (options.json) stdout.write(`${JSON.stringify(shown, undefined, 2)}\n`);
  else stdout.write(deviceText(shown, painter(wantsColour(stdout, env)), Date.now()));
}

async function gather(client: MillraceClient, device: Device, signal: AbortSignal): Promise<Shown> {
  const { uuid } = device;
  const [state, target, changes] = await Promise.all([
    client.deviceState(uuid, { signal }).catch((error: unknown) => {
      if (error instanceof MillraceError && error.code === 'NOT_FOUND') return null;
      throw error;
    }),
    client.targets.ofDevice(uuid, { signal }),
    newest(client.stateHistory(uuid, { signal })),
  ]);
  return { device, state, target, changes };
}

async function newest(changes: AsyncIterable<StateChange>): Promise<StateChange[]> {
  const found: StateChange[] = [];
  for await (const change of changes) {
    found.push(change);
    if (found.length === shownChanges) break;
  }
  return found;
}

function deviceText({ device, state, target, changes }: Shown, paint: Paint, nowMs: number): string {
  const rows: [string, string][] = [
    ['uuid', device.uuid],
    ['name', device.name ?? '-'],
    ['fleet', device.fleet ?? '-'],
    [
      'tags',
      Object.entries(device.tags)
        .map((tag) => tag.join('='))
        .join(', ') || '-',
    ],
    ['status', onlineText(device, nowMs)],
    [
      'lines',
      `${device.lines}${device.lastSeen === null ? '' : `, the last ${ago(device.lastSeen, nowMs)}`}${device.missing > 0 ? `, ${device.missing} missing` : ''}`,
    ],
    ['reported', state ? ago(state.reportedAt, nowMs) : 'never'],
    ...factsOf(state?.state ?? {}),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const facts = rows.map(([name, value]) => `${paint('dim', name.padEnd(width))}  ${harmless(value)}`);
  const apps = appsText(state?.state.apps ?? {}, target, paint);
  const history = changes.map(
    ({ at, changes: made }) =>
      `  ${paint('dim', localTime(at, nowMs))} ${harmless(
        Object.keys(made)
          .map((key) => changeText(key, made))
          .join(', '),
      )}`,
  );
  return [
    ...facts,
    '',
    paint('bold', 'Apps'),
    ...(apps.length > 0 ? apps : ['  none']),
    '',
    paint('bold', 'Changes'),
    ...(history.length > 0 ? history : ['  none']),
    '',
  ].join('\n');
}

function factsOf(state: DeviceState): [string, string][] {
  const facts: [string, string | undefined][] = [
    ['os', words(state.os_version, state.architecture)],
    ['agent', words(state.agent_version ?? state.supervisor_version)],
    ['addresses', words(state.ip_address)],
    [
      'cpu',
      words(
        percent(state.cpu_usage),
        state.cpu_temp == null ? undefined : `${Math.round(state.cpu_temp)} °C`,
        state.is_undervolted ? 'undervolted' : undefined,
      ),
    ],
    ['memory', share(state.memory_usage, state.memory_total)],
    ['storage', share(state.storage_usage, state.storage_total)],
    ['uptime', state.uptime == null ? undefined : span(state.uptime * 1000)],
  ];
  return facts.flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as [string, string]]));
}

const words = (...parts: (string | null | undefined)[]) => parts.filter(Boolean).join(', ') || undefined;
const percent = (value: number | null | undefined) => (value == null ? undefined : `${Math.round(value)} %`);
const share = (used: number | null | undefined, total: number | null | undefined) =>
  used == null ? undefined : `${Math.round(used)}${total == null ? '' : ` of ${Math.round(total)}`} MB`;

const stateColours: Record<string, Colour> = {
  done: 'green',
  failed: 'red',
  updating: 'yellow',
  waiting: 'dim',
};

/** What is asked for against what there is; then apps that nobody asks for here. */
function appsText(reported: Record<string, AppState>, target: DeviceTargetInfo, paint: Paint): string[] {
  const lines: string[] = [];
  const told = new Set<string>();
  for (const app of target.apps) {
    const key = String(app.appId);
    told.add(key);
    const progress = app.downloadProgress === null ? '' : ` ${app.downloadProgress} %`;
    const status = `${app.state}${app.updateStatus === null || app.state === 'done' ? '' : ` (${app.updateStatus}${progress})`}`;
    const wanted = `release ${shortRelease(app.release.uuid)} of the ${app.source}`;
    const running = app.runningRelease === null ? '' : `, runs ${shortRelease(app.runningRelease)}`;
    lines.push(
      `  ${paint('bold', harmless(app.appName ?? key))} (${key}): ${wanted}${harmless(running)}: ${paint(stateColours[app.state] ?? 'dim', harmless(status))}`,
    );
    if (app.error !== null) lines.push(`    ${paint('red', harmless(app.error))}`);
    lines.push(...servicesText(reported[key], paint));
  }
  for (const [key, app] of Object.entries(reported)) {
    if (told.has(key)) continue;
    const running = app.release_uuid === undefined ? '' : `: release ${shortRelease(app.release_uuid)}`;
    const status = app.releases[app.release_uuid ?? '']?.update_status;
    lines.push(
      `  ${paint('bold', harmless(app.name ?? key))} (${harmless(key)})${harmless(running)}, deployed on the device${status === undefined ? '' : `: ${harmless(status)}`}`,
    );
    lines.push(...servicesText(app, paint));
  }
  return lines;
}

function servicesText(app: AppState | undefined, paint: Paint): string[] {
  if (!app) return [];
  const running = app.releases[app.release_uuid ?? ''] ?? Object.values(app.releases)[0];
  return Object.entries(running?.services ?? {}).flatMap(([name, service]) => {
    const progress = service.download_progress == null ? '' : ` ${service.download_progress} %`;
    const line = `    ${harmless(name)}  ${harmless(service.status)}${progress}  ${paint('dim', harmless(service.image))}`;
    return service.error === undefined ? [line] : [line, `      ${paint('red', harmless(service.error))}`];
  });
}

function changeText(key: string, changes: DeviceState): string {
  const value = (changes as Record<string, unknown>)[key];
  if (key !== 'apps' || typeof value !== 'object' || value === null) {
    return `${key} ${value === null ? 'gone' : String(value)}`;
  }
  const apps = Object.entries(value as Record<string, AppState>).map(([id, app]) => {
    const statuses = Object.entries(app.releases).map(([release, { update_status: status }]) =>
      `${shortRelease(release)} ${status ?? ''}`.trimEnd(),
    );
    return `${app.name ?? id}: ${statuses.join(', ') || 'nothing'}`;
  });
  return apps.length > 0 ? apps.join('; ') : 'no apps';
}
