import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { Gathering } from '../../src/store/gathering.ts';

/** Statements that end when they are told to. */
function statements() {
  const asked: { keys: readonly number[]; end(values: string[] | Error): void }[] = [];
  const gathering = new Gathering<number, string>(
    (keys) =>
      new Promise((resolve, reject) => {
        asked.push({ keys, end: (values) => (values instanceof Error ? reject(values) : resolve(values)) });
      }),
  );
  return { asked, gathering };
}

test('the first is asked at once, and what comes meanwhile goes together', async () => {
  const { asked, gathering } = statements();
  const answers = [1, 2, 3, 4, 5].map((key) => gathering.ask(key));
  expect(asked.map(({ keys }) => keys)).toEqual([[1], [2]]);
  asked[0]?.end(['one']);
  expect(await answers[0]).toBe('one');
  await until(() => asked.length === 3);
  // What was asked before a statement began is in it, and what comes behind is not.
  const late = gathering.ask(6);
  asked[1]?.end(['two']);
  await answers[1];
  await until(() => asked.length === 4);
  expect(asked.map(({ keys }) => keys)).toEqual([[1], [2], [3, 4, 5], [6]]);
  asked[2]?.end(['three', 'four', 'five']);
  asked[3]?.end(['six']);
  expect(await Promise.all([...answers, late])).toEqual(['one', 'two', 'three', 'four', 'five', 'six']);
});

test('a statement that fails fails for those in it alone', async () => {
  const { asked, gathering } = statements();
  const [first, second, third] = [1, 2, 3].map((key) => gathering.ask(key).catch(String));
  asked[0]?.end(new Error('gone'));
  expect(await first).toBe('Error: gone');
  await until(() => asked.length === 3);
  asked[1]?.end(['two']);
  asked[2]?.end(['three']);
  expect([await second, await third]).toEqual(['two', 'three']);
});

test('a fleet that comes back is asked for two hundred at a time', async () => {
  const { asked, gathering } = statements();
  const answers = Array.from({ length: 1000 }, (_, i) => gathering.ask(i));
  for (let i = 0; asked.length > i; i++) {
    asked[i]?.end((asked[i]?.keys ?? []).map(String));
    await new Promise((done) => setImmediate(done));
  }
  expect(await Promise.all(answers)).toEqual(answers.map((_, i) => String(i)));
  expect(asked.map(({ keys }) => keys.length)).toEqual([1, 1, 200, 200, 200, 200, 198]);
});
