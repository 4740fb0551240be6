import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Roughly what the longest files take, in seconds; it is their order that matters. */
const longestS: Record<string, number> = {
  'tests/chaos': 60,
  'tests/remote-deploy': 45,
  'tests/several-clouds': 45,
  'docker/resume': 40,
  'tests/start': 40,
  'tests/main-job': 40,
  'test/apps/apps': 35,
  'tests/two-lanes': 35,
  'docker/files/engine': 30,
  'docker/containers': 30,
  'test/apps/crash': 30,
  'broker/external': 30,
  'tests/images': 25,
  'test/apps/images': 25,
  'records/records': 20,
  'store/search': 20,
  'tests/damaged-journal': 20,
  'tests/logs-command': 20,
  'main/cloud': 20,
  'tests/shedding': 18,
  'service/service': 17,
  'ingest/crash': 17,
  'remote/hearing': 15,
  'retention/removal': 15,
  'backup/backup': 12,
  'docker/rotation': 12,
  'query/hostile': 12,
  'targets/push': 12,
  'tests/quota': 12,
  'export/export': 11,
  'store/export': 11,
  'mqtt-backend/two-lanes': 10,
  'store/resharding': 10,
  'tests/samples': 10,
  'tests/clocks': 10,
};

/** The longest go first: at the end no worker waits for another's minute. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const seconds = ({ moduleId }: TestSpecification) => {
      const known = Object.entries(longestS).find(([path]) => moduleId.endsWith(`/${path}.test.ts`));
      if (known) return known[1];
      return /\/tests\/|\/test\/(docker|broker|main|records|http|store)\//.test(moduleId) ? 1 : 0;
    };
    return (await super.sort(files)).sort((a, b) => seconds(b) - seconds(a));
  }
}

/** The build of drizzle-orm for `require`, of the entry that an import names. */
const drizzle = (entry: string) =>
  fileURLToPath(import.meta.resolve(`drizzle-orm${entry}`)).replace(/\.js$/, '.cjs');

/**
 * Tests of plain code: no programs, databases or engines, and nothing that a process has only one of. To start a process
 * and load its libraries takes longer than most of them run, so they share a few.
 */
const plain = [
  'packages/wire/test/**/*.test.ts',
  'packages/agent/test/{assemble,classify,clock,delivery,journal,shape,state-report,syslog}/**/*.test.ts',
  'packages/agent/test/apps/{create-body,plan.property,registry-logins,store}.test.ts',
  'packages/agent/test/apps/remote/{apply-target,follower}.test.ts',
  'packages/agent/test/docker/{chunks,held-lines.property,identity,lines,position,short-way.property}.test.ts',
  'packages/agent/test/docker/files/*{entry,encoded,gaps,files.property,text-lines.property}.test.ts',
  'packages/agent/test/{files/files.property,files/rotation,journald/cursor}.test.ts',
  'packages/client/test/event-stream.test.ts',
  'packages/cloud/test/{clock/skew,patterns/miner,targets/progress,targets/rollout.property}.test.ts',
  'packages/cloud/test/{query/meaning,query/parse,broker/access,http/inflate,http/parameters}.test.ts',
  'packages/cloud/test/ingest/{acknowledging,coalescing,exactly-once,overlaps*,seq-ranges}.test.ts',
  'packages/cloud/test/{retention/sweeper,store/gathering,store/slices,peers/taking-over.property}.test.ts',
  'packages/millrace/test/logs/{format,options}.test.ts',
  'packages/millrace/test/{running,terminal}/**/*.test.ts',
];

export default defineConfig({
  resolve: {
    // Node reads a package's long package.json anew for each of its modules: half a second for these, in each test file.
    alias: ['', '/pg-core', '/pglite', '/node-postgres'].map((entry) => ({
      find: new RegExp(`^drizzle-orm${entry}$`),
      replacement: drizzle(entry),
    })),
  },
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: 'real',
          include: ['packages/*/test/**/*.test.ts', 'tests/**/*.test.ts'],
          exclude: plain,
        },
      },
      { extends: true, test: { name: 'plain', include: plain, isolate: false } },
    ],
    pool: 'forks',
    // Two cores, both busy: with three files at once the run took as long, and each test half as long again.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 120_000,
    hookTimeout: 120_000,
    env: { UV_THREADPOOL_SIZE: '24' },
    // The embedded PostgreSQL is WebAssembly: to optimise it costs more than a test can win by it.
    execArgv: ['--liftoff-only'],
    setupFiles: ['tests/support/property-seed.ts'],
    // What judges a change runs beside others on machines of unknown load: a failure must happen twice there to count.
    // It is printed all the same.
    retry: process.env.CI === undefined ? 0 : 1,
  },
});
