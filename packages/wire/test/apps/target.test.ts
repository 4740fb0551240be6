import { describe, expect, test } from 'vitest';
import {
  decodeTargetMessage,
  encodeTargetMessage,
  parseApp,
  readTarget,
  targetDocument,
} from '../../src/apps/index.ts';

const given = {
  appId: 1001,
  appName: 'shop',
  services: [
    {
      serviceId: 7,
      serviceName: 'web',
      imageName: 'nginx:alpine',
      environment: ['A=b=c', 'PRICE=5$'],
      ports: ['8080:80'],
      volumes: ['data:/data', '/etc/x:/x:ro'],
      networks: ['back'],
      stopGracePeriod: '5s',
      healthcheck: { test: 'true', startPeriod: '1m' },
    },
    { serviceName: 'db', imageName: 'postgres', labels: { a: 'b' } },
  ],
};
const ids = { appId: 1001, appUuid: 'a1', releaseUuid: 'r1', releaseId: 3 };
const document = targetDocument({ uuid: 'till', name: 'Till' }, [{ ...ids, given, app: parseApp(given) }]);

test('a target has the shape of balena', () => {
  expect(document).toEqual({
    till: {
      name: 'Till',
      config: {},
      apps: {
        a1: {
          id: 1001,
          name: 'shop',
          class: 'fleet',
          releases: {
            r1: {
              id: 3,
              volumes: { data: {} },
              networks: { back: {} },
              services: {
                web: {
                  ...{ id: 7, image_id: 7, image: 'nginx:alpine', labels: {} },
                  environment: { A: 'b=c', PRICE: '5$' },
                  composition: {
                    ports: ['8080:80'],
                    volumes: ['data:/data', '/etc/x:/x:ro'],
                    networks: ['back'],
                    stop_grace_period: '5s',
                    healthcheck: { test: 'true', start_period: '1m' },
                  },
                },
                db: {
                  ...{ id: 0, image_id: 0, image: 'postgres', environment: {}, labels: { a: 'b' } },
                  composition: {},
                },
              },
            },
          },
        },
      },
    },
  });
});

const service = { image: 'nginx', environment: {}, labels: {} };
const withApp = (app: unknown) => ({
  till: { apps: { a1: { id: 1001, name: 'shop', ...(app as object) } } },
});
const withService = (value: unknown) => withApp({ releases: { r1: { services: { web: value } } } });

describe('what cannot be read is said', () => {
  test.each([
    ['an app without a release', withApp({ releases: {} }), 'app 1001 must have one release'],
    [
      'an app with two',
      withApp({ releases: { r1: { services: {} }, r2: { services: {} } } }),
      'app 1001 must have one release',
    ],
    ['a service that is none', withService('nginx'), 'services.web'],
    ['a wrong image', withService({ ...service, image: 'A B' }), 'services.web.image must be the name'],
    [
      'a field of a later version',
      withService({ ...service, composition: { gpus: 'all' } }),
      'services.web.gpus is not supported',
    ],
    [
      'a wrong value',
      withService({ ...service, composition: { ports: ['x'] } }),
      'services.web.ports[0] must be a port',
    ],
  ])('%s', (_what, value, detail) => {
    const [read] = readTarget(value, 'till');
    expect(read).toMatchObject({ appId: 1001, appUuid: 'a1', error: { code: 'APP_INVALID' } });
    expect(read && 'error' in read && read.error.detail).toContain(detail);
  });

  test.each([
    ['another device', { other: { apps: {} } }],
    ['no document', 'till'],
    ['no apps', { till: {} }],
    ['a uuid that is none', { till: { apps: { 'a/b': { id: 1, releases: {} } } } }],
    ['an id that is none', { till: { apps: { a1: { id: 0, releases: {} } } } }],
  ])('%s', (_what, value) => {
    expect(() => readTarget(value, 'till')).toThrow('TARGET_INVALID');
  });

  test('and does no harm to other apps, as keys of a later version do not', () => {
    const bad = { id: 5, name: 'bad', releases: {} };
    const target = { ...document.till, other: 1, apps: { ...document.till?.apps, b1: bad } };
    const read = readTarget({ till: target, version: 4 }, 'till');
    expect(read.map((app) => ['app' in app, app.appId])).toEqual([
      [true, 1001],
      [false, 5],
    ]);
  });
});

test('a message holds the document while there is room, then its version alone', () => {
  const whole = encodeTargetMessage('v1', document);
  expect(decodeTargetMessage(whole)).toEqual({ version: 'v1', state: document });
  const large = structuredClone(document);
  // As bytes it is too much, as characters not.
  Object.assign(large.till ?? {}, { name: 'ü'.repeat(70_000) });
  expect(encodeTargetMessage('v2', large)).toBe('{"version":"v2"}');
  expect(decodeTargetMessage('{"version":"v2"}')).toEqual({ version: 'v2' });
  expect(decodeTargetMessage('')).toBeUndefined();
  for (const text of ['{', '[]', '{}', '{"version":""}', '{"version":"a b"}']) {
    expect(() => decodeTargetMessage(text)).toThrow('TARGET_INVALID');
  }
});
