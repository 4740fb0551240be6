import { redactors } from './redact.ts';
import type { Rules } from './rules.ts';

/** A text without what is to be redacted in it. */
export function redacted(text: string, redactions: Rules['redact']): string {
  let shown = text;
  for (const redaction of redactions) {
    shown =
      typeof redaction === 'string'
        ? redactors[redaction](shown)
        : redaction.pattern.replace(shown, redaction.with);
  }
  return shown;
}

/** What a source says of a line, the same way: all text in it. It is a few levels deep at most. */
export function redactedFields(
  fields: Record<string, unknown>,
  redactions: Rules['redact'],
): Record<string, unknown> {
  const entries = Object.entries(fields).map(([key, value]) => [key, redactedValue(value, redactions)]);
  return Object.fromEntries(entries);
}

function redactedValue(value: unknown, redactions: Rules['redact']): unknown {
  if (typeof value === 'string') return redacted(value, redactions);
  if (Array.isArray(value)) return value.map((entry) => redactedValue(entry, redactions));
  if (typeof value !== 'object' || value === null) return value;
  return redactedFields(value as Record<string, unknown>, redactions);
}
