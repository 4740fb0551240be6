import { readFileSync } from 'node:fs';
import type { EntryOrigin } from './entry.ts';

export type EntryFilter = (origin: EntryOrigin) => boolean;

/**
 * Chooses entries by the units that they are of or about, or by their identifier: `ssh.service`, `docker*`, `kernel`.
 * A name without a suffix is also that of a service. No names choose everything.
 */
export function unitFilter(names: readonly string[]): EntryFilter {
  if (names.length === 0) return () => true;
  const patterns = names.map(patternOf);
  return ({ writers, subjects, identifier }) =>
    patterns.some(
      ({ whole, service }) =>
        [...writers, ...subjects].some((unit) => whole.test(unit) || service.test(unit)) ||
        (identifier !== undefined && whole.test(identifier)),
    );
}

function patternOf(name: string): { whole: RegExp; service: RegExp } {
  const text = name
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*+/g, '.*')
    .replaceAll('?', '.');
  return { whole: new RegExp(`^${text}$`, 's'), service: new RegExp(`^${text}\\.service$`, 's') };
}

export interface OwnUnitClues {
  /** Text of `/proc/self/cgroup`. */
  cgroup: string;
  /** Set where systemd has connected a service's output to the journal; see systemd.exec(5). */
  journalStream: string | undefined;
}

/** The systemd unit whose output ours is; `undefined` when it does not go to the journal, or is a container's. */
export function ownUnit({ cgroup, journalStream }: OwnUnitClues): string | undefined {
  if (!journalStream) return undefined;
  // `0::/system.slice/millrace.service`, and on older systems a line per controller, systemd's among them.
  for (const line of cgroup.split('\n')) {
    const path = /^(?:0:|\d+:name=systemd):(.*)$/.exec(line)?.[1];
    const last = path?.split('/').at(-1);
    if (last?.endsWith('.service')) return last;
  }
  return undefined;
}

/** {@link ownUnit} of this process. */
export function findOwnUnit(env: Record<string, string | undefined>): string | undefined {
  const journalStream = env.JOURNAL_STREAM;
  return journalStream ? ownUnit({ cgroup: textOf('/proc/self/cgroup'), journalStream }) : undefined;
}

/** Id of the boot that this machine is in, as journald writes it. */
export function presentBoot(): string | undefined {
  return textOf('/proc/sys/kernel/random/boot_id').trim().replaceAll('-', '') || undefined;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // No such file outside Linux; then there is no journal either.
    return '';
  }
}
