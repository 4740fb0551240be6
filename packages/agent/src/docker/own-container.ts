import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';

export interface OwnContainerClues {
  /** Text of `/proc/self/mountinfo`. */
  mountInfo: string;
  /** Text of `/proc/self/cgroup`. */
  cgroup: string;
  hostname: string;
}

const idInPath = /[0-9a-f]{64}/g;
// Docker bind-mounts these three into every container, from a folder named after it.
const ownFiles = new Set(['/etc/hostname', '/etc/hosts', '/etc/resolv.conf']);

/**
 * The id of the container that this process runs in, from what the kernel says: 64 hexadecimal digits, or the
 * first 12 of them when only the hostname tells; `undefined` outside a container.
 */
export function ownContainerId({ mountInfo, cgroup, hostname: host }: OwnContainerClues): string | undefined {
  for (const line of mountInfo.split('\n')) {
    // `36 35 98:0 /root/within/its/filesystem /mount/point …` (proc_pid_mountinfo(5)). Only those three mount
    // points count: on the machine itself the mounts of all its containers are listed.
    const [, , , root = '', mountPoint = ''] = line.split(' ');
    if (!ownFiles.has(mountPoint)) continue;
    const id = /\/containers\/([0-9a-f]{64})\//.exec(root)?.[1];
    if (id) return id;
  }
  for (const line of cgroup.split('\n')) {
    // The last id is the innermost container's.
    const id = line.match(idInPath)?.at(-1);
    if (id) return id;
  }
  return /^[0-9a-f]{12}$/.test(host) ? host : undefined;
}

/** {@link ownContainerId} of this process. Without `/proc` only the hostname counts. */
export async function findOwnContainer(): Promise<string | undefined> {
  const read = (path: string) => readFile(path, 'utf8').catch(() => '');
  const [mountInfo, cgroup] = await Promise.all([read('/proc/self/mountinfo'), read('/proc/self/cgroup')]);
  return ownContainerId({ mountInfo, cgroup, hostname: hostname() });
}
