import { MillraceError } from '@millrace/wire';
import { type App, canonical, parseApp } from '@millrace/wire/apps';
import type { AppRecord } from './store.ts';

export interface AskedRelease {
  appId: number;
  /** What `app` was read from. */
  given: unknown;
  app: App;
  /** Of a release that a cloud asks for. */
  releaseUuid?: string | undefined;
}

/** Whether a record asks for just that app. */
export function isSameApp(record: AppRecord | undefined, app: App): boolean {
  if (!record || record.removing) return false;
  try {
    return canonical(parseApp(record.app)) === canonical(app);
  } catch (error) {
    if (error instanceof MillraceError) return false;
    throw error;
  }
}

/** The record of an app when another release of it is asked for. */
export function nextRelease(
  before: AppRecord | undefined,
  { appId, given, releaseUuid }: Omit<AskedRelease, 'app'>,
): AppRecord {
  const good = before?.removing ? undefined : before?.good;
  return {
    ...{ appId, release: (before?.release ?? 0) + 1, app: given, outcome: 'pending', stopped: [] },
    ...(releaseUuid !== undefined && { releaseUuid }),
    ...(good && { good }),
  };
}
