/*
 * How the processes of the command are to be started, which a process can no longer change for itself.
 *
 * The agent runs where memory is short: V8 is told to collect its garbage soon rather than to let the heap grow, for
 * some CPU under full load (npm run bench:outage shows both), and the C library not to keep a heap for each thread. It
 * is not told to collect once more whenever there is less to do: the buffers of lines pass for growth, and each of those
 * collections goes through the whole heap for a megabyte or two (npm run bench:agent).
 * All others hold the embedded store, which takes a thread of libuv's pool for each running query; the pool's size
 * is read once, early.
 */
const agentFlags = ['--max-semi-space-size=4', '--optimize-for-size', '--no-memory-reducer'];

/**
 * The flags for Node with which a command of `millrace` runs.
 *
 * @param {string | undefined} command
 * @returns {string[]}
 */
export function nodeFlags(command) {
  return command === 'agent' ? agentFlags : [];
}

/**
 * @param {string | undefined} command
 * @param {NodeJS.ProcessEnv} env
 * @returns {NodeJS.ProcessEnv}
 */
export function nodeEnv(command, env) {
  const name = command === 'agent' ? 'MALLOC_ARENA_MAX' : 'UV_THREADPOOL_SIZE';
  return env[name] ? env : { ...env, [name]: command === 'agent' ? '2' : '24' };
}

/**
 * Whether this process was started in the way that a command needs.
 *
 * @param {string | undefined} command
 */
export function isStartedFor(command) {
  return (
    Number(process.versions.node.split('.')[0]) >= 24 &&
    nodeEnv(command, process.env) === process.env &&
    nodeFlags(command).every((flag) => process.execArgv.includes(flag))
  );
}
