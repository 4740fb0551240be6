import { startTestCloud, type TestCloud } from '../tests/support/cloud.ts';

const tries = 5;

/**
 * Starts a cloud as tests do. On a machine that runs much beside, another program may take a port between its being found
 * free and the cloud's listening on it; then it is tried with others.
 */
export async function startBenchCloud(dataDir: string, env: Record<string, string> = {}): Promise<TestCloud> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startTestCloud(dataDir, env);
    } catch (error) {
      if (attempt === tries || !String(error).includes('PORT_TAKEN')) throw error;
    }
  }
}
