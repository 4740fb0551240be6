import * as z from 'zod';
import { MillraceError } from '../errors.ts';
import { limits } from '../limits.ts';
import { composeFieldNames, composeOf, type Mapping, serviceOf, wrong } from './compose-fields.ts';
import { type App, parseApp } from './schema.ts';

/*
 * The target: what a cloud wants a device to run, in the shape of balena's v3 target state. (TargetStateV3 of
 * https://github.com/balena-os/balena-supervisor/blob/master/src/types/state.ts)
 *
 *   {"<uuid>": {"name": "till-7", "config": {}, "apps": {
 *     "<appUuid>": {"id": 1001, "name": "shop", "class": "fleet", "releases": {
 *       "<releaseUuid>": {"id": 12, "volumes": {"data": {}}, "networks": {}, "services": {
 *         "web": {"id": 1, "image_id": 1, "image": "nginx:alpine", "environment": {"A": "b"}, "labels": {},
 *                 "composition": {"ports": ["8080:80"], "restart": "always"}}}}}}}}}
 *
 * `id` of an app is its appId, of a service its serviceId, 0 for none. An app has exactly one release. `composition`
 * holds the other fields of a service under compose's names, in any form that the app API takes; `$` means itself in
 * it. Keys that are not known are passed over, but in `composition` refused by name, since leaving one out would run
 * something else than what was asked for.
 *
 * What it means
 *
 *   - No target (HTTP 404, an empty message) says nothing: the device leaves everything as it is. A target without apps
 *     says that there shall be none.
 *   - It rules over the apps that came from a cloud. One of these that is not in it is removed, and its volumes are
 *     kept. Apps that were deployed on the device itself stay, unless the target holds their appId: then they are the
 *     cloud's from there on.
 *   - A release has a uuid of its own whenever somebody asks for it. A device tries a releaseUuid once: when it failed,
 *     the release before comes back and stays until another uuid comes, even one of the same content, which is tried
 *     anew. When a new uuid has the content of what runs, nothing is touched and it is `done`.
 *   - An app that the device cannot read (APP_INVALID: made for a later version) is `rejected` with the reason, and its
 *     other apps go on.
 *
 * Reports (state.ts) speak of an app of the cloud under its appId, as of all, and of its releases under their uuid:
 *
 *   {"apps": {"1001": {"name": "shop", "release_uuid": "<what runs>", "releases": {
 *     "<wanted>": {"update_status": "rejected", "error": "SERVICE_UNWELL: web …", "services": {}},
 *     "<what runs>": {"update_status": "done", "services": {…}}}}}}
 *
 * `done`: all its services are well. `rejected`: it failed, and the release before is back. `aborted`: it failed and
 * there is none before. Both with `error`. Everything else means that it is still on its way.
 *
 * How a device learns of it: each target has a *version*, a text of up to 64 letters and digits that changes with it.
 *
 *   1. `GET {cloud}/device/v3/{uuid}/state` with the device's key gives the document, `ETag: "<version>"`; with
 *      `If-None-Match: "<version>"` 304 when it is the same; 404 when there is none.
 *   2. MQTT: a retained message, QoS 1, on `device/{uuid}/target`: {"version":"…","state":<the document>}. A document
 *      too large for a message (`limits.maxPublishBytes`) is left out, {"version":"…"}, and fetched by 1. An empty
 *      message clears it: no target. A device that can ask takes any message only as a reason to (decision 31).
 *   3. Over HTTPS: the answer of `PATCH …/device/state` carries `Millrace-Target: <version>`, and a log stream that
 *      was opened with `Millrace-Acks: stream` has lines {"target":"<version>"} among its acknowledgements: one at its
 *      start, one for each change. The device fetches by 1 when it is another version than the one it has. Without a
 *      target neither is there.
 *   4. What went past all of these is found by asking (1) every 15 minutes, give or take some.
 */

export { maxTargetBytes, targetPath, targetPollMs, targetVersionHeader } from '../target-calls.ts';

/** The document, by the device's uuid. */
export type TargetDocument = Record<string, DeviceTarget>;

export interface DeviceTarget {
  name: string;
  config: Record<string, string>;
  /** By uuid. */
  apps: Record<string, TargetApp>;
}

export interface TargetApp {
  id: number;
  name: string;
  class: string;
  /** One, by its uuid. */
  releases: Record<string, TargetRelease>;
}

export interface TargetRelease {
  id: number;
  /** By name. */
  services: Record<string, TargetService>;
  volumes: Record<string, unknown>;
  networks: Record<string, unknown>;
}

export interface TargetService {
  id: number;
  image_id: number;
  image: string;
  environment: Record<string, string>;
  labels: Record<string, string>;
  composition: Record<string, unknown>;
}

/** One app of a target. */
export interface AppRelease {
  appId: number;
  appUuid: string;
  releaseUuid: string;
  /** Counts the releases of a cloud. */
  releaseId: number;
  /** What the app API would have been given for it. */
  given: unknown;
  app: App;
}

/** One app of a target that cannot be read. */
export interface UnreadableRelease extends Pick<AppRelease, 'appId' | 'appUuid' | 'releaseUuid'> {
  error: MillraceError;
}

/** Puts together the document of a device. Apps are taken in the order of their ids, so that it is always the same. */
export function targetDocument(
  device: { uuid: string; name: string },
  apps: readonly AppRelease[],
): TargetDocument {
  const sorted = [...apps].sort((a, b) => a.appId - b.appId);
  const targets = sorted.map((release) => [release.appUuid, targetApp(release)] as const);
  return { [device.uuid]: { name: device.name, config: {}, apps: Object.fromEntries(targets) } };
}

