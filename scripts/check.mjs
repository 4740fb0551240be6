// Types, lint and format of the whole repository; with --fix, what can be corrected is corrected first.
import { join } from 'node:path';
import { runChild } from '../packages/millrace/bin/child.mjs';
import { ensureInstalled, fail, root } from './install.mjs';

try {
  const nodePath = await ensureInstalled();
  const bin = (name) => join(root, 'node_modules', '.bin', name);
  const fix = process.argv.includes('--fix');
  const steps = [
    ['biome', [bin('biome'), 'check', ...(fix ? ['--write'] : []), '--error-on-warnings', '.']],
    ['tsc', [bin('tsc'), '--project', '.']],
  ];
  const failed = [];
  for (const [name, args] of steps) {
    console.error(`> ${name}`);
    if ((await runChild(nodePath, args, { cwd: root })) !== 0) failed.push(name);
  }
  if (failed.length > 0) {
    console.error(`check failed: ${failed.join(', ')}`);
    process.exitCode = 1;
  }
} catch (error) {
  fail(error);
}
