import * as fc from 'fast-check';
import { anyCharacter } from '../../../../tests/support/text-arbitraries.ts';
import type { LogInput, LogMessage } from '../../src/index.ts';
import { levels, sourceTypes } from '../../src/index.ts';

/** Text as hostile as JavaScript can hold it: any UTF-16 units, lone surrogates and NUL among them. */
export const hostileText = fc.oneof(
  fc.string({ unit: anyCharacter }),
  fc.string({ unit: 'grapheme' }),
  fc
    .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 40 })
    .map((units) => String.fromCharCode(...units)),
  fc.array(fc.integer({ min: 0xd800, max: 0xdfff }), { maxLength: 8 }).map((u) => String.fromCharCode(...u)),
  fc.constantFrom(
    '',
    '\0',
    '\ud800',
    '\udc00\ud800',
    '😀',
    '\\ud800',
    '\\\ud800',
    '"}\n{"',
    '\u2028',
    '__proto__',
  ),
);

const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });

export const timestamps = fc.integer({ min: 1, max: 9_876_999_999_999 });

/** A line as a caller may log it. */
export const logInputs: fc.Arbitrary<LogInput> = fc.record({
  message: hostileText,
  timestamp: timestamps,
  level: optional(fc.constantFrom(...levels)),
  source: optional(fc.record({ type: fc.constantFrom(...sourceTypes), name: hostileText })),
  serviceId: optional(fc.integer()),
  serviceName: optional(hostileText),
  containerId: optional(hostileText),
  isStdErr: optional(fc.boolean()),
  isSystem: optional(fc.boolean()),
  appId: optional(fc.oneof(fc.integer(), hostileText)),
  fields: optional(fc.dictionary(hostileText, fc.jsonValue(), { maxKeys: 4 })),
});

/** Every string of a value made well-formed: what any UTF-8 carrier can bring across at best. */
export function wellFormed<T>(value: T): T {
  if (typeof value === 'string') return value.toWellFormed() as T;
  if (Array.isArray(value)) return value.map(wellFormed) as T;
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k.toWellFormed(), wellFormed(v)])) as T;
  }
  return value;
}

/** The same JSON, so that `-0` and keys holding `undefined` compare as they travel. */
export function asJson(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** What holds for every message that we hand on, whoever wrote it. */
export function problemsOf(message: LogMessage): string[] {
  const problems: string[] = [];
  if (typeof message.message !== 'string' || !message.message.isWellFormed()) problems.push('message');
  if (!Number.isSafeInteger(message.timestamp) || message.timestamp < 0) problems.push('timestamp');
  if (!levels.includes(message.level)) problems.push('level');
  if (!sourceTypes.includes(message.source.type) || !message.source.name.isWellFormed())
    problems.push('source');
  if (typeof message.id !== 'string') problems.push('id');
  if (typeof message.isStdErr !== 'boolean' || typeof message.isSystem !== 'boolean') problems.push('flags');
  for (const key of ['serviceName', 'containerId'] as const) {
    const value = message[key];
    if (value !== undefined && (typeof value !== 'string' || !value.isWellFormed())) problems.push(key);
  }
  return problems;
}
