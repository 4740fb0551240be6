// Makes the agent's container image on the engine that DOCKER_HOST names, or this machine's.
//
//   npm run image -- [--tag millrace-agent] [--base node:24-bookworm-slim] [--platform linux/arm64]
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureInstalled, fail, root, ScriptError } from './install.mjs';

const usage = `usage: npm run image -- [options]
  --tag <name>        name of the image (default: millrace-agent)
  --base <image>      image with a Node 24 in its PATH (default: node:24-bookworm-slim)
  --platform <os/cpu> for another kind of machine, e.g. linux/arm64 (needs BuildKit)`;

try {
  const options = readOptions();
  if (options.help) console.log(usage);
  else await makeImage(options);
} catch (error) {
  fail(error);
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        tag: { type: 'string', default: 'millrace-agent' },
        base: { type: 'string' },
        platform: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    return values;
  } catch (error) {
    throw new ScriptError(`${error.message}\n${usage}`);
  }
}

async function makeImage({ tag, base, platform }) {
  const nodePath = await ensureInstalled();
  const context = mkdtempSync(join(tmpdir(), 'millrace-image-'));
  try {
    const millrace = join(root, 'packages', 'millrace');
    const app = join(context, 'app');
    cpSync(join(millrace, 'bin'), join(app, 'bin'), { recursive: true });
    run(nodePath, [join(root, 'scripts', 'build.mjs'), join(app, 'dist')]);
    // No sources in there, so the bundle is never older than them.
    writeFileSync(join(app, 'dist', 'agent.inputs.json'), '[]\n');
    const { name, version, type } = JSON.parse(readFileSync(join(millrace, 'package.json'), 'utf8'));
    writeFileSync(join(app, 'package.json'), `${JSON.stringify({ name, version, type })}\n`);
    mkdirSync(join(context, 'data'));
    const dockerfile = join(root, 'deploy', 'agent', 'Dockerfile');
    const choices = [
      ...(base === undefined ? [] : ['--build-arg', `BASE=${base}`]),
      ...(platform === undefined ? [] : ['--platform', platform]),
    ];
    run('docker', ['build', '--tag', tag, '--file', dockerfile, ...choices, context]);
    console.error(`made ${tag}`);
  } finally {
    rmSync(context, { recursive: true, force: true });
  }
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' });
  if (error) throw new ScriptError(`${command}: ${error.message}`);
  if (status !== 0) throw new ScriptError(`${command} ${args[0]} ended with ${status}`);
}
