import { parseArgs } from 'node:util';

/** How lines go from the agent to the cloud. */
export const ways = ['http', 'embedded', 'mosquitto'] as const;
export type Way = (typeof ways)[number];

/** The kinds of faults, in the order of the report. */
export const kinds = {
  kill: 'SIGKILL of the agent, the cloud and the broker, one or several at once',
  pause: 'SIGSTOP of one of them for some seconds, then SIGCONT',
  restart: 'orderly restart of one of them',
  cut: 'a network link breaks its connections and refuses new ones',
  freeze: 'a link passes nothing on for some seconds and tells nobody',
  slow: 'a link passes on a few KB/s',
  tear: 'a link resets each connection in the middle of what it carries',
  answer: 'the cloud answers 500, 503 or never; what it did not answer it may have stored (http)',
  toolarge: 'the cloud answers 413 (http)',
  engine: 'the Docker engine is restarted, and the containers with it',
  disk: "the agent's disk is full for some seconds, and at times the agent is killed meanwhile",
  clock: 'the clock of the agent or the cloud jumps, by minutes or days (needs libfaketime)',
  corrupt: "parts of the agent's journal, sent or not, are damaged or cut off while it is down",
} as const;
export type Kind = keyof typeof kinds;
const allKinds = Object.keys(kinds) as Kind[];

export interface ChaosOptions {
  seed: number;
  minutes: number;
  /** Processes; with more than one they share a ClickHouse cluster and PostgreSQL. */
  clouds: number;
  ways: readonly Way[];
  kinds: readonly Kind[];
}

export class UsageError extends Error {}

export const help = `npm run chaos -- [options]

Containers print numbered lines; agent, broker and cloud run as processes; things break. At the end, what each
container wrote is compared with what the cloud stored. The last line is the result as JSON; the exit code is 0 when
nothing is lost uncounted and nothing is stored twice.

  --seed N       replays the faults of the run that printed this seed (default: random)
  --minutes N    how long things break, over all brokers (default: 5)
  --broker B     http (none), embedded, mosquitto, or all, one after another (default: all)
  --cloud N      N cloud processes on a ClickHouse cluster of three shards and PostgreSQL, behind a load balancer or
                 a shared subscription; then without the embedded broker (default: 1, all in itself)
  --only K,…     only these kinds of faults (default: all)
  --help

Kinds:
${allKinds.map((kind) => `  ${kind.padEnd(13)}${kinds[kind]}`).join('\n')}
`;

/** @throws {UsageError} naming the option and what is allowed */
export function readOptions(args: string[]): ChaosOptions | 'help' {
  const text = { type: 'string' } as const;
  let values: {
    seed?: string;
    minutes?: string;
    broker?: string;
    cloud?: string;
    only?: string;
    help?: boolean;
  };
  try {
    ({ values } = parseArgs({
      args,
      options: {
        ...{ seed: text, minutes: text, broker: text, cloud: text, only: text },
        help: { type: 'boolean', short: 'h' },
      },
    }));
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (values.help) return 'help';
  const seed = values.seed === undefined ? Math.floor(Math.random() * 1e9) : Number(values.seed);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new UsageError('--seed: a whole number from 0');
  const minutes = Number(values.minutes ?? 5);
  if (!(minutes > 0 && minutes <= 100_000)) throw new UsageError('--minutes: a number above 0');
  const clouds = Number(values.cloud ?? 1);
  if (!Number.isInteger(clouds) || clouds < 1 || clouds > 9) throw new UsageError('--cloud: 1 to 9');
  const possible = ways.filter((way) => clouds === 1 || way !== 'embedded');
  return {
    seed,
    minutes,
    clouds,
    ways: listed('--broker', values.broker ?? 'all', possible),
    kinds: listed('--only', values.only ?? 'all', allKinds),
  };
}

function listed<T extends string>(option: string, value: string, allowed: readonly T[]): readonly T[] {
  const names = value.split(',').map((name) => name.trim());
  if (names.includes('all')) return allowed;
  const wrong = names.find((name) => !(allowed as readonly string[]).includes(name));
  if (wrong !== undefined)
    throw new UsageError(`${option}: "${wrong}" is not one of all, ${allowed.join(', ')}`);
  return allowed.filter((name) => names.includes(name));
}
