import { readFileSync } from 'node:fs';
import { agentSettings } from '@millrace/agent/config';
import { cloudSettings } from '@millrace/cloud/config';
import type { Settings } from '@millrace/wire';
import { Command, Option } from 'commander';
import { deployCommand } from './deploy/program.ts';
import { deviceCommand, devicesCommand } from './devices/program.ts';
import type { LogsOptions } from './logs/command.ts';
import type { ExportOptions } from './logs/export.ts';
import type { ProgramContext } from './program-context.ts';
import { untilStopped } from './running/until-stopped.ts';
import { untilUnwanted } from './running/until-unwanted.ts';
import type { InstallOptions, UninstallOptions } from './service/install.ts';
import { programLog } from './terminal/program-log.ts';
import { serverHelp } from './terminal/server-help.ts';
import { settingsTable } from './terminal/settings-table.ts';

/** The command line. Throws commander's CommanderError instead of ending the process. */
export function createProgram(context: ProgramContext): Command {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const program = new Command('millrace')
    .description('Container logs from devices to the cloud: nothing lost, nothing twice.')
    .version(version)
    .exitOverride()
    .showHelpAfterError('(see millrace --help)')
    .configureHelp({ showGlobalOptions: false });
  for (const command of [
    upCommand(context),
    withService(context, agentCommand(context)),
    cloudCommand(context),
    logsCommand(context),
    exportCommand(context),
    devicesCommand(context),
    deviceCommand(context),
    deployCommand(context),
    journalCommand(context),
  ]) {
    program.addCommand(command.copyInheritedSettings(program));
  }
  return program;
}

function upCommand({ env, stdout, exitWith }: ProgramContext): Command {
  return service('up', { ...cloudSettings, ...agentSettings }, stdout)
    .description('run everything in one process: broker, cloud, and the agent of this machine')
    .action(async () => {
      // Loaded here, since the store's library alone is half a gigabyte.
      const { startUp } = await import('./up/up.ts');
      const log = programLog(stdout, env);
      exitWith(await untilStopped(() => startUp({ env, log, stdout }), { log }));
    });
}

const installHelp = `
Settings are given as NAME=value and kept in a file that only its owner may read; NAME= takes one away.
Without --root the agent runs as a user of its own that may read logs and open Docker's socket, and nothing else.

Examples:
  sudo millrace agent install CLOUD_ENDPOINT=https://logs.example.com JOIN_KEY=…
  sudo millrace agent install --settings fleet.env    the same from a file: no key on a command line
  sudo millrace agent install MQTT_BROKER=            takes a setting away, and restarts the agent
  millrace agent install --user --dry-run             shows what would be written`;

/** \`millrace agent install\` and \`uninstall\`. */
function withService({ env, stdout, exitWith }: ProgramContext, agent: Command): Command {
  const load = () => import('./service/install.ts');
  agent
    .command('install')
    .description('make the agent a service that starts with the machine (systemd), or change its settings')
    .argument('[settings...]', 'NAME=value')
    .option('--settings <file>', 'take settings from a file of NAME=value lines')
    .option('--user', 'a service of the calling user, without root')
    .option('--root', 'run as root: for a DATA_DIR elsewhere, or a shutdown by the device API')
    .option('--dry-run', 'print what would be written, without keys; change nothing')
    .option('--no-start', 'start with the machine only')
    .addHelpText('after', installHelp)
    .action(async (settings: string[], options: InstallOptions) => {
      await (await load()).installAgent(settings, options, { env, stdout });
      exitWith(0);
    });
  agent
    .command('uninstall')
    .description('stop the service and take it away; the journal stays')
    .option('--user', 'the service of the calling user')
    .option('--purge', 'remove the journal, the identity and the settings too')
    .action(async (options: UninstallOptions) => {
      await (await load()).uninstallAgent(options, { env, stdout });
      exitWith(0);
    });
  return agent;
}

function agentCommand({ env, stdout, exitWith }: ProgramContext): Command {
  return service('agent', agentSettings, stdout)
    .description('run the agent alone: capture the logs of this machine and ship them')
    .action(async () => {
      const { startAgent } = await import('@millrace/agent/main');
      const log = programLog(stdout, env);
      exitWith(await untilStopped(() => startAgent({ env, log }), { log }));
    });
}

function cloudCommand({ env, stdout, exitWith }: ProgramContext): Command {
  const cloud = service('cloud', cloudSettings, stdout)
    .description('run the cloud alone: receive, store and serve the logs of devices')
    .action(async () => {
      const { startCloudAlone } = await import('./up/cloud-alone.ts');
      const log = programLog(stdout, env);
      exitWith(await untilStopped(() => startCloudAlone({ env, log, stdout }), { log }));
    });
  const load = () => import('./cloud/commands.ts');
  // What is printed is the answer; the parts' own log would get in between.
  const context = () => ({ env, stdout, log: programLog(stdout, { ...env, LOG_LEVEL: 'silent' }) });
  cloud
    .command('check')
    .description('read the settings and try to reach every part; nothing is changed')
    .option('--json', 'JSON instead of a table')
    .action(async ({ json = false }: { json?: boolean }) => {
      exitWith((await (await load()).check(json, context())) ? 0 : 1);
    });
  cloud
    .command('backup')
    .description('copy everything that is stored into a folder of BACKUP_DIR, while the cloud runs or not')
    .option('--url <url>', 'address of the cloud')
    .option('--json', 'JSON instead of text')
    .action(async (options: { url?: string; json?: boolean }) => {
      await (await load()).backUp(options, context());
      exitWith(0);
    });
  cloud
    .command('restore')
    .description('make DATA_DIR out of a backup; what is there is not overwritten')
    .argument('<folder>', 'the backup')
    .action(async (folder: string) => {
      await (await load()).restoreFrom(folder, context());
      exitWith(0);
    });
  return cloud;
}

