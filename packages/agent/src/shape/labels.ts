import { errorText, MillraceError } from '@millrace/wire';
import type { Multiline } from '../assemble/assembler.ts';
import { compilePattern } from './patterns.ts';
import { redactions } from './redact.ts';
import { type Rule, ruleSchema } from './rules.ts';

/** What a container's labels say about its lines. */
export interface LabelShaping {
  rule: Rule | undefined;
  multiline: Multiline;
  /** Labels that could not be understood, each with the reason. */
  wrong: string[];
}

type Labels = Readonly<Record<string, string>>;

/** One label, and what it stands for in a rule. */
const labelled: Readonly<Record<string, (text: string) => Record<string, unknown>>> = {
  'millrace.min-level': (text) => ({ minLevel: text.toLowerCase() }),
  'millrace.drop': (text) => ({ drop: [text] }),
  'millrace.keep': (text) => ({ keep: [text] }),
  'millrace.redact': (text) => ({ redact: text.split(',').map((name) => name.trim().toLowerCase()) }),
  'millrace.redact-pattern': (text) => ({ redact: [{ pattern: text }] }),
  'millrace.rate-limit': (text) => ({ rateLimit: text }),
  'millrace.collapse-repeats': (text) => ({ collapseRepeats: truths[text.toLowerCase()] ?? text }),
};

const truths: Readonly<Record<string, boolean>> = { true: true, false: false, on: true, off: false };

/** All that begin so are ours; what the others say is read elsewhere. */
const prefix = 'millrace.';
const others = [
  'millrace.multiline',
  'millrace.logs',
  'millrace.service-name',
  'millrace.service-id',
  'millrace.app-id',
];

/**
 * Reads the labels `millrace.*` that shape a container's lines. One that is wrong is left out and named; but if that
 * was to redact something, everything that has a name is redacted: a typing error must not let a secret through.
 */
export function readLabels(labels: Labels): LabelShaping {
  const wrong: string[] = [];
  let rule: Rule | undefined;
  for (const label of Object.keys(labels)) {
    if (!label.startsWith(prefix) || label in labelled || others.includes(label)) continue;
    wrong.push(`${label}: there is no such label`);
    if (label.startsWith('millrace.red')) rule = { redact: [...redactions] };
  }
  for (const [label, toRule] of Object.entries(labelled)) {
    const text = labels[label]?.trim();
    if (!text) continue;
    const parsed = ruleSchema.safeParse(toRule(text));
    if (!parsed.success) {
      wrong.push(`${label}="${text}": ${parsed.error.issues.map(({ message }) => message).join('; ')}`);
    }
    const fallback: Rule = label.startsWith('millrace.redact') ? { redact: [...redactions] } : {};
    const { redact, ...rest } = parsed.success ? parsed.data : fallback;
    rule = { ...rule, ...rest, ...(redact && { redact: [...(rule?.redact ?? []), ...redact] }) };
  }
  const logs = labels['millrace.logs']?.trim().toLowerCase();
  if (logs && truths[logs] === undefined) wrong.push(`millrace.logs="${logs}": must be on or off`);
  return { rule, multiline: multilineOf(labels['millrace.multiline'], wrong), wrong };
}

/** `off`, or a pattern that the first line of each message matches; anything else joins traces. */
function multilineOf(label: string | undefined, wrong: string[]): Multiline {
  const text = label?.trim();
  const isOn = truths[text?.toLowerCase() ?? ''];
  if (!text || isOn === true) return 'traces';
  if (isOn === false) return 'off';
  try {
    const pattern = compilePattern(text);
    return { startsMessage: (line) => pattern.matches(line) };
  } catch (error) {
    const reason = error instanceof MillraceError ? error.detail : errorText(error);
    wrong.push(`millrace.multiline="${text}": ${reason}`);
    return 'traces';
  }
}
