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

const allRedacted = '; until it is right, all that has a name is redacted';

type Labels = Readonly<Record<string, string>>;

/** One label, and what it stands for in a rule. */
const labelled: Readonly<Record<string, (text: string) => Record<string, unknown>>> = {
  'millrace.min-level': (text) => ({ minLevel: text.toLowerCase() }),
  'millrace.drop': (text) => ({ drop: [text] }),
  'millrace.keep': (text) => ({ keep: [text] }),
  'millrace.redact': (text) => ({ redact: namesIn(text) }),
  'millrace.redact-pattern': (text) => ({ redact: [{ pattern: text }] }),
  'millrace.rate-limit': (text) => ({ rateLimit: text }),
  'millrace.collapse-repeats': (text) => ({ collapseRepeats: truths[text.toLowerCase()] ?? text }),
};

const truths: Readonly<Record<string, boolean>> = { true: true, false: false, on: true, off: false };

/** A comma at the end is no name; nothing but commas is a wrong one. */
function namesIn(text: string): string[] {
  const names = text.split(',').map((name) => name.trim().toLowerCase());
  const given = names.filter((name) => name !== '');
  return given.length > 0 ? given : names;
}

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
    const written = label.toLowerCase();
    if (!written.startsWith(prefix) || label in labelled || others.includes(label)) continue;
    const isRedaction = written.startsWith('millrace.red');
    wrong.push(`${label}: there is no such label${isRedaction ? allRedacted : ''}`);
    if (isRedaction) rule = { redact: [...redactions] };
  }
  for (const [label, toRule] of Object.entries(labelled)) {
    const text = labels[label]?.trim();
    const isRedaction = label.startsWith('millrace.redact');
    // What an empty variable leaves of a redaction is a slip; of anything else, that there is nothing to do.
    if (text === undefined || (text === '' && !isRedaction)) continue;
    const parsed = ruleSchema.safeParse(toRule(text));
    if (!parsed.success) {
      const [reason] =
        label === 'millrace.redact'
          ? [`must be some of ${redactions.join(', ')}`]
          : parsed.error.issues.map(({ message }) => message);
      wrong.push(`${label}="${text}": ${reason}${isRedaction ? allRedacted : ''}`);
    }
    const fallback: Rule = isRedaction ? { redact: [...redactions] } : {};
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
  // `no`, `java`: as a pattern it would join all lines that do not hold the word.
  if (/^[\w-]+$/.test(text)) {
    wrong.push(`millrace.multiline="${text}": must be on, off or a pattern such as ^\\d{4}-`);
    return 'traces';
  }
  try {
    const pattern = compilePattern(text);
    return { startsMessage: (line) => pattern.matches(line) };
  } catch (error) {
    const reason = error instanceof MillraceError ? error.detail : errorText(error);
    wrong.push(`millrace.multiline="${text}": ${reason}`);
    return 'traces';
  }
}