function service(name: string, settings: Settings, stdout: NodeJS.WriteStream): Command {
  return new Command(name).addHelpText('after', () => `\n${settingsTable(settings, stdout.columns ?? 100)}`);
}

const logsHelp = `${serverHelp}
Examples:
  millrace logs -f                            everything, as it arrives
  millrace logs --service web --level warn+   warnings and errors of one service
  millrace logs --since 2h connection refused lines with both words
  millrace logs '"timed out" -service:cache latency:>500'   a query: see docs/search.md
  millrace logs --json --limit 1000 | jq .message`;

function logsCommand({ env, stdout, stderr, exitWith }: ProgramContext): Command {
  return filtered('logs')
    .description('print lines from the cloud, oldest first, or follow them')
    .option('-f, --follow', 'go on with the lines that arrive')
    .option('--limit <count>', 'at most this many lines, the newest', '100')
    .option('--json', 'one JSON object per line')
    .addHelpText('after', logsHelp)
    .action(async (words: string[], options: LogsOptions) => {
      const { printLogs } = await import('./logs/command.ts');
      const signal = untilUnwanted(stdout);
      try {
        await printLogs(words, options, { env, stdout, stderr, signal });
      } catch (error) {
        if (!signal.aborted) throw error;
      }
      exitWith(0);
    });
}

const exportHelp = `${serverHelp}
It ends with an error when it breaks off: then what was written is not whole.

Examples:
  millrace export > everything.ndjson
  millrace export level:error --since 7d --format csv > errors.csv
  millrace export --device 1a2b3c4d --format text | less`;

function exportCommand({ env, stdout, stderr, exitWith }: ProgramContext): Command {
  return filtered('export')
    .description('write all lines of a query to stdout, however many')
    .addOption(new Option('--format <format>', 'how').choices(['ndjson', 'csv', 'text']).default('ndjson'))
    .addOption(
      new Option('--order <order>', 'oldest or newest first').choices(['asc', 'desc']).default('asc'),
    )
    .addOption(
      new Option(
        '--formulas <what>',
        "of a CSV: put a ' before cells that a spreadsheet would run, or do not",
      )
        .choices(['escape', 'keep'])
        .default('escape'),
    )
    .addHelpText('after', exportHelp)
    .action(async (words: string[], options: ExportOptions) => {
      const { exportLogs } = await import('./logs/export.ts');
      const signal = untilUnwanted(stdout);
      try {
        await exportLogs(words, options, { env, stdout, stderr, signal });
      } catch (error) {
        if (!signal.aborted) throw error;
      }
      // Half a file is no success, except for `| head`, which wanted no more.
      exitWith(signal.aborted && !stdout.errored ? 1 : 0);
    });
}

/** A command about lines of the cloud. */
function filtered(name: string): Command {
  return new Command(name)
    .argument('[query...]', 'words that must all occur in the message, or a query')
    .option('--device <uuid>', 'only this device (the beginning of its uuid is enough)')
    .option('--service <name>', 'only this service')
    .option('--level <levels>', 'only these levels: error, or warn,error, or warn+')
    .addOption(new Option('--stream <stream>', 'only this stream').choices(['stdout', 'stderr']))
    .option('--since <moment>', 'from this moment: 10m (ago), 2h, 7d, a date, or ms since 1970')
    .option('--until <moment>', 'before this moment')
    .option('--url <url>', 'address of the server');
}

const journalHelp = `
<dir> is a device's data folder, its logs folder, or a copy of either. Nothing in it is changed.

Examples:
  millrace journal ls data                    the segments: bytes, lines, seqs, times
  millrace journal cat /mnt/card/data | less  every line that can be read
  millrace journal verify ./copy              what is damaged or missing; exit code 1 if anything is`;

function journalCommand({ env, stdout, exitWith }: ProgramContext): Command {
  const journal = new Command('journal')
    .description("look into a device's journal, a copied-off one too")
    .addHelpText('after', journalHelp);
  const subcommand = (name: string, description: string) =>
    journal
      .command(name)
      .description(description)
      .argument('<dir>', 'data folder or logs folder')
      .option('--json', 'JSON instead of text');
  const load = () => import('./journal/commands.ts');
  const context = () => ({ env, stdout, signal: untilUnwanted(stdout) });
  subcommand('ls', 'list its segments').action(async (dir: string, { json = false }: { json?: boolean }) => {
    await (await load()).listJournal(dir, json, context());
    exitWith(0);
  });
  subcommand('cat', 'print its lines, oldest first').action(
    async (dir: string, { json = false }: { json?: boolean }) => {
      await (await load()).printJournal(dir, json, context());
      exitWith(0);
    },
  );
  subcommand('verify', 'read everything and say what is damaged').action(
    async (dir: string, { json = false }: { json?: boolean }) => {
      exitWith((await (await load()).verifyJournal(dir, json, context())) ? 0 : 1);
    },
  );
  return journal;
}
