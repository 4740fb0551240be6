// Runs on whatever Node is there (20 or newer), before anything is installed: Node's own modules only.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder that holds package.json. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const stampPath = join(root, 'node_modules', '.millrace-installed');
/** The project's Node 24, once it is installed. */
export const node24Path = join(root, 'node_modules', 'node', 'bin', 'node');

/** A failure that is told in one line, without a stack trace. */
export class ScriptError extends Error {}

/** Ends the process with the error's text and code 1. */
export function fail(error) {
  console.error(error instanceof ScriptError ? `millrace: ${error.message}` : error);
  process.exit(1);
}

/**
 * Makes sure that the dependencies of package-lock.json are installed, and returns the path of the project's
 * Node 24, which every program of the project runs on.
 *
 * @returns {Promise<string>}
 * @throws {ScriptError} when Node is too old or npm fails
 */
export async function ensureInstalled() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) {
    throw new ScriptError(
      `Node ${process.versions.node} is too old. Install Node 20 or newer (https://nodejs.org) and try again.`,
    );
  }
  const lockText = readFileSync(join(root, 'package-lock.json'), 'utf8');
  const stamp = createHash('sha256').update(lockText).digest('hex');
  if (readIfThere(stampPath)?.trim() === stamp && existsSync(node24Path)) return node24Path;

  if (!isInstalled(JSON.parse(lockText))) {
    const why = existsSync(join(root, 'node_modules')) ? 'Dependencies have changed' : 'First start';
    console.error(`millrace: ${why}: installing with "npm ci". This takes a minute or so.`);
    await npmCi();
  }
  if (!existsSync(node24Path)) {
    throw new ScriptError(
      'Node 24 (the npm package "node") is missing after the installation. npm may have skipped its install ' +
        'script: run "npm ci" by hand, without --ignore-scripts, and look at what it says.',
    );
  }
  const version = spawnSync(node24Path, ['--version'], { encoding: 'utf8' });
  if (version.status !== 0) {
    throw new ScriptError(
      `The installed Node 24 does not run here: ${(version.error?.message ?? version.stderr).trim()}`,
    );
  }
  try {
    writeFileSync(stampPath, `${stamp}\n`);
  } catch (error) {
    // Another user's or a read-only installation: it only means comparing again at the next start.
    if (!['EACCES', 'EPERM', 'EROFS'].includes(error.code)) throw error;
  }
  return node24Path;
}

/**
 * True when node_modules already holds what the lock asks for, as after an "npm install" by hand: npm keeps
 * its own account of what it has installed, and installing anew would pull files from under running programs.
 */
function isInstalled(lock) {
  const text = readIfThere(join(root, 'node_modules', '.package-lock.json'));
  if (text === undefined || !existsSync(node24Path)) return false;
  let have;
  try {
    have = JSON.parse(text).packages ?? {};
  } catch {
    return false;
  }
  for (const [path, wanted] of Object.entries(lock.packages ?? {})) {
    if (!path.includes('node_modules/') || wanted.link || wanted.optional || wanted.devOptional) continue;
    if (have[path]?.version !== wanted.version) return false;
  }
  return true;
}

function npmCi() {
  // Under npm its own path is known; without it, whichever npm is in PATH.
  const npmPath = process.env.npm_execpath;
  const [command, first] = npmPath?.endsWith('.js') ? [process.execPath, [npmPath]] : ['npm', []];
  const args = [...first, 'ci', '--include=dev', '--no-fund', '--no-audit', '--loglevel=error'];
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] });
    // Its first words say what went wrong; a usage text follows.
    let said = '';
    child.stderr.on('data', (chunk) => {
      if (said.length < 4000) said += chunk;
    });
    child.once('error', (error) => {
      const hint = error.code === 'ENOENT' ? 'npm was not found in PATH' : error.message;
      reject(new ScriptError(`"npm ci" could not be started: ${hint}. Install npm and try again.`));
    });
    child.once('close', (code, signal) => {
      if (code === 0) resolve(undefined);
      else {
        reject(
          new ScriptError(
            `"npm ci" failed (${signal ?? `exit code ${code}`}). Is the network there? npm said:\n${said.split('npm error Usage:')[0].trim()}`,
          ),
        );
      }
    });
  });
}

function readIfThere(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw error;
  }
}
