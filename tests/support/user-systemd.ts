import { existsSync } from 'node:fs';
import { mkdir, rmdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Program, startProgram } from './programs.ts';
import { until } from './wait.ts';

/** A service manager of a user, real systemd, that belongs to the test. */
export interface UserSystemd extends AsyncDisposable {
  /** The user's home folder, empty at first. */
  readonly home: string;
  /** Runs a program where that systemd is the one to speak to. */
  run(args: string[], options?: { command?: string; env?: Record<string, string> }): Program;
}

/*
 * systemd and systemctl look whether /run/systemd/system exists before they believe that systemd is there. It does in
 * a mount namespace that only this systemd and what speaks to it see. Nor does it see the controllers of cgroups v1, in
 * which it is where all others are: it would put all of the machine into a group of its own.
 */
const setUp = `
set -e
for group in $CGROUPS; do echo $$ > "$group/cgroup.procs"; done
for controller in /sys/fs/cgroup/*; do
  case $controller in */systemd|*/unified) ;; *) if mountpoint -q "$controller"; then umount "$controller"; fi ;; esac
done
mkdir -p /run/systemd
mount -t tmpfs none /run/systemd
mkdir /run/systemd/system
exec /lib/systemd/systemd --user`;

/** Starts `systemd --user`, in a second or so; needs root for the mount namespace. */
export async function startUserSystemd(folder: string): Promise<UserSystemd> {
  const home = join(folder, 'home');
  const runtime = join(folder, 'run');
  for (const path of [home, runtime]) await mkdir(path, { recursive: true, mode: 0o700 });
  // It takes the control group it is in for its own, and clears away what is empty in it: not others' containers.
  const hierarchies = ['/sys/fs/cgroup/systemd', '/sys/fs/cgroup/unified'].filter((path) => existsSync(path));
  if (hierarchies.length === 0) hierarchies.push('/sys/fs/cgroup');
  const cgroups = hierarchies.map((path) => join(path, basename(folder)));
  for (const path of cgroups) await mkdir(path);
  const env = { HOME: home, XDG_RUNTIME_DIR: runtime };
  const daemon = startProgram(['-m', 'sh', '-c', setUp], {
    command: 'unshare',
    env: { ...env, CGROUPS: cgroups.join(' '), SYSTEMD_LOG_TARGET: 'console' },
  });
  const run: UserSystemd['run'] = (args, { command = process.execPath, env: more = {} } = {}) =>
    startProgram(['-m', '-t', String(daemon.pid), '--wd=.', command, ...args], {
      command: 'nsenter',
      env: { ...env, ...more },
    });
  const isUp = async () => {
    if (!daemon.running) throw new Error(`systemd --user ended: ${daemon.stdout}${daemon.stderr}`);
    await using asked = run(['--user', 'is-system-running'], { command: 'systemctl' });
    await asked.ended();
    return /running|degraded/.test(asked.stdout);
  };
  await until(isUp, { what: 'systemd --user' });
  return {
    home,
    run,
    // Stops its services in order.
    [Symbol.asyncDispose]: async () => {
      await daemon.end('SIGTERM');
      // systemd has removed both when all went well.
      for (const path of cgroups.flatMap((cgroup) => [join(cgroup, 'init.scope'), cgroup])) {
        await rmdir(path).catch(() => undefined);
      }
    },
  };
}
