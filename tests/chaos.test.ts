import { expect, test, vi } from 'vitest';
import { help, kinds, readOptions, UsageError } from '../chaos/options.ts';
import { Random } from '../chaos/random.ts';
import { nodeFlags, repository, startProgram } from './support/programs.ts';

/** Three clouds are started and drained one after another, on cores that other tests use as well. */
vi.setConfig({ testTimeout: 600_000 });

interface Result {
  written: number;
  stored: number;
  lost: number;
  counted: number;
  duplicated: number;
  outOfOrder: number;
  wrong: number;
  faults: Record<string, { count: number; recovered: number }>;
}

test('nothing is lost and nothing is stored twice while programs are killed and paused and links are cut', async () => {
  const only = ['kill', 'pause', 'cut', 'answer'];
  const args = ['--seed', '20', '--minutes', '0.3', '--broker', 'all', '--only', only.join(',')];
  await using chaos = startProgram([...nodeFlags, `${repository}chaos/main.ts`, ...args]);
  const { code } = await chaos.ended(570_000);
  const said = `${chaos.stdout}\n${chaos.stderr}`;
  expect(code, said).toBe(0);
  expect(chaos.stdout).toMatch(/^seed 20: /);
  const { faults, ...totals } = JSON.parse(chaos.stdout.trim().split('\n').at(-1) ?? '') as Result;
  const { written } = totals;
  const allStored = {
    stored: written,
    lost: 0,
    counted: 0,
    recorded: 0,
    duplicated: 0,
    outOfOrder: 0,
    wrong: 0,
  };
  expect(totals, said).toEqual({ written, ...allStored });
  expect(written).toBeGreaterThan(1_000);
  expect(Object.keys(faults).filter((kind) => !only.includes(kind))).toEqual([]);
  for (const { count, recovered } of Object.values(faults)) expect(recovered, said).toBe(count);
});

test('a seed gives the same choices again', () => {
  const choices = (seed: number) => {
    const random = new Random(seed);
    return Array.from({ length: 50 }, () =>
      random.some(Object.keys(kinds)).concat(String(random.whole(1, 9))),
    );
  };
  expect(choices(7)).toEqual(choices(7));
  expect(choices(7)).not.toEqual(choices(8));
});

test('the options of chaos are read, and wrong ones are named', () => {
  expect(
    readOptions(['--seed', '5', '--minutes', '0.5', '--broker', 'http', '--only', 'pause,kill']),
  ).toEqual({
    seed: 5,
    minutes: 0.5,
    clouds: 1,
    ways: ['http'],
    kinds: ['kill', 'pause'],
  });
  expect(readOptions(['--cloud', '2'])).toMatchObject({ clouds: 2, ways: ['http', 'mosquitto'] });
  expect(readOptions([])).toMatchObject({ minutes: 5, kinds: Object.keys(kinds) });
  expect(readOptions(['--help'])).toBe('help');
  for (const kind of Object.keys(kinds)) expect(help).toContain(`  ${kind} `);
  for (const [args, named] of [
    [['--only', 'kill,kil'], '"kil"'],
    [['--broker', 'none'], '"none"'],
    [['--minutes', '0'], '--minutes'],
    [['--cloud', '0'], '--cloud'],
    [['--cloud', '2', '--broker', 'embedded'], '"embedded"'],
    [['--seed', 'x'], '--seed'],
    [['--sed', '1'], '--sed'],
  ] as const) {
    expect(() => readOptions([...args])).toThrow(UsageError);
    expect(() => readOptions([...args])).toThrow(named);
  }
});
