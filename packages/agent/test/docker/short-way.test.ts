import { expect, test } from 'vitest';
import { startEngine } from '../../../../tests/support/docker.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { FolderDisk } from '../../src/journal/disk.ts';
import { Journal } from '../../src/journal/journal.ts';
import { LocalLogBackend } from '../../src/logging/local-backend.ts';
import { ContainerLogMonitor } from '../../src/logging/monitor.ts';
import { difference } from './memory-journal.ts';

test('JSON lines by way of the engine into a journal that dies again and again: each line once and in order', async () => {
  await using engine = await startEngine();
  await using dir = await tempDir();
  const count = 12_000;
  const json = `sed 's/.*/{"n":&,"text":"\\\\"a\\\\tb\\\\" ä"}/'`;
  const container = await engine.run({
    cmd: ['sh', '-c', `seq 1 ${count} | ${json} & (echo plain; seq 1 ${count}) | ${json} >&2; wait`],
  });
  let deaths = 0;
  for (let done = false; !done; ) {
    const journal = new Journal({ disk: new FolderDisk(dir.path) });
    const backend = new LocalLogBackend({ journal });
    const add = backend.encoded.add;
    let encoded = 0;
    backend.encoded.add = (line, source) => {
      encoded++;
      add(line, source);
    };
    const monitor = new ContainerLogMonitor(backend, engine.docker, { positions: backend, logs: 'api' });
    const before = journal.stats().lines;
    await monitor.start();
    await until(() => journal.stats().lines - before >= 5_000 || monitor.state.containers === 0, {
      what: () => `more lines than ${journal.stats().lines}`,
    });
    done = monitor.state.containers === 0;
    await monitor.stop();
    if (done) {
      await journal.flush();
      const messages = async (stream: 'stdout' | 'stderr') =>
        (await backend.getLogs({ containerId: container.id, stream, limit: 100_000 })).map(
          ({ message }) => message,
        );
      const line = (n: number | string) => `{"n":${n},"text":"\\"a\\tb\\" ä"}`;
      const lines = Array.from({ length: count }, (_, i) => line(i + 1));
      expect(difference(await messages('stdout'), lines)).toBe('');
      expect(difference(await messages('stderr'), [line('plain'), ...lines])).toBe('');
    } else {
      deaths++;
      expect(encoded).toBeGreaterThan(4_000);
    }
    await journal.abandon();
  }
  expect(deaths).toBeGreaterThan(2);
});
