import type { ClockSkews } from '../clock/skew.ts';
import type { Presence } from '../identity/presence.ts';
import type { Scope } from '../query/index.ts';
import type { Tag } from '../records/devices.ts';
import type { Records } from '../records/records.ts';
import type { LogStore } from '../store/index.ts';
import { appsInShort } from '../targets/progress.ts';
import type { DeviceView } from './schemas.ts';

export interface DeviceListParts {
  records: Records;
  store: LogStore;
  presence: Presence;
  skews: ClockSkews;
}

export interface DeviceListQuery {
  fleet?: string;
  /** Tags that it must all have. */
  tags?: readonly Tag[];
  online?: boolean;
  /** Behind this uuid. */
  after?: string;
  limit: number;
}

/** Devices looked at in one go. Each may be named in a statement. */
const stepDevices = 1000;

/**
 * Who has registered, was named, has sent lines, or has said whether it is online, by uuid: what a caller may see of
 * them, at most so many.
 */
export async function listDevices(
  parts: DeviceListParts,
  query: DeviceListQuery,
  scope: Scope,
): Promise<DeviceView[]> {
  const { online, limit } = query;
  const found: DeviceView[] = [];
  let after = query.after;
  for (;;) {
    const step = await nextDevices(parts, { ...query, after }, scope);
    for (const device of step.devices) {
      if (online !== undefined && (device.online ?? false) !== online) continue;
      found.push(device);
      if (found.length === limit) return found;
    }
    if (step.through === undefined) return found;
    after = step.through;
  }
}

/** One device; `undefined` when nothing is known of it. */
export async function oneDevice(parts: DeviceListParts, uuid: string): Promise<DeviceView | undefined> {
  const [device] = await devicesOf(parts, [uuid]);
  return device;
}

interface Step {
  devices: DeviceView[];
  /** Where to go on; none when these were the last. */
  through?: string;
}

/** The next devices that the records' side of a query lets through. */
async function nextDevices(parts: DeviceListParts, query: DeviceListQuery, scope: Scope): Promise<Step> {
  const { fleet, tags, after } = query;
  const page = { after, limit: stepDevices };
  if (fleet !== undefined || tags !== undefined) {
    const uuids = scope.devices === 'all' ? undefined : [...scope.devices];
    const rows = await parts.records.devices.list({ ...page, uuids, fleet, tags });
    return stepOf(await devicesOf(parts, uuidsOf(rows)), uuidsOf(rows));
  }
  if (scope.devices !== 'all') {
    const uuids = [...scope.devices].sort(byBytes);
    const from = after === undefined ? 0 : uuids.findIndex((uuid) => byBytes(uuid, after) > 0);
    const some = from < 0 ? [] : uuids.slice(from, from + stepDevices);
    return stepOf(await devicesOf(parts, some), some);
  }
  // The first of each source: among the first of all of them none is missing anything.
  const [rows, stats, states] = await Promise.all([
    parts.records.devices.list(page),
    parts.store.deviceStats(page),
    parts.records.presence.list(page),
  ]);
  const all = new Set([...uuidsOf(rows), ...stats.map(({ device }) => device), ...uuidsOf(states)]);
  const uuids = [...all].sort(byBytes).slice(0, stepDevices);
  const reports = await parts.records.states.inShort(uuids);
  return stepOf(joined(parts, uuids, { rows, stats, states, reports }), uuids);
}

function stepOf(devices: DeviceView[], uuids: readonly string[]): Step {
  return uuids.length < stepDevices ? { devices } : { devices, through: uuids.at(-1) };
}

/** Those of some devices of which anything is known. */
async function devicesOf(parts: DeviceListParts, uuids: readonly string[]): Promise<DeviceView[]> {
  if (uuids.length === 0) return [];
  const [rows, stats, states, reports] = await Promise.all([
    parts.records.devices.list({ uuids }),
    parts.store.deviceStats({ devices: uuids }),
    parts.records.presence.list({ uuids }),
    parts.records.states.inShort(uuids),
  ]);
  return joined(parts, uuids, { rows, stats, states, reports });
}

interface Sources {
  /** When each last reported its state, and what of its apps. */
  reports: Awaited<ReturnType<Records['states']['inShort']>>;
  rows: Awaited<ReturnType<Records['devices']['list']>>;
  stats: Awaited<ReturnType<LogStore['deviceStats']>>;
  states: Awaited<ReturnType<Records['presence']['list']>>;
}

function joined(parts: DeviceListParts, uuids: readonly string[], sources: Sources): DeviceView[] {
  const wanted = new Set(uuids);
  const byUuid = new Map<string, DeviceView>();
  const view = (uuid: string): DeviceView | undefined => {
    if (!wanted.has(uuid)) return undefined;
    let device = byUuid.get(uuid);
    if (!device) {
      device = unknownDevice(uuid);
      byUuid.set(uuid, device);
    }
    return device;
  };
  for (const { uuid, name, keyHash, createdAtMs, fleet, tags } of sources.rows) {
    const registered = keyHash !== null;
    Object.assign(view(uuid) ?? {}, { name, registered, createdAt: createdAtMs, fleet, tags });
  }
  for (const { device, lines, bytes, missing, firstSeen, lastSeen } of sources.stats) {
    Object.assign(view(device) ?? {}, { lines, bytes, missing, firstSeen, lastSeen });
  }
  for (const { uuid } of sources.states) view(uuid);
  const said = new Map(sources.states.map((state) => [state.uuid, state]));
  for (const device of byUuid.values()) {
    const report = sources.reports.get(device.uuid);
    const reportedAtMs = report?.reportedAtMs;
    const known = parts.presence.of(device.uuid, { said: said.get(device.uuid), reportedAtMs });
    device.online = known?.online ?? null;
    device.onlineChangedAt = known?.changedAtMs ?? null;
    device.reportedAt = reportedAtMs ?? null;
    device.apps = appsInShort(report?.apps);
    device.clockSkewMs = parts.skews.of(device.uuid);
  }
  return uuids.flatMap((uuid) => byUuid.get(uuid) ?? []);
}

function uuidsOf(rows: readonly { uuid: string }[]): string[] {
  return rows.map(({ uuid }) => uuid);
}

/** As both databases order names. */
function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function unknownDevice(uuid: string): DeviceView {
  return {
    uuid,
    name: null,
    fleet: null,
    tags: {},
    registered: false,
    online: null,
    onlineChangedAt: null,
    reportedAt: null,
    apps: [],
    createdAt: null,
    firstSeen: null,
    lastSeen: null,
    lines: 0,
    bytes: 0,
    clockSkewMs: null,
    missing: 0,
  };
}
