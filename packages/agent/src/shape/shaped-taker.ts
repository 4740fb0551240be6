import { fieldsOf, type LogInput } from '@millrace/wire';
import { levelOf } from '../classify/level.ts';
import type { LineTaker } from '../logging/source.ts';
import type { SourcePosition } from '../logging/types.ts';
import type { RuleSource } from './container-shaping.ts';
import { redactedFields } from './redacted.ts';
import { appliesTo, combine } from './rules.ts';
import { type DropCounts, noDrops, Shaper } from './shaper.ts';

interface Held {
  line: LogInput;
  key: string | undefined;
}

/** How much is read again after a crash when nothing of it was wanted. */
const moveIntervalMs = 5_000;
/** Names for which state is kept; whoever sends syslog chooses them. */
const maxNames = 1000;

/**
 * What happens to lines that come from no container, on their way to the journal: a level is looked for where the
 * source knows none, and the rules of the shaping file apply, by the name of the service. Positions never go back, and
 * none is saved before its line: a summary of lines that were dropped is saved with the place behind the newest of those
 * that came before.
 */
export class ShapedTaker implements LineTaker {
  readonly drops: DropCounts = noDrops();
  readonly #taker: LineTaker;
  readonly #rules: RuleSource | undefined;
  /** By name; `undefined` where no rule is meant for it. */
  readonly #shapers = new Map<string, Shaper<Held> | undefined>();
  /** Behind lines that were not handed on. */
  readonly #pending = new Map<string, SourcePosition>();
  #current: { line: LogInput; position: SourcePosition | undefined; isTaken: boolean } | undefined;
  #movedMs = performance.now();

  constructor({ taker, rules }: { taker: LineTaker; rules: RuleSource | undefined }) {
    this.#taker = taker;
    this.#rules = rules;
  }

  log(line: LogInput, position?: SourcePosition): void | Promise<void> {
    const { message } = line;
    const level = line.level ?? levelIn(message);
    const shaper = this.#shaperOf(line.serviceName ?? line.source?.name ?? '');
    if (!shaper) {
      if (position) this.#pending.delete(position.key);
      return this.#taker.log(whole({ ...line, ...(level && { level }) }), position);
    }
    const current = { line, position, isTaken: false };
    this.#current = current;
    const taken = shaper.take({
      ...{ stream: line.isStdErr ? 'err' : 'out', message, level },
      timestampMs: line.timestamp ?? Date.now(),
      mark: { line, key: position?.key },
    });
    if (!current.isTaken && position) this.#pending.set(position.key, position);
    return taken;
  }

  move(position: SourcePosition): void {
    this.#pending.delete(position.key);
    this.#taker.move?.(position);
  }

  forget(key: string): void {
    this.#pending.delete(key);
    this.#taker.forget?.(key);
  }

  /** The rules have changed. */
  async reshape(): Promise<void> {
    const before = [...this.#shapers.values()];
    this.#shapers.clear();
    for (const shaper of before) await shaper?.flush();
  }

  /** Hands on what is left to say of lines that were dropped, and where their sources stand. */
  async flush(): Promise<void> {
    await this.reshape();
    this.#moveAll();
  }

  #shaperOf(name: string): Shaper<Held> | undefined {
    if (!this.#rules || this.#rules.rules.length === 0) return undefined;
    if (this.#shapers.has(name)) return this.#shapers.get(name);
    const rules = combine(
      this.#rules.rules.filter((rule) => appliesTo(rule, undefined, { serviceName: name })),
    );
    const shaper =
      rules &&
      new Shaper<Held>({
        rules,
        drops: this.drops,
        deliver: ({ message, level, timestampMs, mark }) => {
          const { fields } = mark.line;
          const line = {
            ...mark.line,
            ...{ message, timestamp: timestampMs },
            ...(level && { level }),
            ...(fields && { fields: redactedFields(fields, rules.redact) }),
          };
          return this.#taker.log(whole(line), this.#positionFor(mark));
        },
        skip: () => this.#moveSometimes(),
      });
    const [oldest] = this.#shapers.keys();
    if (this.#shapers.size >= maxNames && oldest !== undefined) {
      void this.#shapers.get(oldest)?.flush();
      this.#shapers.delete(oldest);
    }
    this.#shapers.set(name, shaper);
    return shaper;
  }

  #positionFor({ line, key }: Held): SourcePosition | undefined {
    const current = this.#current;
    const isCurrent = current?.line === line;
    if (isCurrent) current.isTaken = true;
    if (key === undefined) return undefined;
    const position = isCurrent ? current.position : this.#pending.get(key);
    this.#pending.delete(key);
    return position;
  }

  #moveSometimes(): void {
    const nowMs = performance.now();
    if (nowMs - this.#movedMs < moveIntervalMs) return;
    this.#movedMs = nowMs;
    this.#moveAll();
  }

  #moveAll(): void {
    for (const position of this.#pending.values()) this.#taker.move?.(position);
    this.#pending.clear();
  }
}

/**
 * Readers derive the fields of a message only for lines without any. What a source says of a line goes beside those
 * of the message then, as it is after redaction.
 */
function whole(line: LogInput): LogInput {
  return line.fields ? { ...line, fields: { ...fieldsOf(line.message), ...line.fields } } : line;
}

function levelIn(message: string) {
  const bytes = Buffer.from(message);
  return levelOf(bytes, 0, bytes.length);
}
