/*
 * npm run chaos: containers print numbered lines while things break; at the end, what was written is compared with
 * what the cloud has stored. See `--help`.
 */
import { type ChaosOptions, help, readOptions, UsageError } from './options.ts';
import { jsonOf, tableOf } from './report.ts';
import { runChaos } from './run.ts';

function optionsOf(args: string[]): ChaosOptions | undefined {
  try {
    const options = readOptions(args);
    if (options !== 'help') return options;
    console.log(help);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`chaos: ${error.message}\n\n${help}`);
    process.exitCode = 2;
  }
  return undefined;
}

const options = optionsOf(process.argv.slice(2));
if (options) {
  // An `exit` ends the programs that were started; a signal alone would leave them behind.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => process.exit(130));
  const { seed, minutes, clouds, ways, kinds } = options;
  console.log(
    `seed ${seed}: ${minutes} minutes of ${kinds.join(', ')} by ${ways.join(', ')}${clouds > 1 ? ` to ${clouds} clouds` : ''}`,
  );
  const result = await runChaos(options, (line) => console.error(line));
  console.log(`\n${tableOf(result)}\n`);
  console.log(jsonOf(result));
  // Not `exitCode`: Node has been seen to spin for ever while it tidied up behind the last line (CleanupHandles).
  process.exit(result.account.lost === 0 && result.account.duplicated === 0 ? 0 : 1);
}
