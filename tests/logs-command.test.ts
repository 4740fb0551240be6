import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestCloud, type TestCloud } from './support/cloud.ts';
import { millrace, startProgram } from './support/programs.ts';
import { memoryDir } from './support/tmp.ts';
import { until } from './support/wait.ts';

const uuid = '1a2b3c4d000040008000000000000001';
const deviceKey = 'a-device-key-for-tests';

let dir: Awaited<ReturnType<typeof memoryDir>>;
let cloud: TestCloud;
let env: Record<string, string>;

beforeAll(async () => {
  dir = await memoryDir();
  cloud = await startTestCloud(dir.path);
  await cloud.register(uuid, deviceKey);
  env = { DATA_DIR: dir.path, MILLRACE_URL: cloud.url };
});
afterAll(async () => {
  await cloud[Symbol.asyncDispose]();
  await dir[Symbol.asyncDispose]();
});

/** Sends lines as a device does, and returns once they are stored. */
async function send(lines: object[]): Promise<void> {
  const response = await fetch(`${cloud.url}/device/v2/${uuid}/log-stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${deviceKey}`, 'content-type': 'application/x-ndjson' },
    body: lines.map((line) => `${JSON.stringify(line)}\n`).join(''),
  });
  if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`);
}

async function run(args: string[], more: Record<string, string> = {}) {
  const program = startProgram(millrace('logs', ...args), { env: { ...env, ...more } });
  const { code } = await program.ended();
  return { code, stderr: program.stderr, lines: program.stdout.split('\n').filter(Boolean) };
}

const messages = (lines: string[]) =>
  lines.map((line) =>
    line
      .split(/ {1,2}/)
      .slice(5)
      .join(' '),
  );

describe('lines that are there', () => {
  const startMs = Date.now() - 3_600_000;
  beforeAll(async () => {
    await send([
      { message: 'first line', serviceName: 'web', timestamp: startMs },
      { message: 'second line', serviceName: 'web', timestamp: startMs + 1000, level: 'warn' },
      { message: 'connection refused', serviceName: 'db', timestamp: startMs + 2000, isStdErr: true },
      { message: 'a \u001b[31mred\u001b[0m\u001b[2J\nline', serviceName: 'db', timestamp: Date.now() },
    ]);
  });

  test('oldest first, plain in a pipe, and harmless', async () => {
    const { code, lines } = await run([]);
    expect(code).toBe(0);
    expect(messages(lines)).toEqual([
      'first line',
      'second line',
      'connection refused',
      'a red\\x1b[2J\\nline',
    ]);
    expect(lines[1]).toBe(
      `${new Date(startMs + 1000).toISOString().replace('T', ' ').slice(0, 23)} 1a2b3c4d web warn  second line`,
    );
  });

  test.each([
    [
      ['--service', 'web'],
      ['first line', 'second line'],
    ],
    [
      ['--level', 'warn+'],
      ['second line', 'connection refused'],
    ],
    [['--stream', 'stderr'], ['connection refused']],
    [['--since', '10m'], ['a red\\x1b[2J\\nline']],
    [['--until', '10m', '--service', 'db'], ['connection refused']],
    [
      ['--limit', '2'],
      ['connection refused', 'a red\\x1b[2J\\nline'],
    ],
    [['--limit', '0'], []],
    [['refused', 'CONNECTION'], ['connection refused']],
    [['--device', uuid.slice(0, 8), 'first'], ['first line']],
    [['nowhere'], []],
  ])('%j', async (args, expected) => {
    const { code, lines } = await run(args);
    expect(code).toBe(0);
    expect(messages(lines)).toEqual(expected);
  });

  test('--json is one object per line', async () => {
    const { lines } = await run(['--json', '--service', 'db']);
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      { message: 'connection refused', isStdErr: true, level: 'error', device: uuid },
      { message: 'a \u001b[31mred\u001b[0m\u001b[2J\nline' },
    ]);
  });

  test('an output that is closed early is no error', async () => {
    const shell = spawn(
      'sh',
      ['-c', `"${process.execPath}" ${millrace('logs').join(' ')} -f 2>&1 >&3 3>&- | cat >&2; exit 0`],
      { env: { ...process.env, ...env, NO_COLOR: '1' }, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] },
    );
    let stderr = '';
    shell.stderr?.on('data', (text) => {
      stderr += text;
    });
    let ended = false;
    shell.on('close', () => {
      ended = true;
    });
    const output = shell.stdio[3] as NodeJS.ReadableStream & { destroy(): void };
    await new Promise((resolve) => output.once('data', resolve));
    output.destroy();
    await send([{ message: 'into the void', serviceName: 'void', timestamp: Date.now() }]);
    await until(() => ended, { what: 'millrace logs to notice that nobody reads' });
    expect(stderr).toBe('');
  });
});

describe('what is wrong is said clearly', () => {
  test.each<[string, string[], Record<string, string>, RegExp[]]>([
    [
      'no server',
      [],
      { MILLRACE_URL: 'http://127.0.0.1:1' },
      [/does not answer/, /127\.0\.0\.1:1/, /npm start/],
    ],
    ['no token', [], { DATA_DIR: '/nonexistent' }, [/\/nonexistent\/cli-token/, /MILLRACE_TOKEN/]],
    ['a wrong token', [], { MILLRACE_TOKEN: 'wrong-token-0123456789' }, [/does not accept the token/]],
    ['a wrong level', ['--level', 'loud'], {}, [/--level loud/, /warn\+/]],
    ['a wrong time', ['--since', 'soon'], {}, [/--since soon/, /10m/]],
    ['a wrong limit', ['--limit', 'all'], {}, [/--limit all/, /10000/]],
    ['an unknown device', ['--device', 'zz'], {}, [/--device zz/, new RegExp(uuid)]],
    ['an end that never comes', ['-f', '--until', '1m'], {}, [/--until/]],
  ])('%s', async (_, args, more, said) => {
    const { code, stderr, lines } = await run(args, more);
    expect(code).toBe(1);
    expect(lines).toEqual([]);
    for (const pattern of said) expect(stderr).toMatch(pattern);
    expect(stderr).not.toMatch(/wrong-token|^ {4}at /m);
  });

  test('a server that is not ours', async () => {
    await using stranger = startProgram([
      '-e',
      `require('http').createServer((_, response) => response.end('<html>'))
         .listen(0, function () { console.log('listening ' + this.address().port) })`,
    ]);
    await stranger.says(/listening (\d+)/);
    const port = /listening (\d+)/.exec(stranger.stdout)?.[1];
    const { code, stderr } = await run([], { MILLRACE_URL: `http://127.0.0.1:${port}` });
    expect(code).toBe(1);
    expect(stderr).toContain('not as a Millrace server does');
  });

  test('an empty token file', async () => {
    await using empty = await memoryDir();
    await writeFile(join(empty.path, 'cli-token'), '');
    expect((await run([], { DATA_DIR: empty.path })).stderr).toContain('the file is empty');
  });
});

