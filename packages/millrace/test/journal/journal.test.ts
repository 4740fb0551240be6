import { cpSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FolderDisk, Journal } from '@millrace/agent';
import { beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../../../tests/support/programs.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';

const bin = new URL('../../bin/millrace.mjs', import.meta.url).pathname;

/** Runs `millrace journal …` and returns what it printed and its exit code. */
async function journal(...args: string[]) {
  await using program = startProgram([bin, 'journal', ...args]);
  const { code } = await program.ended();
  return { code, stdout: program.stdout, stderr: program.stderr };
}

let original: Awaited<ReturnType<typeof tempDir>>;
beforeAll(async () => {
  original = await tempDir();
  await using log = new Journal({ disk: new FolderDisk(join(original.path, 'logs')), maxFileBytes: 1500 });
  for (let batch = 0; batch < 12; batch++) {
    for (let n = 1; n <= 10; n++) {
      const message = `line ${batch * 10 + n} \u001b[31mred\u001b[2J`;
      log.append({
        message,
        serviceName: 'web',
        timestamp: 1_790_000_000_000,
        level: n === 1 ? 'error' : 'info',
      });
    }
    await log.flush();
  }
  return () => original[Symbol.asyncDispose]();
});

async function copy() {
  const dir = await tempDir();
  cpSync(join(original.path, 'logs'), dir.path, { recursive: true });
  const [first] = readdirSync(dir.path).sort();
  return { ...dir, first: join(dir.path, first as string) };
}

test('ls lists the segments', async () => {
  const { code, stdout } = await journal('ls', original.path);
  expect(code).toBe(0);
  const rows = stdout.trim().split('\n');
  expect(rows.length).toBe(1 + readdirSync(join(original.path, 'logs')).length);
  expect(rows[1]).toMatch(/^0000000001\.log\.gz +\d+ +\d+ +1–\d+ .*T/);
  const reports = (await journal('ls', original.path, '--json')).stdout.trim().split('\n');
  const lines = reports.map((report) => JSON.parse(report).lines as number);
  expect(lines.reduce((sum, n) => sum + n, 0)).toBe(120);
});

test('cat prints every line, harmless on a terminal', async () => {
  const { code, stdout } = await journal('cat', original.path);
  expect(code).toBe(0);
  const lines = stdout.trim().split('\n');
  expect(lines.length).toBe(120);
  expect(lines[0]).toMatch(/ web error line 1 /);
  expect(stdout).not.toContain('\u001b');
  const json = (await journal('cat', join(original.path, 'logs'), '--json')).stdout.trim().split('\n');
  expect(JSON.parse(json[119] as string)).toMatchObject({
    seq: 120,
    message: expect.stringContaining('line 120'),
  });
});

test('verify finds an intact journal intact', async () => {
  const { code, stdout } = await journal('verify', original.path);
  expect(stdout).toMatch(/segments, \d+ bytes, 120 lines: intact\n$/);
  expect(code).toBe(0);
});

test('verify names the damaged place and the lines missing, and changes nothing', async () => {
  await using dir = await copy();
  const bytes = readFileSync(dir.first);
  bytes.fill(0x55, 600, 640);
  writeFileSync(dir.first, bytes);
  const { code, stdout } = await journal('verify', dir.path);
  expect(code).toBe(1);
  expect(stdout).toMatch(/0000000001\.log\.gz: damaged (header|content), \d+ bytes at \d+/);
  expect(stdout).toMatch(/missing seq \d+ to \d+ of journal/);
  expect(readFileSync(dir.first)).toEqual(bytes);
  const { lines, missing, intact } = JSON.parse((await journal('verify', dir.path, '--json')).stdout);
  expect(intact).toBe(false);
  expect(lines + missing).toBe(120);
  expect((await journal('cat', dir.path)).stdout.trim().split('\n').length).toBe(lines);
});

test('verify finds a tail that was cut off', async () => {
  await using dir = await copy();
  const last = join(dir.path, readdirSync(dir.path).sort().at(-1) as string);
  truncateSync(last, readFileSync(last).length - 5);
  const { code, stdout } = await journal('verify', dir.path);
  expect(stdout).toContain('damaged tail');
  expect(code).toBe(1);
});

test('a folder without a journal is an error that says so', async () => {
  await using dir = await tempDir();
  for (const path of [dir.path, join(dir.path, 'nowhere')]) {
    const { code, stderr } = await journal('verify', path);
    expect(code).toBe(1);
    expect(stderr).toContain(`no journal in ${path}`);
    expect(readdirSync(dir.path)).toEqual([]);
  }
});
