import type { Logger } from 'pino';
import type { Multiline } from '../assemble/assembler.ts';
import { type ContainerIdentity, serviceOf } from '../docker/services.ts';
import { readLabels } from './labels.ts';
import { appliesTo, combine, type Rule, type Rules } from './rules.ts';

/** Where the rules that are not on labels come from; read anew at each question. */
export interface RuleSource {
  readonly rules: readonly Rule[];
}

export interface ContainerShaping {
  /** `undefined` when nothing is to be done to its lines. */
  rules: Rules | undefined;
  multiline: Multiline;
}

/** What holds for a container: the rules of the file that are meant for it, in their order, then its own labels. */
export function shapingOf(
  container: ContainerIdentity,
  source: RuleSource | undefined,
  log?: Logger,
): ContainerShaping {
  const { rule, multiline, wrong } = readLabels(container.labels);
  if (wrong.length > 0) log?.error({ container: container.name, wrong }, 'labels of a container are wrong');
  const fields = serviceOf(container);
  const ofFile = source?.rules.filter((candidate) => appliesTo(candidate, container.name, fields)) ?? [];
  return { rules: combine(rule ? [...ofFile, rule] : ofFile), multiline };
}
