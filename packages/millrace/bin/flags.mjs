/*
 * How the processes of the command are to be started, which a process can no longer change for itself.
 *
 * The agent runs where memory is short: V8 is told to collect its garbage soon rather than to let the heap grow, for
 * some CPU under full load (npm run bench:outage shows both), and the C library to keep one heap for all threads, to give
 * back what is free at its end, and to ask the kernel for each buffer of some size, which then takes it back. It
 * is not told to collect once more whenever there is less to do: the buffers of lines pass for growth, and each of those
 * collections goes through the whole heap for a megabyte or two (npm run bench:agent). Code is interpreted until it is
 * worth optimizing: what the compiler in between makes of it takes a megabyte, and spares no CPU that can be measured.
 * All others hold the embedded store, which takes a thread of libuv's pool for each running query; the pool's size
 * is read once, early.
 */
const agentEnv = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '131072',
  MALLOC_TRIM_THRESHOLD_: '131072',
  MALLOC_TOP_PAD_: '16384',
};
const otherEnv = { UV_THREADPOOL_SIZE: '24' };
// The MQTT client calls url.parse(), which no user of ours can do anything about.
const noWarnings = ['--disable-warning=DEP0169'];
const agentFlags = [
  '--max-semi-space-size=4',
  '--optimize-for-size',
  '--no-memory-reducer',
  '--no-sparkplug',
  ...noWarnings,
];

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
  const wanted = command === 'agent' ? agentEnv : otherEnv;
  const isSet = Object.keys(wanted).every((name) => env[name]);
  return isSet ? env : { ...wanted, ...env };
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
