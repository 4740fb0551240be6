import { stringList } from '../store/sql.ts';

/** Whose lines a caller may see. It is no part of a query: whatever is asked for is taken from among these. */
export interface Scope {
  readonly devices: 'all' | readonly string[];
}

/** For admins, and for the program itself. */
export const unlimited: Scope = { devices: 'all' };

/** The scope as a condition; `undefined` when it limits nothing. */
export function scopeSql({ devices }: Scope): string | undefined {
  if (devices === 'all') return undefined;
  return devices.length === 0 ? 'false' : `device IN ${stringList(devices)}`;
}

export function mayRead({ devices }: Scope, device: string): boolean {
  return devices === 'all' || devices.includes(device);
}
