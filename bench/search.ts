/*
 * How long searches take in 20 million lines of 200 devices over seven days, asked as a person asks them: over the API of
 * the real cloud. Each is asked once cold (the program has just started, and none of the store's files is in memory) and
 * then again and again. Beside it `grep` over the same messages as text, in memory.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { adminToken } from '../tests/support/cloud.ts';
import { tempDir } from '../tests/support/tmp.ts';
import { wholeNumber } from './arguments.ts';
import { startChild } from './child.ts';
import { startBenchCloud } from './cloud-process.ts';
import type { DataMade, DataStart } from './search-data.ts';
import { cpuSeconds, machineLoad, quantile, round } from './usage.ts';

const usage = `npm run bench:search [-- options]

  --lines N     lines stored, 100000 to 50000000 (default 20000000); about 120 bytes of disk each
  --only A,B    only the searches of these names
  --repeat N    times that each search is asked warm (default 20)
  --data DIR    makes the lines in this folder and leaves them there; where there are some, takes those

Figures are for people on stderr; the last line of stdout has them as JSON.`;

interface Search {
  name: string;
  path: string;
  /** Arguments of grep that find the same lines. */
  grep?: string[];
}

const searches: Search[] = [
  { name: 'deviceNewest', path: 'logs?device=bench-device-0042&limit=100' },
  { name: 'needle', path: 'logs?limit=100&query=needleword', grep: ['-i', 'needleword'] },
  {
    name: 'phrase',
    path: `logs?limit=100&query=${encodeURIComponent('"circuit breaker opened"')}`,
    grep: ['-i', 'circuit breaker opened'],
  },
  { name: 'absent', path: 'logs?limit=100&query=absentword', grep: ['-i', 'absentword'] },
  { name: 'wildcard', path: 'logs?limit=100&query=needlew*', grep: ['-iE', '\\bneedlew'] },
  {
    name: 'regex',
    path: `logs?limit=100&query=${encodeURIComponent('/unreachable: needleword-[0-9]+7 after/')}`,
    grep: ['-E', 'unreachable: needleword-[0-9]+7 after'],
  },
  { name: 'commonWord', path: 'logs?limit=100&query=statement', grep: ['-i', 'statement'] },
  // Of one line of the data, whenever that was made.
  { name: 'fieldText', path: 'logs?limit=100&query=trace_id:b5c6168cd7d635e6' },
  { name: 'fieldNumber', path: 'logs?limit=100&query=status:504' },
  { name: 'fieldAbsent', path: `logs?limit=100&query=${encodeURIComponent('absent_key:>5')}` },
  { name: 'levelHistogram', path: 'logs/histogram?by=level&since=7d' },
  { name: 'topServices', path: 'logs/facets?fields=service&limit=10&since=7d' },
  { name: 'fleetNewest', path: 'logs?limit=100' },
  { name: 'fleetWeek', path: 'logs?limit=100&since=7d' },
  { name: 'usage', path: 'usage?limit=1000' },
];

const options = readOptions();
await using temporary = await tempDir('millrace-bench-');
const dir = options.data ?? temporary.path;
const textFile = join(dir, 'messages.txt');
say(`load ${machineLoad()}`);
if (options.data === undefined || !readdirSync(dir).includes('messages.txt')) {
  const made = await makeLines();
  say(`${options.lines} lines in ${made.parts} parts, ${round(made.bytesPerLine, 1)} bytes each on disk`);
}

