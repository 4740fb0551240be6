#!/usr/bin/env node
// Any Node from 20 may start this file; the programs themselves run on the project's Node 24.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const major = Number(process.versions.node.split('.')[0]);
const isReady = major >= 24 && process.env.UV_THREADPOOL_SIZE;

if (isReady) {
  const { main } = await import('../src/main.ts');
  await main(process.argv);
} else {
  const { runChild } = await import('./child.mjs');
  const nodePath = major >= 24 ? process.execPath : bundledNode();
  if (nodePath) {
    process.exitCode = await runChild(nodePath, [fileURLToPath(import.meta.url), ...process.argv.slice(2)]);
  } else {
    console.error(
      `millrace: Node 24 is needed (this is ${process.version}) and the npm package "node" that brings it is not installed. ` +
        'Run "npm ci" in the project, or install Node 24 from https://nodejs.org.',
    );
    process.exitCode = 1;
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
