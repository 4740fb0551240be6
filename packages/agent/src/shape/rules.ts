import { type Level, levels, MillraceError } from '@millrace/wire';
import { z } from 'zod';
import type { ServiceFields } from '../docker/services.ts';
import { compilePattern, type Pattern } from './patterns.ts';
import { type Redaction, redactions } from './redact.ts';

const text = z.string('must be a text: put it into quotes');
const list = <T extends z.ZodType>(item: T, example: string) =>
  z.array(item, `must be a list, such as ${example}`);
const map = (what: string) => ({
  error: ({ code }: { code?: string }) => (code === 'invalid_type' ? what : undefined),
});

// An empty one matches everything: that is a slip, and would drop all lines.
const pattern = text.min(1, 'must not be empty').transform((source, context): Pattern => {
  try {
    return compilePattern(source);
  } catch (error) {
    const message = error instanceof MillraceError ? error.detail : String(error);
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  }
});

const redaction = z.enum(redactions, `must be one of ${redactions.join(', ')}, or {pattern, with}`);
const ownRedaction = z.strictObject({ pattern, with: text.max(100).default('[redacted]') });

/** Either of the two. A union would only say that it is neither. */
const redactionOfAnyKind = z.unknown().transform((value, context) => {
  const isOwn = typeof value === 'object' && value !== null;
  const parsed = isOwn ? ownRedaction.safeParse(value) : redaction.safeParse(value);
  if (parsed.success) return parsed.data;
  for (const { message, path } of parsed.error.issues) context.addIssue({ code: 'custom', message, path });
  return z.NEVER;
});

const rateShape = 'must be a number of lines per second, minute or hour, such as 100/s';
const rate = z
  .string(rateShape)
  .regex(/^[1-9]\d{0,8}\/[smh]$/, rateShape)
  .transform((written): Rate => {
    const [lines = '1', per = 's'] = written.split('/');
    return { lines: Number(lines), periodMs: periods[per] as number, text: written };
  });

const periods: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000 };

/** An app is often called by a number, which YAML takes for one. */
const wanted = z.preprocess(
  (value) => (Number.isSafeInteger(value) ? String(value) : value),
  text.min(1, 'must not be empty').max(200),
);

/** What one rule can say; all of it is optional. */
export const ruleSchema = z.strictObject(
  {
    /** Which containers: names with `*`. Without any of the three, all. */
    service: wanted.optional(),
    container: wanted.optional(),
    app: wanted.optional(),
    minLevel: z.enum(levels, `must be one of ${levels.join(', ')}`).optional(),
    drop: list(pattern, "['GET /health']").max(100).optional(),
    keep: list(pattern, "['^order']").max(100).optional(),
    redact: list(redactionOfAnyKind, '[email, card]').max(100).optional(),
    rateLimit: rate.optional(),
    collapseRepeats: z.boolean('must be true or false').optional(),
  },
  map('must hold what the rule does, such as minLevel: info'),
);

/** What a shaping file holds. */
export const fileSchema = z.strictObject(
  { rules: list(ruleSchema, '[{minLevel: info}]; without rules it is []').max(1000) },
  map('must begin with "rules:"'),
);

export type Rule = z.infer<typeof ruleSchema>;

export interface Rate {
  lines: number;
  periodMs: number;
  /** As it was written. */
  text: string;
}

/** All that holds for one container. */
export interface Rules {
  minLevel?: Level;
  drop: Pattern[];
  /** If there are any, only lines that match one are kept. */
  keep: Pattern[];
  redact: (Redaction | { pattern: Pattern; with: string })[];
  rateLimit?: Rate;
  collapseRepeats: boolean;
}

/**
 * What several rules say together, or `undefined` when that is nothing: of levels, rates and repeats the last word
 * counts, lists grow. So nobody can take a redaction back.
 */
export function combine(rules: readonly Rule[]): Rules | undefined {
  const all: Rules = { drop: [], keep: [], redact: [], collapseRepeats: false };
  for (const rule of rules) {
    all.minLevel = rule.minLevel ?? all.minLevel;
    all.rateLimit = rule.rateLimit ?? all.rateLimit;
    all.collapseRepeats = rule.collapseRepeats ?? all.collapseRepeats;
    all.drop.push(...(rule.drop ?? []));
    all.keep.push(...(rule.keep ?? []));
    all.redact.push(...(rule.redact ?? []));
  }
  const lists = all.drop.length + all.keep.length + all.redact.length;
  const says =
    lists > 0 || (all.minLevel && all.minLevel !== 'debug') || all.rateLimit || all.collapseRepeats;
  return says ? all : undefined;
}

/** Whether a rule is meant for a container, or for lines that come from none. */
export function appliesTo(
  rule: Rule,
  containerName: string | undefined,
  { serviceName, appId }: ServiceFields,
): boolean {
  return (
    matchesName(rule.service, serviceName) &&
    matchesName(rule.container, containerName) &&
    matchesName(rule.app, appId === undefined ? undefined : String(appId))
  );
}

function matchesName(wanted: string | undefined, name: string | undefined): boolean {
  if (wanted === undefined) return true;
  if (name === undefined) return false;
  const parts = wanted.split('*');
  const first = parts.shift() as string;
  if (parts.length === 0) return name === wanted;
  const last = parts.pop() as string;
  if (!name.startsWith(first) || name.length < first.length + last.length || !name.endsWith(last))
    return false;
  let at = first.length;
  for (const part of parts) {
    const found = name.indexOf(part, at);
    if (found < 0 || found + part.length > name.length - last.length) return false;
    at = found + part.length;
  }
  return true;
}
