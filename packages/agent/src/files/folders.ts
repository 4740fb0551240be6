import { readdir, stat, statfs } from 'node:fs/promises';

/** After a change a folder's time stays the same for further ones, until the kernel's clock has ticked. */
const clockTickMs = 50;
const maxListingAgeMs = 1_000;
const maxListings = 64;
const maxFolders = 8192;

interface Listing {
  names: readonly string[];
  changedNs: bigint;
  readMs: number;
}

/** File systems of disks of this machine, by their magic numbers: what is looked up there is not waited for. */
const localTypes = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // XFS
  0x9123683e, // Btrfs
  0xf2f52010, // F2FS
  0x01021994, // tmpfs
  0x794c7630, // overlayfs
  0x2fc12fc1, // ZFS
]);

/** What the folders hold that logs are in. A thousand logs of one folder ask for its names at almost the same time. */
export class Folders {
  readonly #listings = new Map<string, Listing>();
  readonly #local = new Map<string, boolean>();

  /** The names in a folder; none when it cannot be read. */
  async names(folder: string): Promise<readonly string[]> {
    const changedNs = await changedAt(folder);
    const known = this.#listings.get(folder);
    const nowMs = Date.now();
    if (known && known.changedNs === changedNs && nowMs - known.readMs < maxListingAgeMs) return known.names;
    this.#listings.delete(folder);
    const names = await readdir(folder).catch(() => []);
    const isSettled = changedNs !== undefined && nowMs - Number(changedNs / 1_000_000n) > clockTickMs;
    if (isSettled && (await changedAt(folder)) === changedNs) {
      if (this.#listings.size >= maxListings) this.#listings.clear();
      this.#listings.set(folder, { names, changedNs, readMs: nowMs });
    }
    return names;
  }

  /** Whether a folder is on a disk of this machine, as far as {@link learn} has found out. */
  isLocal(folder: string): boolean {
    return this.#local.get(folder) ?? false;
  }

  async learn(folder: string): Promise<void> {
    if (this.#local.has(folder)) return;
    if (this.#local.size >= maxFolders) this.#local.clear();
    const { type } = await statfs(folder).catch(() => ({ type: 0 }));
    this.#local.set(folder, localTypes.has(type));
  }

  forget(folder: string): void {
    this.#local.delete(folder);
    this.#listings.delete(folder);
  }
}

async function changedAt(folder: string): Promise<bigint | undefined> {
  return (await stat(folder, { bigint: true }).catch(() => undefined))?.mtimeNs;
}
