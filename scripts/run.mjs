// node scripts/run.mjs millrace <args…>   the millrace command
// node scripts/run.mjs bench <name>        bench/<name>.ts
// node scripts/run.mjs chaos <args…>       chaos/main.ts
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { runChild } from '../packages/millrace/bin/child.mjs';
import { nodeEnv, nodeFlags } from '../packages/millrace/bin/flags.mjs';
import { ensureInstalled, fail, root, ScriptError } from './install.mjs';
import { ensureSystemPackages, systemPath } from './system-packages.mjs';

const programs = {
  millrace: (args) => [join(root, 'packages', 'millrace', 'bin', 'millrace.mjs'), ...args],
  bench: ([name = '', ...args]) => {
    const path = join(root, 'bench', `${name}.ts`);
    if (!/^[a-z-]+$/.test(name) || !existsSync(path)) throw new ScriptError(`there is no bench "${name}"`);
    return [path, ...args];
  },
  chaos: (args) => [join(root, 'chaos', 'main.ts'), ...args],
};

try {
  const [name = '', ...args] = process.argv.slice(2);
  if (!Object.hasOwn(programs, name)) {
    throw new ScriptError(`usage: node scripts/run.mjs ${Object.keys(programs).join('|')} …`);
  }
  const nodePath = await ensureInstalled();
  // Benches and chaos run on the engines and brokers that the tests run on.
  if (name === 'bench' || name === 'chaos') ensureSystemPackages();
  const command = name === 'millrace' ? args[0] : undefined;
  const env = nodeEnv(command, { ...process.env, PATH: systemPath });
  process.exitCode = await runChild(nodePath, [...nodeFlags(command), ...programs[name](args)], { env });
} catch (error) {
  fail(error);
}