const figures: Record<string, object> = {};
say(
  `${'search'.padEnd(16)}${['p50', 'p95', 'CPU', 'cold', 'grep'].map((head) => head.padStart(12)).join('')}     lines`,
);
for (const search of searches.filter(({ name }) => options.only?.includes(name) ?? true)) {
  const { coldMs, warmMs, cpuMs, lines } = await ask(search);
  const grepMs = search.grep ? grep(search.grep) : undefined;
  const [p50Ms, p95Ms] = [quantile(warmMs, 0.5), quantile(warmMs, 0.95)];
  figures[search.name] = {
    p50Ms: round(p50Ms, 1),
    p95Ms: round(p95Ms, 1),
    coldMs: round(coldMs, 1),
    cpuMs: round(cpuMs, 1),
    ...(grepMs !== undefined && { grepMs: round(grepMs, 0) }),
  };
  say(
    `${search.name.padEnd(16)}${[p50Ms, p95Ms, cpuMs, coldMs, grepMs].map((ms) => (ms === undefined ? '' : `${ms.toFixed(1)} ms`).padStart(12)).join('')}     ${lines}`,
  );
}
say(`load ${machineLoad()}`);
console.log(JSON.stringify(figures));

interface Asked {
  coldMs: number;
  warmMs: number[];
  /** CPU time of the cloud for one warm search: what is left when the machine has nothing else to do. */
  cpuMs: number;
  lines: number;
}

async function ask({ name, path }: Search): Promise<Asked> {
  forgetFiles(join(dir, 'store'));
  await using cloud = await startBenchCloud(dir);
  forgetFiles(join(dir, 'store'));
  const once = async () => {
    const startMs = performance.now();
    const response = await fetch(`${cloud.url}/api/v1/${path}`, {
      headers: { authorization: `Bearer ${adminToken}` },
    });
    const body = (await response.json()) as { logs?: unknown[]; usage?: unknown[]; count?: number };
    if (!response.ok) throw new Error(`${name}: ${response.status} ${JSON.stringify(body)}`);
    return { ms: performance.now() - startMs, lines: (body.logs ?? body.usage)?.length ?? body.count ?? 0 };
  };
  const cold = await once();
  await once();
  const warmMs: number[] = [];
  const cpuBefore = cpuSeconds(cloud.program.pid);
  for (let i = 0; i < options.repeat; i++) warmMs.push((await once()).ms);
  const cpuMs = ((cpuSeconds(cloud.program.pid) - cpuBefore) * 1000) / options.repeat;
  await cloud.program.end('SIGTERM');
  return { coldMs: cold.ms, warmMs, cpuMs, lines: cold.lines };
}

/** The fastest of three: by the second, the file is in memory if there is room for it. */
function grep(args: string[]): number {
  const times = Array.from({ length: 3 }, () => {
    const startMs = performance.now();
    const { status, stderr } = spawnSync('grep', ['-c', ...args, textFile], { env: { LC_ALL: 'C' } });
    if (status !== 0 && status !== 1) throw new Error(`grep: ${stderr}`);
    return performance.now() - startMs;
  });
  return Math.min(...times);
}

/** Lets the system drop the files below a folder from its cache, and no others: this may be a busy machine. */
function forgetFiles(folder: string): void {
  const paths = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const script = 'for path; do dd if="$path" iflag=nocache count=0 status=none || exit 1; done';
  for (let from = 0; from < paths.length; from += 1000) {
    execFileSync('sh', ['-c', script, 'sh', ...paths.slice(from, from + 1000)]);
  }
}

async function makeLines(): Promise<DataMade> {
  await using maker = startChild('search-data.ts');
  maker.send({ dataDir: dir, lines: options.lines, textFile } satisfies DataStart);
  return await maker.answer<DataMade>();
}

function say(...lines: string[]): void {
  for (const line of lines) console.error(line);
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        lines: { type: 'string', default: '20000000' },
        repeat: { type: 'string', default: '20' },
        data: { type: 'string' },
        only: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    const only = values.only?.split(',');
    const unknown = only?.find((name) => !searches.some((search) => search.name === name));
    if (unknown !== undefined) {
      throw new Error(
        `--only takes ${searches.map(({ name }) => name).join(', ')}; there is no "${unknown}"`,
      );
    }
    return {
      only,
      data: values.data,
      lines: wholeNumber('--lines', values.lines, 100_000, 50_000_000),
      repeat: wholeNumber('--repeat', values.repeat, 1, 1000),
    };
  } catch (error) {
    say((error as Error).message, '', usage);
    return process.exit(2);
  }
}
