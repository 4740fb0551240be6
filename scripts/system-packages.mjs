// What the tests need beyond npm: programs of the operating system, under their Debian package names.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { ScriptError } from './install.mjs';

/** PATH with the folders of system programs, which an ordinary user's PATH may lack. */
export const systemPath = [process.env.PATH ?? '', '/usr/local/sbin', '/usr/sbin', '/sbin'].join(delimiter);

const needed = {
  'docker.io': () => isCommand('dockerd') && isCommand('docker'),
  'docker-registry': () => isCommand('docker-registry'),
  'busybox-static': isStaticBusybox,
  iptables: () => isCommand('iptables'),
  mosquitto: () => isCommand('mosquitto'),
  'mosquitto-clients': () => isCommand('mosquitto_sub') && isCommand('mosquitto_pub'),
  systemd: () => isCommand('journalctl'),
  // Makes real journal files of any contents.
  'systemd-journal-remote': () => existsSync('/lib/systemd/systemd-journal-remote'),
  faketime: () => isCommand('faketime'),
  openssl: () => isCommand('openssl'),
  gcc: () => isCommand('gcc'),
  'libc6-dev': () => existsSync('/usr/include/stdlib.h'),
  postgresql: hasPostgres,
  chromium: () => existsSync('/usr/bin/chromium'),
};

/**
 * What one test needs, which is skipped without it. ZooKeeper is 32 MB where Java is there already; Java itself would be
 * 44 MB more, and 190 MB on the disk.
 */
const optional = {
  'libzookeeper-java': () => !isCommand('java') || existsSync('/usr/share/java/zookeeper.jar'),
};

/** Services that come with these packages; the tests start their own private ones. */
const services = {
  'docker.io': ['docker.socket', 'docker', 'containerd'],
  'docker-registry': ['docker-registry'],
  mosquitto: ['mosquitto'],
  postgresql: ['postgresql'],
};

/**
 * Installs the packages that are missing with apt when that is possible (Debian or a relative, as root).
 *
 * @throws {ScriptError} that names the missing packages otherwise
 */
export function ensureSystemPackages() {
  const missing = missingOf(needed);
  const canInstall = existsSync('/etc/debian_version') && isCommand('apt-get') && process.getuid?.() === 0;
  const wanted = canInstall ? missingOf(optional) : [];
  if (missing.length === 0 && wanted.length === 0) return;
  if (!canInstall) {
    throw new ScriptError(
      `the tests need these packages (Debian's names), which are missing: ${missing.join(' ')}\n` +
        `On Debian or Ubuntu: sudo apt-get install --no-install-recommends ${missing.join(' ')}`,
    );
  }
  console.error(`> apt-get install ${[...missing, ...wanted].join(' ')} (once; takes a minute or two)`);
  apt(['update', '-qq']);
  if (missing.length > 0) apt(['install', '-y', '-qq', '--no-install-recommends', ...missing]);
  stopServices(missing);
  const still = missingOf(needed);
  if (still.length > 0) {
    throw new ScriptError(`apt installed ${missing.join(' ')}, but still missing: ${still.join(' ')}`);
  }
  if (wanted.length > 0) installWanted(wanted);
}

/** By themselves, for the rest must not fail with them. */
function installWanted(wanted) {
  try {
    apt(['install', '-y', '-qq', '--no-install-recommends', ...wanted]);
  } catch (error) {
    if (!(error instanceof ScriptError)) throw error;
    console.error(`> without ${wanted.join(' ')}, tests that need it are skipped: ${error.message}`);
  }
}

function missingOf(packages) {
  return Object.keys(packages).filter((name) => !packages[name]());
}

function apt(args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // apt's chatter would bury the tests' output, so it is shown only when it fails.
  const run = spawnSync('apt-get', args, { env, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  if (run.status === 0) return;
  const said = `${run.stdout ?? ''}${run.stderr ?? ''}`.trim().slice(-3000);
  throw new ScriptError(`"apt-get ${args.join(' ')}" failed: ${run.error?.message ?? ''}\n${said}`);
}

function stopServices(installed) {
  if (!existsSync('/run/systemd/system')) return;
  for (const service of installed.flatMap((name) => services[name] ?? [])) {
    // A service that never started is no failure; one that did would hold the default MQTT port.
    spawnSync('systemctl', ['stop', service], { stdio: 'ignore' });
  }
}

function isCommand(name) {
  return systemPath.split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, name)));
}

/** Its server's programs are on no PATH: there is a folder for each version. */
function hasPostgres() {
  const root = '/usr/lib/postgresql';
  return (
    existsSync(root) && readdirSync(root).some((version) => existsSync(join(root, version, 'bin/initdb')))
  );
}

/** A test image holds busybox and nothing else, so one that needs shared libraries is of no use. */
function isStaticBusybox() {
  const path = ['/bin/busybox', '/usr/bin/busybox'].find((candidate) => existsSync(candidate));
  if (!path) return false;
  // A dynamic executable names its loader near the beginning of the file.
  return !/\/ld-(linux|musl)/.test(readFileSync(path).subarray(0, 8192).toString('latin1'));
}
