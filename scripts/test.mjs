// Installs what the tests need and runs them. Further arguments go to Vitest: npm test -- packages/wire
import { join } from 'node:path';
import { runChild } from '../packages/millrace/bin/child.mjs';
import { nodeEnv } from '../packages/millrace/bin/flags.mjs';
import { ensureInstalled, fail, root } from './install.mjs';
import { ensureSystemPackages, systemPath } from './system-packages.mjs';

try {
  const nodePath = await ensureInstalled();
  ensureSystemPackages();
  if (process.getuid?.() !== 0) {
    console.error('> not root: tests that start their own Docker engine will fail');
  }
  console.error('> vitest (real engines, brokers and stores: this takes some minutes)');
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const env = nodeEnv(undefined, {
    // Hundreds of processes load the same sources: Node keeps what it has compiled, for them and for the next run.
    NODE_COMPILE_CACHE: join(root, 'node_modules', '.cache', 'millrace-test', 'compiled'),
    ...process.env,
    PATH: systemPath,
  });
  process.exitCode = await runChild(nodePath, [vitest, 'run', ...process.argv.slice(2)], { cwd: root, env });
} catch (error) {
  fail(error);
}
