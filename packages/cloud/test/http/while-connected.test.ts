import Fastify from 'fastify';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { whileConnected } from '../../src/http/while-connected.ts';

test('a caller that goes away ends what was done for it, and nothing has failed', async () => {
  const app = Fastify({ forceCloseConnections: true });
  const seen: string[] = [];
  app.setErrorHandler((error) => {
    seen.push(`failed: ${(error as Error).message}`);
  });
  app.get('/slow', (_request, reply) =>
    whileConnected(reply, async (signal) => {
      seen.push('asked');
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      seen.push('aborted');
      throw new Error('cancelled');
    }),
  );
  app.get('/quick', (_request, reply) =>
    whileConnected(reply, async (signal) => ({ aborted: signal.aborted })),
  );
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  try {
    const caller = new AbortController();
    const answer = fetch(`${url}/slow`, { signal: caller.signal }).catch(() => undefined);
    await until(() => seen.includes('asked'));
    caller.abort();
    await answer;
    await until(() => seen.includes('aborted'));
    expect(await (await fetch(`${url}/quick`)).json()).toEqual({ aborted: false });
    expect(seen).toEqual(['asked', 'aborted']);
  } finally {
    await app.close();
  }
});