test('export writes all lines of a query into a file, and says when it cannot', async () => {
  await send(
    Array.from({ length: 300 }, (_, i) => ({ message: `exported ${i}`, timestamp: 1_700_000_000_000 + i })),
  );
  const program = async (...args: string[]) => {
    const running = startProgram(millrace('export', ...args), { env });
    return { ...(await running.ended()), stdout: running.stdout, stderr: running.stderr };
  };
  const csv = await program('exported', '--device', uuid.slice(0, 8), '--format', 'csv');
  expect(csv).toMatchObject({ code: 0, stderr: '' });
  expect(
    csv.stdout
      .trimEnd()
      .split('\r\n')
      .map((row) => row.split(',')[5]),
  ).toEqual(['message', ...Array.from({ length: 300 }, (_, i) => `exported ${i}`)]);
  const wrong = await program('--format', 'xml');
  expect([wrong.code, wrong.stdout]).toEqual([2, '']);
  expect(wrong.stderr).toContain('ndjson, csv, text');
});

test('-f shows every line once, however the server comes and goes', async () => {
  const total = 1200;
  const seen = () => following.stdout.split('\n').filter(Boolean).map(Number);
  await send([{ message: '0', serviceName: 'count', timestamp: Date.now() }]);
  // The message alone, so that the test reads numbers. It may begin behind the first burst, of which the limit leaves nothing out.
  await using following = startProgram(
    [
      '-e',
      `const { spawn } = require('child_process');
       const child = spawn(process.execPath, ${JSON.stringify([...millrace('logs'), '-f', '--json', '--service', 'count', '--limit', '10000'])}, { stdio: ['ignore', 'pipe', 'inherit'] });
       require('readline').createInterface(child.stdout).on('line', (line) => console.log(JSON.parse(line).message));
       child.on('exit', (code) => process.exit(code));
       process.on('SIGINT', () => child.kill('SIGINT'));`,
    ],
    { env },
  );
  let sent = 0;
  const burst = async (count: number) => {
    for (const end = sent + count; sent < end; ) {
      const size = Math.min(40, end - sent);
      const lines = Array.from({ length: size }, () => ({
        message: String(++sent),
        serviceName: 'count',
        timestamp: Date.now(),
      }));
      await send(lines);
    }
  };
  await burst(400);
  await until(() => seen().length > 0);
  await cloud.restart('SIGTERM');
  await burst(400);
  await until(() => following.stderr.includes('connected again'), { what: () => following.stderr });
  await cloud.restart('SIGKILL');
  await burst(400);
  await until(() => seen().length > total, {
    what: () => `${total + 1} lines, have ${seen().length}\n${following.stderr}`,
  });
  expect(seen().toSorted((a, b) => a - b)).toEqual(Array.from({ length: total + 1 }, (_, i) => i));
  expect((await following.end('SIGINT')).code).toBe(0);
});
