import { MillraceError } from '@millrace/wire';
import { expect, test } from 'vitest';
import type { AppView, ServiceView } from '../../src/apps/reconcile/view.ts';
import { appStates } from '../../src/state-report/app-states.ts';

const service = (status: ServiceView['status'], more: Partial<ServiceView> = {}): ServiceView => ({
  serviceName: 'web',
  imageName: 'nginx:alpine',
  status,
  ...more,
});

const app = (state: AppView['state'], services: ServiceView[], more: Partial<AppView> = {}): AppView => ({
  appId: 1001,
  release: 3,
  state,
  services,
  ...more,
});

test.each<[AppView['state'], ServiceView, string, object]>([
  ['running', service('running'), 'done', { status: 'Running' }],
  [
    'deploying',
    service('pulling', { downloadProgress: 41.6 }),
    'downloading',
    { status: 'Downloading', download_progress: 42 },
  ],
  ['deploying', service('waiting'), 'applying changes', { status: 'Installed' }],
  [
    'failed',
    service('restarting', { error: new MillraceError('NOT_FOUND', 'no such image').toProblem() }),
    'aborted',
    { status: 'Restarting', error: 'NOT_FOUND: no such image' },
  ],
  ['removing', service('removing'), 'applying changes', { status: 'Removing' }],
])('an app that is %s', (state, web, update_status, expected) => {
  expect(appStates([app(state, [web], { appName: 'shop' })])).toEqual({
    '1001': {
      name: 'shop',
      release_uuid: '3',
      releases: { '3': { update_status, services: { web: { image: 'nginx:alpine', ...expected } } } },
    },
  });
});

test('an app that went back shows the release that runs, and the one that was rejected', () => {
  expect(appStates([app('rolled-back', [service('running')], { runningRelease: 2 })])).toEqual({
    '1001': {
      release_uuid: '2',
      releases: {
        '2': { update_status: 'done', services: { web: { image: 'nginx:alpine', status: 'Running' } } },
        '3': { update_status: 'rejected', services: {} },
      },
    },
  });
});
