import type Docker from 'dockerode';
import type { TestEngine } from '../tests/support/docker.ts';
import { until } from '../tests/support/wait.ts';

/**
 * Prints `<name> <n>`, even numbers to stdout and odd ones to stderr, in bursts; at SIGUSR1 `<name> end <n>`, and
 * then nothing more. A container that is stopped and started, as an engine's restart does, goes on where it was.
 */
const script = `
n=0; stop=; leave=
[ -f /count ] && read n < /count
trap 'leave=1' TERM
trap 'stop=1' USR1
while [ -z "$stop" ]; do
  i=0
  while [ $i -lt $BURST ]; do
    n=$((n+1)); i=$((i+1))
    if [ $((n % 2)) = 0 ]; then echo "$NAME $n"; else echo "$NAME $n" >&2; fi
  done
  sleep $PAUSE
  if [ -n "$leave" ]; then echo $n > /count; exit 0; fi
done
echo "$NAME end $n"
while :; do sleep 1; done
`;

/** The stream that line `n` is printed to. */
export function streamOf(n: number): 'stdout' | 'stderr' {
  return n % 2 === 0 ? 'stdout' : 'stderr';
}

/** Lines per burst, and the seconds between bursts: different per container, so that they fall in no step. */
const rhythms = [
  { burst: 20, pauseS: 0.1 },
  { burst: 60, pauseS: 0.35 },
  { burst: 3, pauseS: 0.02 },
];

export interface Writer {
  readonly name: string;
  /** Asks it to stop, and returns how many lines it has written. */
  stop(): Promise<number>;
}

export interface Writers extends AsyncDisposable {
  readonly list: readonly Writer[];
}

/** Starts containers whose names begin with `prefix`. They are removed when the scope ends. */
export async function startWriters(engine: TestEngine, prefix: string): Promise<Writers> {
  const containers: Docker.Container[] = [];
  const list: Writer[] = [];
  for (const [i, { burst, pauseS }] of rhythms.entries()) {
    const name = `${prefix}-${i + 1}`;
    const container = await engine.run({
      name,
      cmd: ['sh', '-c', script],
      env: { NAME: name, BURST: String(burst), PAUSE: String(pauseS) },
      restart: 'always',
      // Killed in the middle of a burst, it would not know how far it came.
      stopTimeoutS: 12,
    });
    containers.push(container);
    list.push({ name, stop: () => stop(container, name) });
  }
  return {
    list,
    async [Symbol.asyncDispose]() {
      await Promise.all(containers.map((container) => container.remove({ force: true })));
    },
  };
}

async function stop(container: Docker.Container, name: string): Promise<number> {
  await container.kill({ signal: 'SIGUSR1' });
  const end = new RegExp(`${name} end (\\d+)`);
  const said = await until(
    async () => end.exec((await container.logs({ stdout: true, stderr: true, tail: 10 })).toString('latin1')),
    { what: `${name} to say how much it has written` },
  );
  return Number(said[1]);
}
