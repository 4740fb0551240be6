import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Level, StoredLine } from '@millrace/wire';
import { describe, expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { findAccess } from '../../src/logs/access.ts';
import { parseLevels, parseLimit, parseMoment, serverQuery } from '../../src/logs/filter.ts';
import { formatLine, shortDevice } from '../../src/logs/format.ts';

const now = Date.parse('2026-11-20T12:00:00Z');

test.each([
  ['30s', now - 30_000],
  ['10m', now - 600_000],
  ['2h', now - 7_200_000],
  ['7d', now - 604_800_000],
  ['2w', now - 1_209_600_000],
  ['99999999w', 0],
  ['1700000000000', 1_700_000_000_000],
  ['2026-11-20T11:00:00Z', now - 3_600_000],
  ['2026-11-20T12:00:00+01:00', now - 3_600_000],
  ['2026-11-20', Date.parse('2026-11-20')],
])('the moment %s', (text, ms) => {
  expect(parseMoment('--since', text, now)).toBe(ms);
});

test.each(['', '10', '-5m', '10x', 'yesterday', '2026-13-45', 'NaN', '1e9'])(
  'the moment "%s" is refused',
  (text) => {
    expect(() => parseMoment('--since', text, now)).toThrow(/--since .*10m/);
  },
);

test('levels and limits', () => {
  expect(parseLevels('--level', 'warn+')).toEqual(['warn', 'error']);
  expect(() => parseLevels('--level', 'loud')).toThrow(/--level loud: use debug, info, warn or error/);
  expect(parseLimit('--limit', '10000')).toBe(10_000);
  for (const text of ['', '-1', '10001', '1.5', 'many', '99999999']) {
    expect(() => parseLimit('--limit', text)).toThrow(/--limit .*: use a number from 0 to 10000/);
  }
});

test('a filter as a query', () => {
  const filter = { service: 'a&b', levels: ['warn', 'error'] as Level[], query: 'two words' };
  expect(serverQuery({ ...filter, sinceMs: 0 })).toEqual({ ...filter, since: 0 });
});

describe('where the server is and what opens it', () => {
  test('this machine, with the token of the data folder', async () => {
    await using dir = await tempDir();
    await writeFile(join(dir.path, 'cli-token'), 'secret-token\n');
    const env = { DATA_DIR: dir.path };
    expect(await findAccess(undefined, env)).toEqual({ url: 'http://127.0.0.1:8080', token: 'secret-token' });
    expect((await findAccess(undefined, { ...env, CLOUD_PORT: '81' })).url).toBe('http://127.0.0.1:81');
    expect((await findAccess('http://localhost:5/', env)).url).toBe('http://localhost:5');
    expect((await findAccess(undefined, { ...env, MILLRACE_URL: 'http://[::1]:9' })).token).toBe(
      'secret-token',
    );
  });

  test('elsewhere, with MILLRACE_TOKEN only: the local token is sent nowhere', async () => {
    await using dir = await tempDir();
    await writeFile(join(dir.path, 'cli-token'), 'secret-token\n');
    const env = { DATA_DIR: dir.path, MILLRACE_URL: 'https://logs.example.com/base/' };
    await expect(findAccess(undefined, env)).rejects.toMatchObject({ code: 'TOKEN_UNUSABLE' });
    for (const host of ['127.0.0.1.example.com', '[::2]', 'localhost.example.com']) {
      await expect(findAccess(`http://${host}`, env)).rejects.toMatchObject({ code: 'TOKEN_UNUSABLE' });
    }
    expect(await findAccess(undefined, { ...env, MILLRACE_TOKEN: 't' })).toEqual({
      url: 'https://logs.example.com/base',
      token: 't',
    });
  });

  test('no token, an empty one and an unreadable one are told apart', async () => {
    await using dir = await tempDir();
    const env = { DATA_DIR: dir.path };
    await expect(findAccess(undefined, env)).rejects.toThrow(/cli-token: there is none.*MILLRACE_TOKEN/);
    await writeFile(join(dir.path, 'cli-token'), '\n');
    await expect(findAccess(undefined, env)).rejects.toThrow(/the file is empty/);
    await mkdir(join(dir.path, 'x', 'cli-token'), { recursive: true });
    await expect(findAccess(undefined, { DATA_DIR: join(dir.path, 'x') })).rejects.toThrow(/EISDIR/);
  });

  test.each(['localhost:8080', 'ftp://x', 'http://user:hunter2@x', 'http://x?token=hunter2', '::'])(
    'the address %s is refused and not repeated',
    async (url) => {
      const refused = findAccess(url, { MILLRACE_TOKEN: 't' });
      await expect(refused).rejects.toMatchObject({ code: 'PARAMETER_INVALID' });
      await expect(refused).rejects.toThrow(/^(?!.*hunter2).*--url/);
    },
  );
});

describe('a line', () => {
  const line: StoredLine = {
    receivedAt: now,
    id: 'abcdefgh-1',
    device: '1a2b3c4d-0000-4000-8000-000000000000',
    message: 'hello\x1b[31m red\x1b[2J',
    timestamp: new Date(2026, 10, 20, 9, 5, 7, 42).getTime(),
    level: 'warn',
    source: { type: 'container', name: 'web' },
    serviceName: 'web',
    isStdErr: false,
    isSystem: false,
  };
  const today = new Date(2026, 10, 20, 23).getTime();

  test('in a pipe', () => {
    expect(formatLine(line, { json: false, colourful: false }, today)).toBe(
      '2026-11-20 09:05:07.042 1a2b3c4d web warn  hello red\\x1b[2J\n',
    );
  });

  test('on a terminal', () => {
    const text = formatLine(line, { json: false, colourful: true }, today);
    expect(text).toContain('\x1b[2m09:05:07.042\x1b[0m');
    expect(text).toContain('\x1b[33mwarn \x1b[0m hello\x1b[31m red\\x1b[2J\x1b[0m\n');
    expect(formatLine(line, { json: false, colourful: true }, today + 86_400_000)).toContain(
      '2026-11-20 09:05:07.042',
    );
  });

  test('as JSON', () => {
    const text = formatLine(line, { json: true, colourful: true }, today);
    expect(text.indexOf('\n')).toBe(text.length - 1);
    expect(JSON.parse(text)).toEqual(line);
  });

  test('with a device that has a name', () => {
    expect(shortDevice('kitchen-pi')).toBe('kitchen-pi');
    expect(shortDevice('1a2b3c4d000040008000000000000000')).toBe('1a2b3c4d');
  });
});
