import { expect, test } from 'vitest';
import { allOf, progressOf } from '../../src/targets/progress.ts';

const wanted = { appId: 7, appUuid: 'a'.repeat(32), releaseUuid: 'new' };
const reported = (key: string, release: object, running = 'new') => ({
  [key]: { name: 'shop', release_uuid: running, releases: { new: { services: {}, ...release } } },
});

test.each([
  ['done', 'done'],
  ['rejected', 'failed'],
  ['aborted', 'failed'],
  ['downloading', 'updating'],
  ['downloaded', 'updating'],
  ['applying changes', 'updating'],
  [undefined, 'updating'],
])('a release that is reported as %s is %s', (status, state) => {
  const release = status === undefined ? {} : { update_status: status };
  expect(progressOf(reported('7', release), wanted).state).toBe(state);
  // balena's own devices name apps by their uuid.
  expect(progressOf(reported(wanted.appUuid, release), wanted).state).toBe(state);
});

test('what is not reported is pending, and what runs instead is told', () => {
  expect(progressOf(undefined, wanted)).toEqual({ state: 'pending' });
  expect(progressOf(null, wanted)).toEqual({ state: 'pending' });
  expect(progressOf(reported('8', {}), wanted)).toEqual({ state: 'pending' });
  const other = { 7: { release_uuid: 'old', releases: { old: { update_status: 'done', services: {} } } } };
  expect(progressOf(other, wanted)).toEqual({ state: 'pending', runningRelease: 'old' });
});

test('a failure brings its reason, from the release or else from a service; success brings none', () => {
  const services = { web: { image: 'web', status: 'Stopped', error: 'port 80 is in use' } };
  const of = (release: object) => progressOf(reported('7', { services, ...release }, 'old'), wanted);
  expect(of({ update_status: 'rejected', error: 'SERVICE_UNWELL: web' })).toEqual({
    state: 'failed',
    updateStatus: 'rejected',
    error: 'SERVICE_UNWELL: web',
    runningRelease: 'old',
  });
  expect(of({ update_status: 'applying changes' }).error).toBe('web: port 80 is in use');
  expect(of({ update_status: 'done' }).error).toBeUndefined();
});

test('several come to the worst of them, and none to done', () => {
  const states = ['done', 'pending', 'updating', 'failed'] as const;
  expect(allOf([])).toEqual({ state: 'done' });
  for (const [i, state] of states.entries()) {
    const upTo = states.slice(0, i + 1).map((one) => ({ state: one }));
    expect(allOf(upTo).state).toBe(state);
    expect(allOf(upTo.reverse()).state).toBe(state);
  }
});
