import { MillraceClient } from '@millrace/client';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { follow } from '../../src/logs/follow.ts';
import { line, ScriptedServer } from './scripted-server.ts';

/** Follows in the background and collects the seqs it gives. */
function following(scripted: ScriptedServer, { limit = 100 } = {}) {
  const stopping = new AbortController();
  const seqs: number[] = [];
  const notices: string[] = [];
  const client = new MillraceClient({ url: scripted.url, token: scripted.token });
  const done = (async () => {
    const lines = follow({
      client,
      filter: {},
      limit,
      signal: stopping.signal,
      onNotice: (n) => notices.push(n),
    });
    for await (const { seq } of lines) seqs.push(seq ?? 0);
  })();
  return {
    seqs,
    notices,
    done,
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await done;
    },
  };
}

test('lines that arrive while the search runs are shown once, in order', async () => {
  await using scripted = await new ScriptedServer().start();
  scripted.stored.push(line(1, { agoMs: 5000 }), line(2, { agoMs: 4000 }));
  const third = line(3);
  scripted.duringSearch = () => {
    scripted.duringSearch = () => {};
    // One that both the tail and a later search give, and one that only the tail has.
    scripted.stored.push(third);
    scripted.push(third);
    scripted.push(line(4));
  };
  await using followed = following(scripted);
  await until(() => followed.seqs.length === 4, { what: () => `4 lines, have ${followed.seqs}` });
  expect(followed.seqs).toEqual([1, 2, 3, 4]);
  await until(() => scripted.searches === 2, { what: 'the late search' });
  scripted.push(line(5));
  await until(() => followed.seqs.length === 5);
  expect(followed.seqs).toEqual([1, 2, 3, 4, 5]);
});

test('a line that arrived before the tail opened and was stored after the search is not missed', async () => {
  await using scripted = await new ScriptedServer().start();
  scripted.stored.push(line(1, { agoMs: 5000 }));
  const between = line(2, { agoMs: 10 });
  await using followed = following(scripted);
  await until(() => followed.seqs.length === 1);
  scripted.stored.push(between);
  await until(() => followed.seqs.length === 2, { what: 'the line found late' });
  expect(followed.seqs).toEqual([1, 2]);
});

test('lines beyond the limit do not come back as missed ones', async () => {
  await using scripted = await new ScriptedServer().start();
  for (let seq = 1; seq <= 9; seq++) scripted.stored.push(line(seq, { agoMs: 100 - seq }));
  await using followed = following(scripted, { limit: 3 });
  await until(() => scripted.searches === 2, { what: 'the late search' });
  scripted.push(line(10));
  await until(() => followed.seqs.includes(10));
  expect(followed.seqs).toEqual([7, 8, 9, 10]);
  // Nor with lines that were missed later on.
  scripted.stored.push(line(11));
  scripted.skip(1);
  await until(() => followed.seqs.includes(11));
  expect(followed.seqs).toEqual([7, 8, 9, 10, 11]);
});

test('a device whose clock is ahead hides nothing that others send', async () => {
  await using scripted = await new ScriptedServer().start();
  scripted.stored.push(line(1, { agoMs: -3_600_000 }));
  await using followed = following(scripted, { limit: 1 });
  await until(() => followed.seqs.length === 1 && scripted.watchers === 1);
  scripted.stored.push(line(2, { agoMs: -1 }));
  scripted.skip(1);
  await until(() => followed.seqs.length === 2, { what: 'the line of another' });
});

test('with a limit of 0 only what arrives is shown', async () => {
  await using scripted = await new ScriptedServer().start();
  scripted.stored.push(line(1, { agoMs: 50 }));
  await using followed = following(scripted, { limit: 0 });
  await until(() => scripted.searches === 1, { what: 'the late search' });
  scripted.push(line(2));
  await until(() => followed.seqs.length > 0);
  expect(followed.seqs).toEqual([2]);
});

test('a restart of the server neither loses nor repeats a line', async () => {
  await using scripted = await new ScriptedServer().start();
  scripted.pageLimit = 2;
  const lines = [line(1), line(2)];
  scripted.stored.push(...lines);
  await using followed = following(scripted);
  await until(() => followed.seqs.length === 2);
  await scripted.stop();
  await until(() => followed.notices.length === 1, { what: 'a word about the break' });
  for (let seq = 3; seq <= 9; seq++) scripted.stored.push(line(seq));
  await scripted.start();
  await until(() => followed.seqs.length === 9, { what: () => `9 lines, have ${followed.seqs}` });
  expect(followed.seqs).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(followed.notices.at(-1)).toBe('connected again');
});

test('lines that the server skipped are fetched', async () => {
  await using scripted = await new ScriptedServer().start();
  await using followed = following(scripted);
  await until(() => scripted.watchers === 1);
  for (let seq = 1; seq <= 5; seq++) scripted.stored.push(line(seq));
  scripted.push(scripted.stored[0] as ReturnType<typeof line>);
  scripted.skip(4);
  await until(() => followed.seqs.length === 5, { what: () => `5 lines, have ${followed.seqs}` });
  expect(followed.seqs).toEqual([1, 2, 3, 4, 5]);
  expect(followed.notices).toEqual(['4 lines came faster than they were read here; fetching them']);
});

test.each(['skipped', 'gap'] as const)(
  'of what a tail lacks (%s), lines that are stored later than they were missed are fetched, too',
  async (event) => {
    await using scripted = await new ScriptedServer().start();
    await using followed = following(scripted);
    // The late search of the beginning is over.
    await until(() => scripted.searches === 2);
    scripted.stored.push(line(1));
    const second = line(2);
    if (event === 'gap') scripted.gap();
    else scripted.skip(2);
    await until(() => followed.seqs.length === 1, { what: 'what is stored' });
    scripted.stored.push(second);
    await until(() => followed.seqs.length === 2, { what: 'what was not stored yet' });
    expect(followed.seqs).toEqual([1, 2]);
  },
);

test('a first connection that fails, fails; so does a token that is no longer accepted', async () => {
  await using scripted = await new ScriptedServer().start();
  const wrong = new MillraceClient({ url: scripted.url, token: 'wrong' });
  const options = { filter: {}, limit: 1, signal: new AbortController().signal, onNotice: () => {} };
  await expect(follow({ ...options, client: wrong }).next()).rejects.toMatchObject({
    code: 'TOKEN_UNUSABLE',
  });
  const right = new MillraceClient({ url: scripted.url, token: scripted.token });
  await scripted.stop();
  await expect(follow({ ...options, client: right }).next()).rejects.toMatchObject({
    code: 'SERVER_UNREACHABLE',
    detail: expect.stringContaining('ECONNREFUSED'),
  });
});
