/**
 * What a key of a JSON object, or of a pair `key=value`, says of its value.
 *
 * - `level`: it is a level, as a word or a number.
 * - `otel`, `python`: it is a number of a scale of its own.
 * - `priority`: it may be a level, or how urgent a task is.
 * - `holder`: an object that holds the level among other keys; `record`: one that may be what a program is about as well.
 * - `name`: of a level that is an object, how it is called.
 * - `time`, `initial`: MongoDB's `t` and `s`.
 */
export type KeyKind =
  | 'level'
  | 'otel'
  | 'python'
  | 'priority'
  | 'holder'
  | 'record'
  | 'name'
  | 'time'
  | 'initial';

/** In lower case; they count in any. */
const keys: Readonly<Record<KeyKind, readonly string[]>> = {
  level: [
    ...['level', 'lvl', 'severity', 'log.level', 'log_level', 'loglevel', 'levelname', 'level_name'],
    ...['severitytext', 'severity_text'],
    // Serilog, hclog, tslog, Laminas, PostgreSQL
    ...['@l', '@level', 'loglevelname', 'priorityname', 'error_severity'],
  ],
  // OpenTelemetry
  otel: ['severitynumber', 'severity_number'],
  python: ['levelno'],
  priority: ['priority'],
  // Elastic Common Schema, tslog
  holder: ['log', '_meta'],
  // loguru
  record: ['record'],
  // loguru and Log4j, log4js
  name: ['name', 'levelstr'],
  time: ['t'],
  initial: ['s'],
};

/** By length, each with its kind. */
const known: (readonly [text: string, kind: KeyKind])[][] = Array.from({ length: 32 }, () => []);
/** By first byte, a bit for each length that a key above has. */
const lengths = new Int32Array(256);

for (const [kind, ofKind] of Object.entries(keys)) {
  for (const text of ofKind) {
    known[text.length]?.push([text, kind as KeyKind]);
    for (const initial of [text, text.toUpperCase()]) {
      const byte = initial.charCodeAt(0);
      lengths[byte] = (lengths[byte] as number) | (1 << text.length);
    }
  }
}

/** Whether the key `bytes[from..to)` may be one of ours: few others pass, and all are spared a comparison. */
export function mayBeKnown(bytes: Buffer, from: number, to: number): boolean {
  return (((lengths[bytes[from] as number] as number) >>> (to - from)) & 1) !== 0;
}

/** The kind of a key that {@link mayBeKnown}. */
export function keyKind(bytes: Buffer, from: number, to: number): KeyKind | undefined {
  // Most of those that are; apart from the others, so that this much can be compiled into its callers.
  return to - from === 5 && equals(bytes, from, 'level') ? 'level' : listedKind(bytes, from, to);
}

function listedKind(bytes: Buffer, from: number, to: number): KeyKind | undefined {
  // A shift takes a length for one that is 32 shorter.
  if (to - from >= known.length) return undefined;
  for (const [text, kind] of known[to - from] as (typeof known)[number]) {
    if (equals(bytes, from, text)) return kind;
  }
  return undefined;
}

/** Whether `text`, in lower case, lies at `from`, in any case. */
function equals(bytes: Buffer, from: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const byte = bytes[from + i] as number;
    const char = text.charCodeAt(i);
    if (byte !== char && (byte | 0x20) !== char) return false;
  }
  return true;
}
