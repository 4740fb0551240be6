import { errorText, MillraceError } from '@millrace/wire';
import { EngineRefusal } from '../../docker/api.ts';
import { PullFailure } from '../engine/pull.ts';
import type { Step } from './steps.ts';

const missing =
  /not found|manifest unknown|does not exist|access denied|no matching manifest|unauthorized|denied:/i;
const portTaken = /port is already allocated|address already in use|Ports are not available/i;

/** What a failed step means to people. */
export function asStepError(step: Step, error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  const said = errorText(error)
    .replace(/^\(HTTP code \d+\) [a-z ]+ - /, '')
    .trim();
  const refused = error instanceof EngineRefusal || error instanceof PullFailure;
  if (!refused) return new MillraceError('ENGINE_UNREACHABLE', said, { cause: error });
  if (step.kind === 'pull') {
    const code = missing.test(said) ? 'IMAGE_MISSING' : 'IMAGE_UNAVAILABLE';
    return new MillraceError(code, `${step.image}: ${said}`, { cause: error });
  }
  return new MillraceError(portTaken.test(said) ? 'PORT_CONFLICT' : 'CONTAINER_REFUSED', said, {
    cause: error,
  });
}
