import { Command } from 'commander';
import type { ProgramContext } from '../program-context.ts';
import { untilUnwanted } from '../running/until-unwanted.ts';
import { serverHelp } from '../terminal/server-help.ts';
import type { DeployOptions } from './command.ts';

const deployHelp = `
<file> is a compose file, or JSON as the app API takes it: one app, a list of apps, or {"apps": […]}. "-" reads it from
stdin. Other apps that the cloud has deployed there stay, unless --replace says otherwise. It ends with 0 when
everything is done, and with 1 when something failed or the rollout was stopped. Ctrl-C stops watching; the
deployment goes on.
${serverHelp}
Examples:
  millrace deploy till-7 compose.yaml             to one device, by its name, uuid or the beginning of that
  millrace deploy tills compose.yaml --batch 25%  to a fleet, a quarter of it at a time
  millrace deploy tills compose.yaml --dry-run    what would change
  millrace deploy fleet:tills - --app shop < compose.yaml`;

/** `millrace deploy` */
export function deployCommand({ env, stdout, stderr, exitWith }: ProgramContext): Command {
  return new Command('deploy')
    .description('deploy an app to a device or a fleet, and watch how it goes')
    .argument(
      '<device|fleet>',
      'a device by uuid or name, or a fleet; device:… or fleet:… where both have the name',
    )
    .argument('<file>', 'compose.yaml or app.json')
    .option('--app <name>', 'name or id of the app, where the compose file has no name')
    .option('--batch <size>', 'of a fleet: how many devices at once, such as 5 or 25% (default: all)')
    .option('--max-failures <count>', 'of a fleet: stop when more devices have failed (default: 0)')
    .option('--patience <time>', 'of a fleet: a device that takes longer has failed (default: 30m)')
    .option('--retry', 'try again what failed, though nothing differs')
    .option('--replace', 'remove the other apps that the cloud has deployed there')
    .option('--dry-run', 'say what would change; change nothing')
    .option('--no-wait', 'do not watch how it goes')
    .option('--timeout <time>', 'stop watching after this time, such as 10m, with exit code 1')
    .option('--json', 'JSON: what was changed, then each change of the progress, a line each')
    .option('--url <url>', 'address of the server')
    .addHelpText('after', deployHelp)
    .action(async (to: string, file: string, options: DeployOptions) => {
      const signal = untilUnwanted(stdout);
      const { deploy } = await import('./command.ts');
      exitWith(
        (await deploy({ to, file }, options, { env, stdin: process.stdin, stdout, stderr, signal })) ? 0 : 1,
      );
    });
}
