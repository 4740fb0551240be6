import { expect, test } from 'vitest';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { LocalLogBackend } from '../../src/logging/local-backend.ts';
import type { LogInput } from '../../src/logging/types.ts';

const line = (n: number, more: Partial<LogInput> = {}): LogInput => ({
  message: `line ${n}`,
  timestamp: Date.now() - 10_000 + n,
  serviceName: 'web',
  ...more,
});

test('keeps the last lines in memory and answers every filter', async () => {
  await using backend = new LocalLogBackend({ maxLogs: 100, maxAge: 3_600_000 });
  for (let n = 1; n <= 500; n++) backend.log(line(n));
  backend.log(
    line(501, { serviceName: 'db', containerId: 'c'.repeat(64), isStdErr: true, message: 'Disk FULL' }),
  );
  await backend.journal.flush();
  const all = await backend.getLogs({ limit: 10_000 });
  expect(all.length).toBe(100);
  expect(all.at(-1)?.message).toBe('Disk FULL');
  expect((await backend.getLogs({ serviceName: 'db' })).length).toBe(1);
  expect((await backend.getLogs({ containerId: 'cccccccccccc' })).length).toBe(1);
  expect((await backend.getLogs({ level: 'error' })).length).toBe(1);
  expect((await backend.getLogs({ level: ['info', 'error'], limit: 2 })).length).toBe(2);
  expect((await backend.getLogs({ stream: 'stderr' })).length).toBe(1);
  expect((await backend.getLogs({ contains: 'disk full' })).length).toBe(1);
  const newest = await backend.getLogs({ limit: 2, order: 'desc', serviceName: 'web' });
  expect(newest.map((l) => l.message)).toEqual(['line 500', 'line 499']);
  const stamp = newest[0]?.timestamp as number;
  expect((await backend.getLogs({ since: stamp })).map((l) => l.message)).toEqual(['line 500', 'Disk FULL']);
  expect((await backend.getLogs({ until: stamp, limit: 1 })).map((l) => l.message)).toEqual(['line 499']);
});

test('values of JSON and logfmt are shown as fields, those that were given before all; nothing of it is stored', async () => {
  await using dir = await tempDir();
  await using backend = new LocalLogBackend({ enableFilePersistence: true, logDir: dir.path });
  const stopped = new AbortController();
  const followed = backend.follow({}, stopped.signal);
  const next = followed.next();
  backend.log(line(1, { message: '{"status":500}' }));
  backend.log(line(2, { message: 'status=500 took=1.5' }));
  backend.log(line(3, { message: '{"status":500}', fields: { given: true } }));
  backend.log(line(4));
  const fields = [{ status: 500 }, { status: 500, took: 1.5 }, { given: true }, undefined];
  expect((await backend.getLogs()).map((l) => l.fields)).toEqual(fields);
  expect((await next).value).toMatchObject({ message: '{"status":500}', fields: { status: 500 } });
  stopped.abort();
  const stored = backend.journal.recent().map((batch) => batch.lines.toString());
  expect(stored.join('').match(/"fields"/g)).toHaveLength(1);
});

test('lines too old are not shown from memory', async () => {
  await using backend = new LocalLogBackend({ maxAge: 1000 });
  backend.log(line(1));
  backend.log({ message: 'fresh' });
  expect((await backend.getLogs()).map((l) => l.message)).toEqual(['fresh']);
});

test('with files, lines beyond the memory and before a restart are found', async () => {
  await using dir = await tempDir();
  const options = { maxLogs: 10, enableFilePersistence: true, logDir: dir.path, maxFileSize: 4096 };
  {
    await using backend = new LocalLogBackend(options);
    for (let n = 1; n <= 300; n++) {
      backend.log(line(n, { level: n % 100 === 0 ? 'error' : 'info' }));
      if (n % 20 === 0) await backend.journal.flush();
    }
  }
  await using backend = new LocalLogBackend(options);
  backend.log(line(301));
  expect((await backend.getLogs({ limit: 1000 })).map((l) => l.seq)).toEqual(
    Array.from({ length: 301 }, (_, i) => i + 1),
  );
  expect((await backend.getLogs({ limit: 3, order: 'desc' })).map((l) => l.seq)).toEqual([301, 300, 299]);
  expect((await backend.getLogs({ level: 'error' })).map((l) => l.seq)).toEqual([100, 200, 300]);
});

test('follow gives matching lines as they come, and ends with its signal', async () => {
  await using backend = new LocalLogBackend();
  const stop = new AbortController();
  const seen: string[] = [];
  const reading = (async () => {
    for await (const found of backend.follow({ serviceName: 'web' }, stop.signal)) {
      seen.push(found.message);
      if (seen.length === 2) stop.abort();
    }
  })();
  backend.log(line(1));
  backend.log(line(2, { serviceName: 'other' }));
  backend.log(line(3));
  await reading;
  expect(seen).toEqual(['line 1', 'line 3']);
});

test.each(['maxLogs', 'maxAge', 'maxFileSize'])('a wrong %s is refused by name', (option) => {
  expect(() => new LocalLogBackend({ [option]: -1 })).toThrow(`OPTION_INVALID: LocalLogBackend ${option}`);
});
