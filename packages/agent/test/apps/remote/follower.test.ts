import { MillraceError } from '@millrace/wire';
import { expect, test } from 'vitest';
import { captureLog } from '../../../../../tests/support/log.ts';
import { until } from '../../../../../tests/support/wait.ts';
import type { TargetAnswer } from '../../../src/apps/remote/fetch-target.ts';
import { TargetFollower, type TargetFollowerOptions } from '../../../src/apps/remote/follower.ts';
import { CallFailure } from '../../../src/delivery/cloud-call.ts';

const day = 86_400_000;

/** A follower whose questions are answered by hand. */
function start(options: Partial<TargetFollowerOptions> = {}) {
  const questions: { had: string | undefined; answer: (answer: TargetAnswer | Error) => void }[] = [];
  const applied: { version: string; document: unknown }[] = [];
  const captured = captureLog();
  const follower = new TargetFollower({
    fetch: (had, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<TargetAnswer>();
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      questions.push({
        had,
        answer: (answer) => (answer instanceof Error ? reject(answer) : resolve(answer)),
      });
      return promise;
    },
    apply: async (version, document) => {
      applied.push({ version, document });
    },
    applied: async () => undefined,
    pollMs: day,
    log: captured.log,
    ...options,
  });
  follower.start();
  const asked = async (count: number) => {
    await until(() => questions.length >= count);
    return questions[count - 1] as (typeof questions)[number];
  };
  return {
    follower,
    questions,
    asked,
    applied,
    captured,
    [Symbol.asyncDispose]: () => follower[Symbol.asyncDispose](),
  };
}

const fresh = (version: string, text = '{}'): TargetAnswer => ({ is: 'new', version, text });
const unreachable = () => new CallFailure('CLOUD_UNREACHABLE', 'https://cloud answered 503');
/** Lets everything that is due happen. */
const settle = () => new Promise((done) => setImmediate(() => setImmediate(done)));

test('it asks at its start with the version in force, and takes over what is new', async () => {
  await using on = start({ applied: async () => 'v1' });
  const first = await on.asked(1);
  expect(first.had).toBe('v1');
  first.answer(fresh('v2', '{"d1":{}}'));
  await until(() => on.follower.state.version === 'v2');
  expect(on.applied).toEqual([{ version: 'v2', document: { d1: {} } }]);
  on.follower.hear('v3');
  expect((await on.asked(2)).had).toBe('v2');
});

test('however much is heard during a question, it comes to one more; of the version in force, to none', async () => {
  await using on = start();
  const first = await on.asked(1);
  for (let i = 0; i < 1000; i++) on.follower.hear(`v${i}`);
  first.answer(fresh('v5'));
  const second = await on.asked(2);
  on.follower.hear('v999');
  second.answer(fresh('v999'));
  await until(() => on.follower.state.version === 'v999');
  on.follower.hear('v999');
  await settle();
  expect(on.questions).toHaveLength(2);
  // An old one that some broker had kept is asked about once.
  on.follower.hear('v1');
  (await on.asked(3)).answer({ is: 'same' });
  await settle();
  expect(on.questions).toHaveLength(3);
  expect(on.applied.map(({ version }) => version)).toEqual(['v5', 'v999']);
});

test('a cloud that does not answer is not asked sooner for what is heard, and said to be so once', async () => {
  await using on = start({ backoff: { minMs: day, maxMs: day } });
  (await on.asked(1)).answer(unreachable());
  await until(() => on.follower.state.lastError);
  for (let i = 0; i < 100; i++) on.follower.hear(`v${i}`);
  await settle();
  expect(on.questions).toHaveLength(1);
  await using again = start({ backoff: { minMs: 1, maxMs: 1 } });
  for (let i = 1; i <= 3; i++) (await again.asked(i)).answer(unreachable());
  (await again.asked(4)).answer({ is: 'none' });
  await until(() => again.follower.state.lastError === undefined);
  expect(again.captured.messages(40)).toHaveLength(1);
  expect(again.applied).toEqual([]);
});

test('what could not be saved is asked for again; what cannot be read is not', async () => {
  let failure: Error | undefined = new MillraceError('APPS_NOT_SAVED', 'disk full');
  await using on = start({
    backoff: { minMs: 1, maxMs: 1 },
    apply: async () => {
      if (failure) throw failure;
    },
  });
  (await on.asked(1)).answer(fresh('v1'));
  const second = await on.asked(2);
  expect(on.follower.state).toMatchObject({
    version: undefined,
    lastError: expect.stringContaining('disk full'),
  });
  failure = new MillraceError('TARGET_INVALID', 'apps: wrong');
  second.answer(fresh('v2', 'no JSON'));
  await until(() => on.captured.messages(50).length > 0);
  on.follower.hear('v2');
  await settle();
  expect(on.questions).toHaveLength(2);
  on.follower.hear('v3');
  // The next question by time finds the same document.
  (await on.asked(3)).answer(fresh('v2'));
  await settle();
  expect(on.captured.messages(50)).toEqual([
    'The target v2 of the cloud is refused: apps: wrong; what runs goes on',
  ]);
  failure = undefined;
  on.follower.hear('v4');
  (await on.asked(4)).answer(fresh('v4'));
  await until(() => on.follower.state.version === 'v4');
  expect(on.follower.state.lastError).toBeUndefined();
});

test('of documents that come by themselves the newest is taken over, without a question', async () => {
  const gate = Promise.withResolvers<void>();
  const taken: string[] = [];
  await using on = start({
    fetch: undefined,
    apply: async (version) => {
      taken.push(version);
      await gate.promise;
    },
  });
  on.follower.offer('v1', {});
  await until(() => taken.length === 1);
  for (let i = 2; i < 100; i++) on.follower.offer(`v${i}`, {});
  gate.resolve();
  await until(() => on.follower.state.version === 'v99');
  expect(taken).toEqual(['v1', 'v99']);
});
