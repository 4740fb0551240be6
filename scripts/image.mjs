// Makes the container image of the agent or of the cloud on the engine that DOCKER_HOST names, or this machine's.
//
//   npm run image -- [--program agent|cloud] [--tag millrace-agent] [--base node:24-bookworm-slim] …
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureInstalled, fail, root, ScriptError } from './install.mjs';

const usage = `usage: npm run image -- [options]
  --program <name>    agent or cloud (default: agent)
  --tag <name>        name of the image (default: millrace-agent or millrace-cloud)
  --base <image>      image with a Node 24 in its PATH (default: node:24-bookworm-slim)
  --platform <os/cpu> for another kind of machine, e.g. linux/arm64 (the agent alone; needs BuildKit)
  --without-store     a cloud without the embedded log store, for CLICKHOUSE_URL: 570 MB less`;

const fillers = { agent: fillAgent, cloud: fillCloud };

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
        program: { type: 'string', default: 'agent' },
        tag: { type: 'string' },
        base: { type: 'string' },
        platform: { type: 'string' },
        'without-store': { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (!(values.program in fillers)) throw new Error(`--program: there is no "${values.program}"`);
    if (values.program === 'cloud' && values.platform) {
      throw new Error('--platform: the cloud has native parts, which are those of this machine');
    }
    return values;
  } catch (error) {
    throw new ScriptError(`${error.message}\n${usage}`);
  }
}

async function makeImage({ program, tag = `millrace-${program}`, base, platform, ...options }) {
  const nodePath = await ensureInstalled();
  const context = mkdtempSync(join(tmpdir(), 'millrace-image-'));
  try {
    fillers[program](join(context, 'app'), { nodePath, withoutStore: options['without-store'] });
    mkdirSync(join(context, 'data'));
    const dockerfile = join(root, 'deploy', ...(program === 'agent' ? ['agent'] : []), 'Dockerfile');
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

/** The bundle, and what starts it. */
function fillAgent(app, { nodePath }) {
  const millrace = join(root, 'packages', 'millrace');
  cpSync(join(millrace, 'bin'), join(app, 'bin'), { recursive: true });
  run(nodePath, [join(root, 'scripts', 'build.mjs'), join(app, 'dist')]);
  // No sources in there, so the bundle is never older than them.
  writeFileSync(join(app, 'dist', 'agent.inputs.json'), '[]\n');
  const { name, version, type } = JSON.parse(readFileSync(join(millrace, 'package.json'), 'utf8'));
  writeFileSync(join(app, 'package.json'), `${JSON.stringify({ name, version, type })}\n`);
}

/** The packages as they lie here, and of what is installed the part that they need to run. */
function fillCloud(app, { withoutStore }) {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  for (const [path, { dev, devOptional, link, resolved }] of Object.entries(packages)) {
    const isStore = /^node_modules\/(chdb|@chdb\/.*)$/.test(path);
    if (!path.startsWith('node_modules/') || dev || devOptional || (withoutStore && isStore)) continue;
    if (link) {
      for (const part of ['package.json', 'src', 'bin']) {
        const from = join(root, resolved, part);
        if (existsSync(from)) cpSync(from, join(app, resolved, part), { recursive: true });
      }
      mkdirSync(join(app, path, '..'), { recursive: true });
      symlinkSync(relative(join(path, '..'), resolved), join(app, path));
      // Optional ones for other machines are not installed, and those inside others come with them.
    } else if (existsSync(join(root, path)) && !existsSync(join(app, path))) {
      cpSync(join(root, path), join(app, path), { recursive: true, verbatimSymlinks: true });
    }
  }
  cpSync(join(root, 'package.json'), join(app, 'package.json'));
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' });
  if (error) throw new ScriptError(`${command}: ${error.message}`);
  if (status !== 0) throw new ScriptError(`${command} ${args[0]} ended with ${status}`);
}
