import { readFileSync } from 'node:fs';
import { arch, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import type { DeviceState } from '@millrace/wire';

/** What a machine is; it may change, but seldom does. `root` as in {@link SystemMeter}. */
export function systemFacts(root = '/'): DeviceState {
  const text = (path: string) => {
    try {
      return readFileSync(join(root, path), 'utf8').replaceAll('\0', '').trim();
    } catch {
      return '';
    }
  };
  const os = /^PRETTY_NAME="?([^"\n]+)"?$/m.exec(text('etc/os-release') || text('usr/lib/os-release'))?.[1];
  const serial =
    text('sys/firmware/devicetree/base/serial-number') ||
    /^Serial\s*:\s*(\S+)$/m.exec(text('proc/cpuinfo'))?.[1];
  const { ips, macs } = addresses();
  return {
    architecture: arch(),
    ...(os !== undefined && { os_version: os }),
    ...(serial && { cpu_id: serial }),
    ...(ips.length > 0 && { ip_address: ips.join(' ') }),
    ...(macs.length > 0 && { mac_address: macs.join(' ') }),
  };
}

/** Those by which others reach the machine: not those of bridges and of the cables to containers. */
function addresses(): { ips: string[]; macs: string[] } {
  const ips: string[] = [];
  const macs = new Set<string>();
  for (const [name, entries = []] of Object.entries(networkInterfaces())) {
    if (/^(docker|br-|veth|cni|virbr|lo)/.test(name)) continue;
    for (const { address, mac, internal } of entries) {
      if (internal || address.startsWith('fe80:')) continue;
      ips.push(address);
      macs.add(mac);
    }
  }
  return { ips, macs: [...macs] };
}
