import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError } from '@millrace/wire';
import * as z from 'zod';

const schema = z.object({
  uuid: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
  apiKey: z.string().min(16),
});

/** Who this device is: kept in `device.json` of the data folder, readable by its owner alone. */
export type DeviceIdentity = z.infer<typeof schema>;

/**
 * Reads the identity, or makes one: a random uuid (32 hex digits, as balena's are) and a random key that the
 * device will register with. `given` from the configuration wins over what is kept, and need not be saved: with
 * both given, a device whose disk cannot be written has an identity all the same.
 *
 * @throws MillraceError `DATA_DIR_UNUSABLE` when the folder cannot be used or the file is damaged
 */
export function loadIdentity(
  dataDir: string,
  given: { uuid?: string; apiKey?: string } = {},
): DeviceIdentity {
  const path = join(dataDir, 'device.json');
  const kept = read(path);
  const identity: DeviceIdentity = {
    uuid: given.uuid ?? kept?.uuid ?? randomBytes(16).toString('hex'),
    apiKey: kept?.apiKey ?? randomBytes(32).toString('base64url'),
  };
  if (identity.uuid !== kept?.uuid || identity.apiKey !== kept?.apiKey) {
    try {
      save(dataDir, path, identity);
    } catch (error) {
      // Nothing of it is needed that the configuration does not say again at the next start.
      if (given.uuid === undefined || given.apiKey === undefined) throw error;
    }
  }
  return identity;
}

function read(path: string): DeviceIdentity | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new MillraceError('DATA_DIR_UNUSABLE', `${path} cannot be read`, { cause });
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    // Making a new identity in silence would leave a second device of the same name behind in the cloud.
    throw new MillraceError(
      'DATA_DIR_UNUSABLE',
      `${path} is damaged; restore it, or remove it to join as a new device`,
      { cause },
    );
  }
}

function save(dataDir: string, path: string, identity: DeviceIdentity): void {
  try {
    mkdirSync(dataDir, { recursive: true });
    // Renamed into place, so that a crash leaves the old file or the new one.
    writeFileSync(`${path}.new`, `${JSON.stringify(identity)}\n`, { mode: 0o600, flush: true });
    renameSync(`${path}.new`, path);
  } catch (cause) {
    throw new MillraceError('DATA_DIR_UNUSABLE', `${dataDir} cannot be written`, { cause });
  }
}
