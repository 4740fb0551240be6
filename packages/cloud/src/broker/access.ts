import { parseDeviceTopic } from '@millrace/wire';

/** Whom a connection to the embedded broker belongs to. */
export type Principal = { kind: 'admin' } | { kind: 'device'; uuid: string } | { kind: 'anonymous' };

/**
 * Who may do what at the embedded broker.
 *
 * | who                    | publishes                                        | subscribes        |
 * |------------------------|--------------------------------------------------|-------------------|
 * | a device (uuid + key)  | device/{own}/… but logs/ack, target; outside device/ | device/{own}/…  |
 * | `admin` + admin token  | everything but device/+/logs                     | everything        |
 * | anonymous, on loopback | everything outside device/                       | all but $…        |
 *
 * Nobody publishes under `$`. Lines enter a device's log by that device's own connection alone, which is what
 * makes the uuid of a stored line trustworthy.
 */
export function mayPublish(principal: Principal, topic: string): boolean {
  if (topic.startsWith('$')) return false;
  switch (principal.kind) {
    case 'admin':
      return parseDeviceTopic(topic)?.channel !== 'logs';
    case 'device': {
      if (!isUnderDevice(topic)) return true;
      const own = parseDeviceTopic(topic);
      return own?.uuid === principal.uuid && own.channel !== 'logs/ack' && own.channel !== 'target';
    }
    case 'anonymous':
      return !isUnderDevice(topic);
  }
}

/** @see {@link mayPublish} */
export function maySubscribe(principal: Principal, filter: string): boolean {
  switch (principal.kind) {
    case 'admin':
      return true;
    case 'device':
      return filter.startsWith(`device/${principal.uuid}/`);
    case 'anonymous':
      return !filter.startsWith('$');
  }
}

/**
 * Whether a message reaches a subscriber, whatever filter it matches: a target holds what its device alone may know.
 */
export function mayReceive(principal: Principal | undefined, topic: string): boolean {
  const of = parseDeviceTopic(topic);
  if (of?.channel !== 'target' || principal?.kind === 'admin') return true;
  return principal?.kind === 'device' && principal.uuid === of.uuid;
}

function isUnderDevice(topic: string): boolean {
  return topic === 'device' || topic.startsWith('device/');
}

/** Whether an address is this machine's own, in either notation. */
export function isLoopback(address: string | undefined): boolean {
  if (!address) return false;
  const plain = address.startsWith('::ffff:') ? address.slice(7) : address;
  return plain === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(plain);
}

/**
 * Whether a web page of this origin may open a WebSocket. Programs other than browsers send no Origin. A page
 * from elsewhere must be listed, for a browser on this machine would let it in as loopback.
 */
export function isOriginAllowed(origin: string | undefined, allowed: readonly string[]): boolean {
  if (origin === undefined || allowed.includes('*')) return true;
  const parsed = URL.parse(origin);
  if (!parsed || parsed.origin === 'null') return false;
  if (allowed.includes(parsed.origin)) return true;
  const isWeb = parsed.protocol === 'http:' || parsed.protocol === 'https:';
  return isWeb && ['localhost', '127.0.0.1', '[::1]'].includes(parsed.hostname);
}
