import type { Json } from '../logging/types.ts';

/**
 * Where reading the system's journal stands, saved with every line under the key `journald` as
 *
 *     {"cursor": "s=…;i=…;b=…;m=…;t=…;x=…"}
 *
 * The cursor is journald's own, of the entry read last. Its parts, in hexadecimal but for the ids: `s` the sequence
 * of numbers that `i` is of, `b` the boot, `m` and `t` µs since booting and since 1970, `x` a hash of the contents.
 * Which of two entries comes first is decided here as libsystemd does it.
 */
export interface JournalCursor {
  readonly text: string;
  readonly sequence: string;
  readonly number: bigint;
  readonly boot: string;
  readonly monotonicUs: bigint;
  readonly realtimeUs: bigint;
  readonly hash: string;
}

export const journaldKey = 'journald';

const form =
  /^s=([0-9a-f]{32});i=([0-9a-f]{1,16});b=([0-9a-f]{32});m=([0-9a-f]{1,16});t=([0-9a-f]{1,16});x=([0-9a-f]{1,16})/;

/** `undefined` for what is no cursor of journald's. */
export function parseCursor(text: string): JournalCursor | undefined {
  const match = form.exec(text);
  if (!match) return undefined;
  const [, sequence = '', number, boot = '', monotonic, realtime, hash = ''] = match;
  return {
    text,
    sequence,
    number: BigInt(`0x${number}`),
    boot,
    monotonicUs: BigInt(`0x${monotonic}`),
    realtimeUs: BigInt(`0x${realtime}`),
    hash,
  };
}

/** Reads a saved position; `undefined` when there is none or it is not one of ours. */
export function parseJournaldPosition(value: Json | undefined): JournalCursor | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  return typeof value.cursor === 'string' ? parseCursor(value.cursor) : undefined;
}

/** Whether both name one entry. An entry that journald moved from memory to disk has got another number by that. */
export function isSameEntry(a: JournalCursor, b: JournalCursor): boolean {
  return (
    a.text === b.text ||
    (a.boot === b.boot &&
      a.monotonicUs === b.monotonicUs &&
      a.realtimeUs === b.realtimeUs &&
      a.hash === b.hash)
  );
}

/**
 * Whether `entry` comes after `last`. Across boots only the clock tells, which a boot may begin with unset; so
 * what is of the present boot comes after all of another.
 *
 * @param presentBoot id of the boot that this machine is in, if known
 */
export function isAfter(entry: JournalCursor, last: JournalCursor, presentBoot: string | undefined): boolean {
  if (isSameEntry(entry, last)) return false;
  if (entry.sequence === last.sequence) return entry.number > last.number;
  if (entry.boot === last.boot) return entry.monotonicUs > last.monotonicUs;
  if (entry.boot === presentBoot) return true;
  return entry.realtimeUs > last.realtimeUs;
}
