import { closeSync, fstatSync, openSync } from 'node:fs';

/**
 * Puts /dev/null in the place of a standard input that is a pipe or a file.
 *
 * The embedded engine behaves as `clickhouse local` does in a shell: what waits on stdin becomes rows of the next
 * INSERT, whatever that is, and with a pipe that stays open the INSERT never ends. No setting turns that off. A
 * terminal it leaves alone, and so do we. A server has no other use for its stdin.
 *
 * @returns whether it had to
 */
export function shieldStdin(): boolean {
  try {
    // Terminals and /dev/null are character devices.
    if (fstatSync(0).isCharacterDevice()) return false;
  } catch {
    // There is none: nothing to read either.
    return false;
  }
  closeSync(0);
  // An open takes the lowest number that is free.
  const fd = openSync('/dev/null', 'r');
  if (fd !== 0) closeSync(fd);
  return true;
}
