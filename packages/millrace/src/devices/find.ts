import type { MillraceClient } from '@millrace/client';
import type { Device, Fleet } from '@millrace/wire';
import { MillraceError } from '@millrace/wire';

/** What a command line means by a word. */
export type Found = { kind: 'device'; device: Device } | { kind: 'fleet'; fleet: Fleet };

/**
 * Finds a device by its uuid, its name or the beginning of its uuid, or a fleet by its name. `device:` or `fleet:` in
 * front says which of the two is meant.
 *
 * @throws MillraceError `PARAMETER_INVALID` when there is none, or several
 */
export async function findDeviceOrFleet(
  client: MillraceClient,
  given: string,
  { fleets: withFleets, signal }: { fleets: boolean; signal: AbortSignal },
): Promise<Found> {
  const [, kind, named = given] = (withFleets && /^(device|fleet):(.+)$/.exec(given)) || [];
  const devices = kind === 'fleet' ? [] : await Array.fromAsync(client.devices({}, { signal }));
  const fleets =
    !withFleets || kind === 'device' ? [] : await Array.fromAsync(client.fleets.list({ signal }));
  const fleet = fleets.find(({ name }) => name === named);
  const exact = devices.find(({ uuid }) => uuid === named);
  const byName = devices.filter(({ name }) => name === named);
  const byBeginning = devices.filter(({ uuid }) => uuid.startsWith(named));
  const meant = exact ? [exact] : byName.length > 0 ? byName : fleet ? [] : byBeginning;
  if (fleet && meant.length > 0) {
    throw wrong(given, `is the name of a fleet and of a device: say fleet:${named} or device:${named}`);
  }
  if (fleet) return { kind: 'fleet', fleet };
  const [device, ...others] = meant;
  if (device && others.length === 0) return { kind: 'device', device };
  if (device) throw wrong(given, `could be several devices: ${someOf(meant)}`);
  const what = withFleets ? 'device or fleet' : 'device';
  const known = [
    ...(devices.length > 0 ? [`devices: ${someOf(devices)}`] : []),
    ...(fleets.length > 0
      ? [
          `fleets: ${fleets
            .slice(0, 10)
            .map(({ name }) => name)
            .join(', ')}`,
        ]
      : []),
  ];
  throw wrong(given, `there is no such ${what} (${known.join('; ') || 'none yet'})`);
}

function someOf(devices: readonly Device[]): string {
  const shown = devices
    .slice(0, 10)
    .map(({ uuid, name }) => (name === null ? uuid : `${name} ${uuid}`))
    .join(', ');
  return devices.length > 10 ? `${shown} and ${devices.length - 10} more` : shown;
}

function wrong(given: string, why: string): MillraceError {
  return new MillraceError('PARAMETER_INVALID', `${given}: ${why}`);
}
