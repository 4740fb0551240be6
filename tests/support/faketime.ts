import { readdirSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The wall clock of programs that are started with `env`. The time since booting stays what it is. */
export interface FakeClock {
  env: Record<string, string>;
  /** Sets it so far from the true time. Running programs see it within a second. */
  set(offsetMs: number): Promise<void>;
}

/** A clock kept in a file of `folder`, by libfaketime. */
export async function fakeClock(folder: string, offsetMs: number): Promise<FakeClock> {
  const path = join(folder, 'clock');
  const set = async (ms: number) => {
    // Renamed into place: it may be read at any moment.
    await writeFile(`${path}.new`, `${ms < 0 ? '-' : '+'}${Math.abs(ms) / 1000}\n`);
    await rename(`${path}.new`, path);
  };
  await set(offsetMs);
  return {
    env: {
      LD_PRELOAD: faketimeLibrary(),
      FAKETIME_TIMESTAMP_FILE: path,
      // Seconds for which the file is not read again.
      FAKETIME_CACHE_DURATION: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      DONT_FAKE_MONOTONIC: '1',
    },
    set,
  };
}

function faketimeLibrary(): string {
  const folder = readdirSync('/usr/lib').find((name) => {
    try {
      return readdirSync(join('/usr/lib', name, 'faketime')).includes('libfaketime.so.1');
    } catch {
      // Not a folder, or not the one of this machine's architecture.
      return false;
    }
  });
  if (!folder) throw new Error('libfaketime is not installed (package faketime)');
  return join('/usr/lib', folder, 'faketime', 'libfaketime.so.1');
}