function targetApp({ appId, releaseUuid, releaseId, given, app }: AppRelease): TargetApp {
  const services = (given as { services: Mapping[] }).services;
  const used = (of: (service: App['services'][number]) => readonly string[]) =>
    Object.fromEntries(app.services.flatMap((service) => of(service).map((name) => [name, {}])));
  const release: TargetRelease = {
    id: releaseId,
    services: Object.fromEntries(
      app.services.map((service, i) => [service.serviceName, targetService(services[i] as Mapping, service)]),
    ),
    volumes: used(({ volumes }) =>
      (volumes ?? []).flatMap(({ kind, source }) => (kind === 'volume' ? [source] : [])),
    ),
    networks: used(({ networks }) => networks ?? []),
  };
  return {
    id: appId,
    name: app.appName ?? String(appId),
    class: 'fleet',
    releases: { [releaseUuid]: release },
  };
}

function targetService(given: Mapping, service: App['services'][number]): TargetService {
  const {
    serviceId,
    serviceName: _name,
    imageName,
    environment: _environment,
    labels: _labels,
    ...rest
  } = given;
  const id = service.serviceId ?? 0;
  return {
    id,
    image_id: id,
    image: service.imageName,
    environment: service.environment ?? {},
    labels: service.labels ?? {},
    composition: composeOf(rest),
  };
}

const uuid = z.string().regex(/^[0-9a-zA-Z-]{1,64}$/);
const texts = z.record(z.string(), z.unknown());
const deviceSchema = z.object({
  apps: z.record(
    uuid,
    z.object({
      id: z.int().min(1),
      name: z.string().optional(),
      releases: z.record(uuid, z.object({ id: z.int().min(0).optional(), services: texts })),
    }),
  ),
});
const serviceEnvelope = z.object({
  id: z.int().min(0).optional(),
  image: z.unknown(),
  environment: z.unknown(),
  labels: z.unknown(),
  composition: texts.optional(),
});

/**
 * Reads what a target wants of a device. An app that cannot be read is among them with its error; the others are none
 * the worse for it.
 *
 * @throws MillraceError `TARGET_INVALID` when it is not a target of this device
 */
export function readTarget(document: unknown, deviceUuid: string): (AppRelease | UnreadableRelease)[] {
  // balena's holds the devices that depend on this one, too.
  const devices = texts.safeParse(document);
  if (!devices.success || !Object.hasOwn(devices.data, deviceUuid)) {
    throw new MillraceError('TARGET_INVALID', `it is not for device ${deviceUuid}`);
  }
  const parsed = deviceSchema.safeParse(devices.data[deviceUuid]);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new MillraceError('TARGET_INVALID', `${issue?.path.join('.') || 'it'}: ${issue?.message}`);
  }
  const own = parsed.data;
  return Object.entries(own.apps).map(([appUuid, { id: appId, name, releases }]) => {
    const [[releaseUuid, release] = ['', undefined], ...others] = Object.entries(releases);
    const ids = { appId, appUuid, releaseUuid };
    try {
      if (!release || others.length > 0) throw wrong(`app ${appId} must have one release`);
      // A name that was made of the id, because there was none, is none.
      const given = givenOf(appId, name === String(appId) ? undefined : name, release.services);
      const names = Object.keys(release.services);
      return { ...ids, releaseId: release.id ?? 0, given, app: parseApp(given, composeFieldNames(names)) };
    } catch (error) {
      if (error instanceof MillraceError) return { ...ids, error };
      throw error;
    }
  });
}

function givenOf(appId: number, appName: string | undefined, services: Record<string, unknown>): unknown {
  return {
    appId,
    ...(appName !== undefined && { appName }),
    services: Object.entries(services).map(([serviceName, value]) => {
      const path = `services.${serviceName}`;
      const parsed = serviceEnvelope.safeParse(value);
      if (!parsed.success) {
        throw wrong(`${path}.${parsed.error.issues[0]?.path.join('.')} ${parsed.error.issues[0]?.message}`);
      }
      const { id, image, environment, labels, composition = {} } = parsed.data;
      return {
        ...(id !== undefined && id > 0 && { serviceId: id }),
        ...serviceOf(composition, path),
        serviceName,
        imageName: image,
        ...(isFilled(environment) && { environment }),
        ...(isFilled(labels) && { labels }),
      };
    }),
  };
}

/** An empty mapping says the same as none. */
function isFilled(value: unknown): boolean {
  return (
    value !== undefined && !(typeof value === 'object' && value !== null && Object.keys(value).length === 0)
  );
}

/** What is published, retained, on `device/{uuid}/target`. */
export function encodeTargetMessage(version: string, document: TargetDocument): string {
  const whole = JSON.stringify({ version, state: document });
  return new TextEncoder().encode(whole).length <= limits.maxPublishBytes
    ? whole
    : JSON.stringify({ version });
}

const messageSchema = z.object({ version: z.string().regex(/^\w{1,64}$/), state: z.unknown().optional() });

/**
 * Reads a message on `device/{uuid}/target`.
 *
 * @returns `undefined` when there is no target; without `state` the document must be fetched
 * @throws MillraceError `TARGET_INVALID`
 */
export function decodeTargetMessage(text: string): { version: string; state?: unknown } | undefined {
  if (text === '') return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new MillraceError('TARGET_INVALID', 'the message is not JSON', { cause });
  }
  const parsed = messageSchema.safeParse(value);
  if (!parsed.success) throw new MillraceError('TARGET_INVALID', 'the message has no version');
  return parsed.data;
}
