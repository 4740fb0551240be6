#!/usr/bin/env node
// Any Node from 20 may start this file; the programs themselves run on the project's Node 24.
import nodeModule, { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compiledFolder, freshBundle } from './bundle.mjs';
import { isStartedFor, nodeEnv, nodeFlags } from './flags.mjs';

const command = process.argv[2];

if (isStartedFor(command)) {
  const bundle = command === 'agent' ? freshBundle() : undefined;
  if (bundle) nodeModule.enableCompileCache(compiledFolder(bundle));
  const { main } = bundle ? createRequire(import.meta.url)(bundle) : await import('../src/main.ts');
  await main(process.argv);
} else {
  const isModern = Number(process.versions.node.split('.')[0]) >= 24;
  const nodePath = isModern ? process.execPath : bundledNode();
  const args = [...nodeFlags(command), fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const env = nodeEnv(command, process.env);
  if (!nodePath) {
    console.error(
      `millrace: Node 24 is needed (this is ${process.version}) and the npm package "node" that brings it is not installed. ` +
        'Run "npm ci" in the project, or install Node 24 from https://nodejs.org.',
    );
    process.exitCode = 1;
  } else if (process.execve && process.platform !== 'win32') {
    // Takes this process's place: a second Node that only waits would cost a small device 40 MB.
    process.execve(nodePath, [nodePath, ...args], env);
  } else {
    const { runChild } = await import('./child.mjs');
    process.exitCode = await runChild(nodePath, args, { env });
  }
}

function bundledNode() {
  try {
    const path = createRequire(import.meta.url).resolve('node/package.json');
    return join(dirname(path), 'bin', 'node');
  } catch {
    return undefined;
  }
}
