import { readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { errorText, MillraceError } from '@millrace/wire';
import type { Logger } from 'pino';
import { fileSchema, type Rule } from './rules.ts';

type Yaml = typeof import('yaml');

const maxFileBytes = 1024 * 1024;
const checkIntervalMs = 1_000;

/** Where the parser's own words are for who programs with it. */
const reasons: Readonly<Record<string, string>> = {
  MULTIPLE_DOCS: 'another document begins here; there must be one',
  BAD_DQ_ESCAPE: 'there is no such escape in double quotes; put patterns into single ones',
  BAD_ALIAS: 'text that begins with * needs quotes',
};

/**
 * Reads a shaping file: YAML, or JSON, which is YAML too.
 *
 * @throws MillraceError `CONFIG_INVALID` with the line and the reason
 */
export function parseShaping(text: string, path: string): Rule[] {
  // Nine megabytes that only those pay who have such a file.
  const yaml = createRequire(import.meta.url)('yaml') as Yaml;
  const lines = new yaml.LineCounter();
  // Aliases of aliases could make a small file a large one.
  const document = yaml.parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const wrong = (line: number, reason: string) =>
    new MillraceError('CONFIG_INVALID', `SHAPING_FILE="${path}": line ${line}: ${reason}`);
  const [error] = document.errors;
  if (error) throw wrong(lines.linePos(error.pos[0]).line, reasons[error.code] ?? error.message);
  // A file that was emptied, by a disk that was full say, must not take redactions back.
  if (document.contents === null) throw wrong(1, 'there is nothing in it; without rules it is "rules: []"');
  const parsed = fileSchema.safeParse(documentValue());
  if (parsed.success) return parsed.data.rules;
  const [issue] = parsed.error.issues;
  const where = issue?.path.map(String).join('.') ?? '';
  const reason = `${where}${where && ': '}${issue?.message ?? 'wrong'}`;
  // The key itself has a line; its value may be on another.
  const key = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  throw wrong(lineOfKey(issue?.path ?? [], key) ?? lineOf(issue?.path ?? []), reason);

  function documentValue(): unknown {
    let unknown: InstanceType<Yaml['Alias']> | undefined;
    yaml.visit(document, {
      Alias: (_, alias) => {
        if (alias.resolve(document)) return undefined;
        unknown = alias;
        return yaml.visit.BREAK;
      },
    });
    if (unknown) {
      const { line } = lines.linePos(unknown.range?.[0] ?? 0);
      throw wrong(line, `there is no &${unknown.source}; text that begins with * needs quotes`);
    }
    try {
      return document.toJS({ maxAliasCount: 100 });
    } catch (cause) {
      throw wrong(1, errorText(cause));
    }
  }

  function lineOfKey(path: readonly PropertyKey[], key: string | undefined): number | undefined {
    const map = path.length === 0 ? document.contents : document.getIn(path, true);
    const pair =
      yaml.isMap(map) && map.items.find((item) => yaml.isScalar(item.key) && item.key.value === key);
    return pair && yaml.isScalar(pair.key) && pair.key.range
      ? lines.linePos(pair.key.range[0]).line
      : undefined;
  }

  /** The line of the value at `path`, or of the nearest one around it. */
  function lineOf(path: readonly PropertyKey[]): number {
    for (let depth = path.length; depth >= 0; depth--) {
      const node = depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
      if (yaml.isNode(node) && node.range) return lines.linePos(node.range[0]).line;
    }
    return 1;
  }
}

/** The rules of a file, read again whenever it changes. A change that is wrong is refused, and the rules stay. */
export class ShapingFile implements Disposable {
  /** The rules in force. */
  rules: readonly Rule[];
  private readonly path: string;
  private readonly log: Logger | undefined;
  private readonly changed: () => void;
  private readonly timer: NodeJS.Timeout;
  private text: string;
  /** Of the text that was read last, and of the file when it was looked at last. */
  private stamp = '';
  private seenStamp = '';
  private isMissing = false;

  /** @throws MillraceError `CONFIG_INVALID` when the file cannot be read or is wrong */
  constructor(options: { path: string; log?: Logger; changed(): void }) {
    this.path = options.path;
    this.log = options.log;
    this.changed = options.changed;
    this.text = this.read();
    this.rules = parseShaping(this.text, this.path);
    // Asking now and then also sees files that were replaced, or are on a file system that tells nothing.
    this.timer = setInterval(() => void this.check(), checkIntervalMs).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
  }

  private read(): string {
    try {
      const bytes = readFileSync(this.path);
      if (bytes.length <= maxFileBytes) return bytes.toString('utf8');
    } catch (cause) {
      throw new MillraceError(
        'CONFIG_INVALID',
        `SHAPING_FILE="${this.path}": the file cannot be read: ${errorText(cause)}`,
        { cause },
      );
    }
    throw new MillraceError('CONFIG_INVALID', `SHAPING_FILE="${this.path}": more than ${maxFileBytes} bytes`);
  }

  private async check(): Promise<void> {
    try {
      const { mtimeMs, size, ino } = await stat(this.path);
      const stamp = `${mtimeMs} ${size} ${ino}`;
      this.isMissing = false;
      if (stamp === this.stamp) return;
      // Who writes in place empties the file first: half of the rules could be all that is there at this moment.
      if (stamp !== this.seenStamp) {
        this.seenStamp = stamp;
        return;
      }
      this.stamp = stamp;
      const text = this.read();
      if (text === this.text) return;
      this.text = text;
      this.rules = parseShaping(text, this.path);
      this.log?.info({ rules: this.rules.length }, 'the shaping file was read again');
      this.changed();
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
      if (isMissing && this.isMissing) return;
      this.isMissing = isMissing;
      this.log?.error(
        { error: error instanceof MillraceError ? error.detail : errorText(error) },
        'the shaping file was refused; the rules before stay in force',
      );
    }
  }
}
