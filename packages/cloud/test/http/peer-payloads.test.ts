import Fastify from 'fastify';
import pino from 'pino';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import type { DeviceInbox } from '../../src/broker/inbox.ts';
import { PeerPayloads } from '../../src/http/peer-payloads.ts';
import { useProblems } from '../../src/http/problems.ts';
import { validate } from '../../src/http/validation.ts';

const secret = 'a-secret-between-processes';

test('who stops answers what others handed on, and takes no more of it', async () => {
  const committed = Promise.withResolvers<string[]>();
  let taken = 0;
  const inbox = {
    own: () => {
      taken++;
      return committed.promise;
    },
  } as unknown as DeviceInbox;
  const app = Fastify({ forceCloseConnections: true });
  app.setValidatorCompiler(validate);
  useProblems(app, { log: pino({ level: 'silent' }), onRefused: () => undefined });
  const payloads = new PeerPayloads();
  await app.register(payloads.route, { inbox, secret, maxPayloadBytes: 1000 });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  const send = (shown = secret, signal?: AbortSignal) =>
    fetch(`${url}/peers/payloads/d1`, {
      ...{ method: 'POST', signal },
      headers: { authorization: `Bearer ${shown}`, 'content-type': 'application/octet-stream' },
      body: '{"message":"x"}',
    });
  expect((await send('a-guess')).status).toBe(401);
  const answers = [send(), send()];
  const gone = new AbortController();
  const unanswered = send(secret, gone.signal);
  await until(() => taken === 3);
  gone.abort();
  await expect(unanswered).rejects.toThrow('aborted');
  let isDrained = false;
  const draining = payloads.drain().then(() => {
    isDrained = true;
  });
  expect((await send()).status).toBe(503);
  expect([taken, isDrained]).toEqual([3, false]);
  committed.resolve(['stored']);
  await draining;
  for (const answer of answers) expect(await (await answer).json()).toEqual({ messages: ['stored'] });
  await payloads.drain();
  await app.close();
});
