/** The far end has stored everything of a journal up to and including `through`. */
export interface CloudAck {
  journal: string;
  through: number;
  /** Seqs that are stored, first and last of each range, whatever is missing below. Over MQTT. */
  stored?: [first: number, last: number][];
}

// An acknowledgement takes some 70 bytes. Whatever is longer is no line of this protocol.
const maxLineChars = 4096;

/**
 * Reads the acknowledgements out of a stream of NDJSON, cut anywhere:
 *
 *   {"ack":{"journal":"k3v9x0…","through":1250}}
 *   {"ack":{"journal":"k3v9x0…","through":1250,"stored":[[1,1250],[4001,4200]]}}
 *
 * Over HTTP a number alone goes further in the journal of the acknowledgement before it:
 *
 *   1251
 *
 * Between them, where a cloud has something for the device to run, its version (wire/apps/target.ts):
 *
 *   {"target":"k81x…"}
 *
 * Blank lines and other objects (heartbeats, and what later versions add) are passed over.
 */
export class AckReader {
  #rest = '';
  #skipping = false;
  #journal: string | undefined;
  readonly #onTarget: ((version: string) => void) | undefined;

  constructor(onTarget?: (version: string) => void) {
    this.#onTarget = onTarget;
  }

  push(text: string): CloudAck[] {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    const acks: CloudAck[] = [];
    for (const line of lines) {
      if (this.#skipping) {
        this.#skipping = false;
        continue;
      }
      const ack = this.#shortAck(line) ?? parseAck(line, this.#onTarget);
      if (!ack) continue;
      acks.push(ack);
      this.#journal = ack.journal;
    }
    if (this.#rest.length > maxLineChars) {
      this.#rest = '';
      this.#skipping = true;
    }
    return acks;
  }

  /** Ends the stream: its last line may lack the newline. */
  end(): CloudAck[] {
    return this.push('\n');
  }

  #shortAck(line: string): CloudAck | undefined {
    if (this.#journal === undefined || !/^\d{1,15}$/.test(line)) return undefined;
    return { journal: this.#journal, through: Number(line) };
  }
}

function parseAck(line: string, onTarget?: (version: string) => void): CloudAck | undefined {
  if (!line.startsWith('{') || line.length > maxLineChars) return undefined;
  let ack: unknown;
  let target: unknown;
  try {
    ({ ack, target } = JSON.parse(line) as { ack?: unknown; target?: unknown });
  } catch {
    return undefined;
  }
  if (typeof target === 'string') onTarget?.(target);
  if (typeof ack !== 'object' || ack === null) return undefined;
  const { journal, through, stored } = ack as Record<string, unknown>;
  if (typeof journal !== 'string' || typeof through !== 'number' || !Number.isSafeInteger(through)) {
    return undefined;
  }
  return Array.isArray(stored) ? { journal, through, stored: stored.filter(isRange) } : { journal, through };
}

function isRange(value: unknown): value is [number, number] {
  return Array.isArray(value) && value.length === 2 && value.every(Number.isSafeInteger);
}
