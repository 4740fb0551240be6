import type { LogInput } from '@millrace/wire';
import type { Multiline } from '../../assemble/assembler.ts';
import type { GapCounts } from '../../logging/gap.ts';
import type { EncodedLog, SourcePosition } from '../../logging/types.ts';
import type { Rules } from '../../shape/rules.ts';
import type { DropCounts } from '../../shape/shaper.ts';
import type { DockerPosition } from '../position.ts';
import type { ServiceFields } from '../services.ts';

export interface FileCursorOptions {
  key: string;
  saved: DockerPosition | undefined;
  /** A terminal's lines end with CR LF. */
  isTerminal: boolean;
  fields: ServiceFields;
  multiline: Multiline;
  /** What is done to messages before they are handed on. */
  rules: Rules | undefined;
  /** Counts what the rules drop; may be shared. */
  drops: DropCounts | undefined;
  /** Counts what could not be read; may be shared. */
  gaps: GapCounts | undefined;
  deliver(line: LogInput, position: SourcePosition): void | Promise<void>;
  /** Takes a position now and then while rules drop every line. */
  move(position: SourcePosition): void;
  /** The short way for lines that need not become objects, if there is one. */
  encoded: EncodedLog | undefined;
}
