import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import * as z from 'zod';
import type { ClockSkews } from '../clock/skew.ts';
import type { Presence } from '../identity/presence.ts';
import type { Records } from '../records/records.ts';
import type { LogStore } from '../store/index.ts';
import { type DeviceView, deviceSchema, gapSchema, problemSchema } from './schemas.ts';

export interface DeviceRoutesOptions {
  records: Records;
  store: LogStore;
  presence: Presence;
  skews: ClockSkews;
}

/** Most gaps in one answer. */
const maxGaps = 1000;

/**
 * `GET /devices`: who has registered or sent lines, and what is known of each; `GET /devices/{uuid}/gaps`: which
 * lines of one are missing.
 */
export const deviceRoutes: FastifyPluginAsyncZod<DeviceRoutesOptions> = async (
  app,
  { records, store, presence, skews },
) => {
  app.get(
    '/devices',
    {
      schema: {
        summary: 'List devices',
        tags: ['devices'],
        querystring: z.strictObject({}),
        response: { 200: z.object({ devices: z.array(deviceSchema) }), '4xx': problemSchema },
      },
    },
    async () => {
      const [registered, stats, states] = await Promise.all([
        records.devices.list(),
        store.deviceStats(),
        records.presence.list(),
      ]);
      const byUuid = new Map<string, DeviceView>();
      const view = (uuid: string): DeviceView => {
        let device = byUuid.get(uuid);
        if (!device) {
          device = unknownDevice(uuid);
          byUuid.set(uuid, device);
        }
        return device;
      };
      for (const { uuid, name, createdAtMs } of registered) {
        Object.assign(view(uuid), { name, registered: true, createdAt: createdAtMs });
      }
      for (const { device, lines, bytes, missing, firstSeen, lastSeen } of stats) {
        Object.assign(view(device), { lines, bytes, missing, firstSeen, lastSeen });
      }
      for (const { uuid, online } of states) view(uuid).online = online;
      const devices = [...byUuid.values()].sort((a, b) => (a.uuid < b.uuid ? -1 : 1));
      for (const device of devices) {
        if (presence.isStreaming(device.uuid)) device.online = true;
        device.clockSkewMs = skews.of(device.uuid);
      }
      return { devices };
    },
  );
  app.get(
    '/devices/:uuid/gaps',
    {
      schema: {
        summary: "List what is missing of a device's lines",
        tags: ['devices'],
        params: z.strictObject({ uuid: z.string().max(256, 'must have at most 256 characters') }),
        querystring: z.strictObject({}),
        response: { 200: z.object({ gaps: z.array(gapSchema) }), '4xx': problemSchema },
      },
    },
    async (request) => ({ gaps: await store.gaps(request.params.uuid, maxGaps) }),
  );
};

function unknownDevice(uuid: string): DeviceView {
  return {
    uuid,
    name: null,
    registered: false,
    online: null,
    createdAt: null,
    firstSeen: null,
    lastSeen: null,
    lines: 0,
    bytes: 0,
    clockSkewMs: null,
    missing: 0,
  };
}
