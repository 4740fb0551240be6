import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError } from '@millrace/wire';
import { z } from 'zod';

const schema = z.object({
  uuid: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
  apiKey: z.string().min(16),
});

/** Who this device is: kept in `device.json` of the data folder, readable by its owner alone. */
export type DeviceIdentity = z.infer<typeof schema>;

/**
 * Reads the identity, or makes one: a random uuid (32 hex digits, as balena's are) and a random key that the
 * device will register with. `uuid` from the configuration wins over the one kept.
 *
 * @throws MillraceError `DATA_DIR_UNUSABLE` when the folder cannot be used or the file is damaged
 */
export function loadIdentity(dataDir: string, uuid: string | undefined): DeviceIdentity {
  const path = join(dataDir, 'device.json');
  const kept = read(path);
  const identity: DeviceIdentity = {
    uuid: uuid ?? kept?.uuid ?? randomBytes(16).toString('hex'),
    apiKey: kept?.apiKey ?? randomBytes(32).toString('base64url'),
  };
  if (identity.uuid !== kept?.uuid || identity.apiKey !== kept?.apiKey) save(dataDir, path, identity);
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
