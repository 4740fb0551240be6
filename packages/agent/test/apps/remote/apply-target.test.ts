import { MillraceError } from '@millrace/wire';
import type { AppRelease, UnreadableRelease } from '@millrace/wire/apps';
import { expect, test } from 'vitest';
import { applyTarget } from '../../../src/apps/remote/apply-target.ts';
import type { AppRecord, StoredApps } from '../../../src/apps/target/store.ts';
import { release, web } from './target-cloud.ts';

const one = [web({ environment: { V: '1' } })];
const two = [web({ environment: { V: '2' } })];

/** The record of an app; with a uuid of a release it came from the cloud. */
function record(
  appId: number,
  outcome: AppRecord['outcome'],
  releaseUuid?: string,
  services = one,
): AppRecord {
  const asked = { release: 3, app: { appId, services }, ...(releaseUuid && { releaseUuid }) };
  return { ...asked, appId, outcome, stopped: ['web'], ...(outcome === 'done' && { good: asked }) };
}

function stored(...records: AppRecord[]): StoredApps {
  const pulled = [{ image: 'nginx:1', id: 'sha256:1' }];
  return { apps: new Map(records.map((app) => [app.appId, app])), pulled };
}

function apply(before: StoredApps, ...releases: (AppRelease | UnreadableRelease)[]) {
  const { stored: after, changed } = applyTarget(before, 'v9', releases, 100);
  expect(after.pulled).toBe(before.pulled);
  expect(after.cloud?.version).toBe('v9');
  return { apps: after.apps, refused: after.cloud?.refused, changed };
}

test('what came from the cloud and is not in its target goes, its volumes stay; what is local is left alone', () => {
  const before = stored(record(1, 'done', 'r1'), record(2, 'done'), record(3, 'failed', 'r3'));
  const { apps, changed } = apply(before);
  expect(apps.get(1)).toEqual({ ...before.apps.get(1), removing: { volumes: false } });
  expect(apps.get(3)?.removing).toEqual({ volumes: false });
  expect(apps.get(2)).toBe(before.apps.get(2));
  expect(changed).toEqual([1, 3]);
});

test.each<[string, AppRecord | undefined, AppRelease, object]>([
  [
    'that is new is deployed',
    undefined,
    release(1, 'r1'),
    { release: 1, releaseUuid: 'r1', outcome: 'pending' },
  ],
  [
    'that is another is a new release, with the one before to go back to',
    record(1, 'done', 'r1'),
    release(1, 'r2', two),
    {
      release: 4,
      releaseUuid: 'r2',
      outcome: 'pending',
      stopped: [],
      good: { release: 3, releaseUuid: 'r1' },
    },
  ],
  [
    'that is local becomes the cloud’s',
    record(1, 'done'),
    release(1, 'r2', two),
    { release: 4, releaseUuid: 'r2', outcome: 'pending', good: { release: 3 } },
  ],
  [
    'that runs, under another name, is not touched',
    record(1, 'done'),
    release(1, 'r2', one),
    {
      release: 3,
      releaseUuid: 'r2',
      outcome: 'done',
      stopped: ['web'],
      good: { release: 3, releaseUuid: 'r2' },
    },
  ],
  [
    'that is on its way, under another name, goes on',
    record(1, 'pending', 'r1'),
    release(1, 'r2', one),
    { release: 3, releaseUuid: 'r2', outcome: 'pending' },
  ],
  [
    'that failed is tried anew under another name',
    record(1, 'failed', 'r1'),
    release(1, 'r2', one),
    { release: 4, releaseUuid: 'r2', outcome: 'pending' },
  ],
  [
    'that is being removed is deployed anew, with nothing to go back to',
    { ...record(1, 'done', 'r1'), removing: { volumes: false } },
    release(1, 'r1', one),
    { release: 4, releaseUuid: 'r1', outcome: 'pending', stopped: [] },
  ],
])('an app %s', (_what, before, wanted, after) => {
  const { apps } = apply(before ? stored(before) : stored(), wanted);
  expect(apps.get(1)).toMatchObject(after);
  expect(apps.get(1)?.removing).toBeUndefined();
  if (before?.removing) expect(apps.get(1)?.good).toBeUndefined();
});

test.each(['pending', 'done', 'failed'] as const)('a release that is %s is not tried twice', (outcome) => {
  const before = stored(record(1, outcome, 'r1'));
  const { apps, changed } = apply(before, release(1, 'r1', two));
  expect(apps.get(1)).toBe(before.apps.get(1));
  expect(changed).toEqual([]);
});

test('what cannot be read or is too much is refused, and holds nobody else up', () => {
  const error = new MillraceError('APP_INVALID', 'services.web.secrets is not supported');
  const before = stored(record(1, 'done', 'r1'), record(2, 'done'));
  const unreadable = (appId: number) => ({ appId, appUuid: 'a', releaseUuid: 'bad', error });
  const { apps, refused, changed } = apply(
    before,
    unreadable(1),
    unreadable(2),
    release(3, 'r3'),
    release(3, 'r4'),
  );
  expect(apps.get(1)).toBe(before.apps.get(1));
  expect(apps.get(2)).toBe(before.apps.get(2));
  expect(changed).toEqual([3]);
  expect(refused).toEqual([
    { appId: 1, releaseUuid: 'bad', error: { code: 'APP_INVALID', detail: error.detail } },
    { appId: 2, releaseUuid: 'bad', error: { code: 'APP_INVALID', detail: error.detail } },
    { appId: 3, releaseUuid: 'r4', error: { code: 'APP_INVALID', detail: 'app 3 is there twice' } },
  ]);
  const full = applyTarget(stored(record(1, 'done')), 'v1', [release(2, 'r2')], 1);
  expect(full.stored.cloud?.refused).toMatchObject([{ error: { detail: 'there are 1 apps already' } }]);
});
