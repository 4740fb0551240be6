import { CommanderError } from 'commander';
import { createProgram } from './program.ts';
import { errorReport } from './terminal/error-report.ts';

/**
 * The millrace command. Sets the exit code: 0 for success (a clean stop too), 1 for an error, 2 for a wrong
 * command line.
 */
export async function main(argv: readonly string[]): Promise<void> {
  try {
    process.exitCode = await run(argv);
  } catch (error) {
    process.stderr.write(errorReport(error, process.stderr));
    process.exitCode = 1;
  }
  // What still holds the process (a library's thread, a socket on its way out) has nothing left to save.
  process.exit();
}

async function run(argv: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = createProgram({
    env: process.env,
    stdout: process.stdout,
    stderr: process.stderr,
    exitWith: (code) => {
      exitCode = code;
    },
  });
  try {
    await program.parseAsync(argv);
  } catch (error) {
    // commander has printed its message already; help and --version end this way too.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    throw error;
  }
  return exitCode;
}
