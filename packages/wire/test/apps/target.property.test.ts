import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type AppRelease, parseApp, readTarget, targetDocument } from '../../src/apps/index.ts';
import { givenApps } from './arbitraries.ts';

const hex = fc.stringMatching(/^[0-9a-f]{32}$/);

const releases = fc.uniqueArray(
  fc.record({ given: givenApps, appUuid: hex, releaseUuid: hex, releaseId: fc.nat() }),
  { selector: ({ given }) => given.appId, maxLength: 3 },
);

test('a device reads from its target the apps that the cloud put into it', () => {
  fc.assert(
    fc.property(releases, (given) => {
      const apps = given.map((release): AppRelease => {
        return { ...release, appId: release.given.appId, app: parseApp(release.given) };
      });
      const document = targetDocument({ uuid: 'till-7', name: 'Till' }, apps);
      // It arrives as JSON.
      const read = readTarget(JSON.parse(JSON.stringify(document)), 'till-7');
      expect(read.map(plain)).toEqual(apps.toSorted((a, b) => a.appId - b.appId).map(plain));
      expect(read.map((release) => 'given' in release && plainApp(parseApp(release.given)))).toEqual(
        read.map((release) => 'app' in release && plainApp(release.app)),
      );
    }),
  );
});

function plain(release: ReturnType<typeof readTarget>[number]): object {
  if ('error' in release) throw release.error;
  const { given: _, app, ...ids } = release;
  return { ...ids, app: plainApp(app) };
}

/** Without an order of services, which a mapping does not keep; no environment is the same as an empty one. */
function plainApp({ appName, services, ...app }: AppRelease['app']): object {
  const plainServices = services.map(({ environment = {}, labels = {}, ...rest }) => {
    return { ...rest, environment, labels };
  });
  return {
    ...app,
    ...(appName !== undefined && appName !== String(app.appId) && { appName }),
    services: plainServices.sort((a, b) => (a.serviceName < b.serviceName ? -1 : 1)),
  };
}
