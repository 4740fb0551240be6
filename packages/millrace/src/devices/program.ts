import { Command, Option } from 'commander';
import type { ProgramContext } from '../program-context.ts';
import { untilUnwanted } from '../running/until-unwanted.ts';
import { serverHelp } from '../terminal/server-help.ts';
import type { DevicesOptions } from './list.ts';
import type { DeviceOptions } from './show.ts';

const devicesHelp = `${serverHelp}
Examples:
  millrace devices                      all of them: online or not, apps, last line
  millrace devices --fleet tills --offline
  millrace devices --json | jq .uuid`;

/** `millrace devices` */
export function devicesCommand({ env, stdout, stderr, exitWith }: ProgramContext): Command {
  return new Command('devices')
    .description('list the devices of the cloud')
    .option('--fleet <name>', 'only devices of this fleet')
    .addOption(new Option('--online', 'only those that are online').conflicts('offline'))
    .option('--offline', 'only those that are not')
    .option('--json', 'one JSON object per device')
    .option('--url <url>', 'address of the server')
    .addHelpText('after', devicesHelp)
    .action(async (options: DevicesOptions) => {
      const signal = untilUnwanted(stdout);
      const { listDevices } = await import('./list.ts');
      try {
        await listDevices(options, { env, stdout, stderr, signal });
      } catch (error) {
        if (!signal.aborted) throw error;
      }
      exitWith(0);
    });
}

const deviceHelp = `${serverHelp}
Examples:
  millrace device till-7                by its name, its uuid, or the beginning of that
  millrace device 1a2b3c4d --json`;

/** `millrace device` */
export function deviceCommand({ env, stdout, stderr, exitWith }: ProgramContext): Command {
  return new Command('device')
    .description('show a device: its state, its apps, and how far a deployment is')
    .argument('<device>', 'uuid or name')
    .option('--json', 'JSON instead of text')
    .option('--url <url>', 'address of the server')
    .addHelpText('after', deviceHelp)
    .action(async (given: string, options: DeviceOptions) => {
      const signal = untilUnwanted(stdout);
      const { showDevice } = await import('./show.ts');
      await showDevice(given, options, { env, stdout, stderr, signal });
      exitWith(0);
    });
}
