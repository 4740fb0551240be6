#!/usr/bin/env node
// Any Node from 20 may start this file; the programs themselves run on the project's Node 24.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freshBundle } from './bundle.mjs';
import { isStartedFor, nodeEnv, nodeFlags } from './flags.mjs';

const command = process.argv[2];
const bundle = command === 'agent' ? freshBundle() : undefined;

if (isStartedFor(command) && !bundle) {
  const { main } = await import('../src/main.ts');
  await main(process.argv);
} else {
  const isModern = Number(process.versions.node.split('.')[0]) >= 24;
  const nodePath = isModern ? process.execPath : bundledNode();
  const program = fileURLToPath(bundle ? new URL('bundled.cjs', import.meta.url) : import.meta.url);
  const args = [...nodeFlags(command), program, ...process.argv.slice(2)];
  const env = nodeEnv(command, process.env);
  if (!nodePath) {
    console.error(
      `millrace: Node 24 is needed (this is ${process.version}) and the npm package "node" that brings it is not installed. ` +
        'Run "npm ci" in the project, or install Node 24 from https://nodejs.org.',
    );
    process.exitCode = 1;
  } else if (process.execve && process.platform !== 'win32') {
    // Takes this process's place: a second Node that only waits would cost a small device 40 MB. The agent gets a
    // process in which nothing was done before, since what looking for its bundle takes, 7 MB, is not given back.
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
