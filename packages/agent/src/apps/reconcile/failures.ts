import { errorText, MillraceError } from '@millrace/wire';
import { EngineRefusal } from '../../docker/api.ts';
import type { PullFailure } from '../images/pull.ts';
import { registryOf } from '../images/registry-logins.ts';

const missing = /not found|manifest unknown|does not exist|access denied|no matching manifest|denied:/i;
const wantsLogin = /no basic auth credentials|unauthorized|authentication required|incorrect username/i;
const portTaken = /port is already allocated|address already in use|Ports are not available/i;

/** What a failed step means to people. */
export function asStepError(error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  if (!(error instanceof EngineRefusal)) {
    return new MillraceError('ENGINE_UNREACHABLE', saidBy(error), { cause: error });
  }
  const said = saidBy(error);
  const code = portTaken.test(said) ? 'PORT_CONFLICT' : 'CONTAINER_REFUSED';
  return new MillraceError(code, said, { cause: error });
}

/** What a refused pull means to people: a missing image, a registry that wants another login, or a passing trouble. */
export function pullFailure(
  image: string,
  error: EngineRefusal | PullFailure,
  withLogin: boolean,
): MillraceError {
  const said = saidBy(error);
  if (!missing.test(said) && wantsLogin.test(said)) {
    const registry = registryOf(image);
    const why = withLogin ? `refused the login for ${registry}` : `wants a login for ${registry}`;
    return new MillraceError('REGISTRY_REFUSED', `${image}: the registry ${why}: ${said}`, { cause: error });
  }
  const code = missing.test(said) ? 'IMAGE_MISSING' : 'IMAGE_UNAVAILABLE';
  return new MillraceError(code, `${image}: ${said}`, { cause: error });
}

function saidBy(error: unknown): string {
  return errorText(error)
    .replace(/^\(HTTP code \d+\) [a-z ]+ - /, '')
    .trim();
}
