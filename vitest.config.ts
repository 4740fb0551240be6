import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** What the longest files take, in seconds, where no run before this one has told. */
const longestS: Record<string, number> = {
  'tests/chaos': 70,
  'tests/two-lanes': 55,
  'tests/main-job': 45,
  'tests/start': 45,
  'docker/resume': 45,
  'tests/several-clouds': 40,
  'test/apps/apps': 40,
  'docker/files/engine': 40,
  'docker/containers': 35,
  'broker/external': 30,
  'test/apps/crash': 25,
  'records/records': 25,
  'store/search': 20,
  'main/cloud': 20,
  'retention/removal': 20,
  'tests/logs-command': 20,
  'tests/damaged-journal': 20,
  'service/service': 17,
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

export default defineConfig({
  test: {
    include: ['packages/*/test/**/*.test.ts', 'tests/**/*.test.ts'],
    pool: 'forks',
    // Two cores, both busy: with three files at once the run took as long, and each test half as long again.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 60_000,
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
