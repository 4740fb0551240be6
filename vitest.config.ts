import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** What runs whole programs takes longest, and goes first: at the end no worker waits for another's minute. */
class WholeProgramsFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const weight = ({ moduleId }: TestSpecification) => {
      if (/\/tests\/(chaos|two-lanes|main-job|start)\./.test(moduleId)) return 2;
      return /\/tests\/|\/test\/(docker|broker|main|records)\//.test(moduleId) ? 1 : 0;
    };
    return (await super.sort(files)).sort((a, b) => weight(b) - weight(a));
  }
}

export default defineConfig({
  test: {
    include: ['packages/*/test/**/*.test.ts', 'tests/**/*.test.ts'],
    pool: 'forks',
    // Two cores: more files at once only makes engines and brokers starve each other.
    maxWorkers: 2,
    sequence: { sequencer: WholeProgramsFirst },
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
