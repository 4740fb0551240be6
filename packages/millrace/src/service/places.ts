import { homedir } from 'node:os';
import { join } from 'node:path';

/** Whose systemd the service belongs to: the machine's, which needs root, or the calling user's own. */
export type Scope = 'system' | 'user';

export const unitName = 'millrace-agent.service';

/** Where the files of the service lie. */
export interface Places {
  readonly scope: Scope;
  /** The unit file. */
  readonly unit: string;
  /** The settings, one `NAME=value` per line; readable by their owner alone, since keys are among them. */
  readonly settings: string;
  /** The data folder when no setting says otherwise. */
  readonly data: string;
}

/**
 * The machine's folders are systemd's and the file hierarchy's; a user's follow the XDG base directories.
 * https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html, file-hierarchy(7)
 */
export function placesOf(scope: Scope, env: Record<string, string | undefined>): Places {
  if (scope === 'system') {
    return {
      scope,
      unit: join('/etc/systemd/system', unitName),
      settings: '/etc/millrace/agent.env',
      data: '/var/lib/millrace',
    };
  }
  const home = env.HOME || homedir();
  const config = env.XDG_CONFIG_HOME || join(home, '.config');
  const state = env.XDG_STATE_HOME || join(home, '.local', 'state');
  return {
    scope,
    unit: join(config, 'systemd', 'user', unitName),
    settings: join(config, 'millrace', 'agent.env'),
    data: join(state, 'millrace'),
  };
}
