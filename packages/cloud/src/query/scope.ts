import { string, stringList } from '../store/sql.ts';

/** Whose lines a caller may see. It is no part of a query: whatever is asked for is taken from among these. */
export interface Scope {
  readonly devices: 'all' | ReadonlySet<string>;
}

/** For admins, and for the program itself. */
export const unlimited: Scope = { devices: 'all' };

/** The scope as a condition; `undefined` when it limits nothing. */
export function scopeSql({ devices }: Scope): string | undefined {
  return devices === 'all' ? undefined : devicesSql(devices);
}

/** That a line is of one of these devices. */
export function devicesSql(devices: ReadonlySet<string>): string {
  if (devices.size === 0) return 'false';
  if (devices.size <= maxListed) return `device IN ${stringList([...devices])}`;
  // As one literal: ten thousand of them take the store twenty times as long to read.
  return `device IN splitByChar('\\0', ${string([...devices].join('\0'))})`;
}

const maxListed = 100;

export function mayRead({ devices }: Scope, device: string): boolean {
  return devices === 'all' || devices.has(device);
}
