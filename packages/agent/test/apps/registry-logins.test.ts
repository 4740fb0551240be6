import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { RegistryLogins, registryOf } from '../../src/apps/images/registry-logins.ts';

const base64 = (text: string) => Buffer.from(text).toString('base64');

test.each([
  ['nginx', 'docker.io'],
  ['nginx:alpine', 'docker.io'],
  ['bitnami/redis:7', 'docker.io'],
  ['docker.io/library/nginx', 'docker.io'],
  ['ghcr.io/acme/web@sha256:0', 'ghcr.io'],
  ['localhost/web', 'localhost'],
  ['registry.example.com:5000/web:1', 'registry.example.com:5000'],
  ['[::1]:5000/web', '[::1]:5000'],
])('the image %s comes from %s', (image, registry) => {
  expect(registryOf(image)).toBe(registry);
});

test.each<[string, object, string, object | undefined]>([
  [
    'user and password',
    { auths: { 'ghcr.io': { auth: base64('ann:pass:word') } } },
    'ghcr.io/a/web:1',
    { username: 'ann', password: 'pass:word', serveraddress: 'ghcr.io' },
  ],
  [
    "Docker's own hub under its long name",
    { auths: { 'https://index.docker.io/v1/': { auth: base64('ann:pw\0\0') } } },
    'acme/web',
    { username: 'ann', password: 'pw', serveraddress: 'https://index.docker.io/v1/' },
  ],
  [
    'a token in place of a password',
    { auths: { 'r.example:5000': { auth: base64('00000000:'), identitytoken: 'tok' } } },
    'r.example:5000/web',
    { username: '00000000', password: '', identitytoken: 'tok', serveraddress: 'r.example:5000' },
  ],
  [
    'fields of their own',
    { auths: { 'https://R.example': { username: 'ann', password: 'pw' } } },
    'r.example/web',
    { username: 'ann', password: 'pw', serveraddress: 'https://R.example' },
  ],
  ['no login for another registry', { auths: { 'ghcr.io': { auth: base64('a:b') } } }, 'nginx', undefined],
  [
    'no login at the same host on another port',
    { auths: { 'r.example:1': {} } },
    'r.example:2/web',
    undefined,
  ],
  ['nothing of a program that is for others', { credHelpers: { 'ghcr.io': 'pass' } }, 'nginx', undefined],
  ['no logins at all', { credsStore: 'desktop', HttpHeaders: {} }, 'nginx', undefined],
])('a file gives %s', async (_what, content, image, login) => {
  await using dir = await tempDir();
  const path = join(dir.path, 'config.json');
  await writeFile(path, JSON.stringify(content));
  expect(await new RegistryLogins(path).loginFor(image)).toEqual(login);
});

test.each<[string | object | undefined, string]>([
  [undefined, 'cannot be read (ENOENT)'],
  ['{"auths":{"ghcr.io":{"auth":"c2VjcmV0"', 'is not JSON'],
  ['[]', 'is not an object'],
  [{ auths: { 'ghcr.io': { auth: 7 } } }, 'auths.ghcr.io.auth has another form than Docker writes'],
  [{ auths: { 'ghcr.io': { auth: base64('secret') } } }, '"auth" of ghcr.io is not user:password in base64'],
  [{ auths: { 'ghcr.io': {} } }, 'holds no login at ghcr.io'],
  [{ auths: { 'ghcr.io': {} }, credsStore: 'pass' }, 'it is in the program pass (credsStore)'],
  [{ credHelpers: { 'ghcr.io': 'gcloud' } }, 'has the login at ghcr.io in the program gcloud'],
])('a file that holds %j is refused, without a word of what it holds', async (content, reason) => {
  await using dir = await tempDir();
  const path = join(dir.path, 'config.json');
  if (content !== undefined) {
    await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  }
  const error: unknown = await new RegistryLogins(path)
    .loginFor('ghcr.io/web')
    .catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'LOGINS_UNUSABLE', detail: expect.stringContaining(reason) });
  expect((error as Error).message).not.toMatch(/secret|c2VjcmV0/);
});

test('without the setting there is none, and no file is read', async () => {
  expect(await new RegistryLogins(undefined).loginFor('ghcr.io/web')).toBeUndefined();
});
