import { setTimeout as pause } from 'node:timers/promises';
import type { CloudReader } from '../tests/support/cloud.ts';
import { startEngine } from '../tests/support/docker.ts';
import { freePort } from '../tests/support/ports.ts';
import { type Account, add, compare, emptyAccount } from './compare.ts';
import { faults, isPossible } from './faults.ts';
import { type ChaosOptions, type Kind, type Way, ways } from './options.ts';
import { Random } from './random.ts';
import { Recoveries } from './recovery.ts';
import { fakeTimeLibrary, type Site, type SiteOptions, startSite, type Victim } from './site.ts';
import { startWriters } from './writers.ts';

/** A cloud that answered 413 is left alone for a minute; the next attempt may meet the next fault. */
const recoveryMs = 150_000;
/** How long the next fault may wait for the recovery from the last. */
const maxPatienceMs = 3_000;
/** Draining is given up when nothing has arrived for so long. */
const stuckMs = 90_000;

/** What happened at the hands of one kind of fault. */
export interface FaultRecord {
  count: number;
  /** From the end of each fault until a line written after it was in the cloud. */
  recoveriesMs: number[];
  /** How often each program was hit. */
  victims: Partial<Record<Victim, number>>;
}

export interface ChaosResult {
  account: Account;
  faults: Map<Kind, FaultRecord>;
  /** What could not be done, or did not end as it should. */
  notes: string[];
}

/** Breaks things for as long as is asked, one way after another, and says what became of the lines. */
export async function runChaos(options: ChaosOptions, say: (line: string) => void): Promise<ChaosResult> {
  const result: ChaosResult = { account: emptyAccount(), faults: new Map(), notes: [] };
  let { kinds } = options;
  if (kinds.includes('clock') && !fakeTimeLibrary()) {
    result.notes.push("left out: clock, which needs libfaketime (Debian's package faketime)");
    kinds = kinds.filter((kind) => kind !== 'clock');
  }
  say('starting a Docker engine');
  const enginePort = await freePort();
  await using engine = await startEngine({ tcpPort: enginePort });
  await engine.buildBusybox();
  const rounds = options.ways
    .map((way) => ({ way, kinds: kinds.filter((kind) => isPossible(kind, way)) }))
    .filter((round) => round.kinds.length > 0);
  for (const { way, kinds: possible } of rounds) {
    const site: SiteOptions = {
      engine,
      enginePort,
      clouds: options.clouds,
      smallDisk: kinds.includes('disk'),
      clocks: kinds.includes('clock'),
    };
    const forMs = (options.minutes * 60_000) / rounds.length;
    const account = await runRound(
      way,
      site,
      possible,
      new Random(options.seed + ways.indexOf(way)),
      forMs,
      result,
      say,
    );
    add(result.account, account);
  }
  return result;
}

async function runRound(
  way: Way,
  options: SiteOptions,
  kinds: readonly Kind[],
  random: Random,
  forMs: number,
  result: ChaosResult,
  sayAnything: (line: string) => void,
): Promise<Account> {
  const startedMs = performance.now();
  const say = (line: string) => {
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1).padStart(6);
    sayAnything(`${way.padEnd(9)} ${seconds} s  ${line}`);
  };
  say('starting the cloud and the agent');
  await using site = await startSite(way, options);
  await using writers = await startWriters(options.engine, way);
  await using recoveries = new Recoveries(site.cloud, writers.list[0]?.name ?? '');
  if ((await recoveries.fromNow(recoveryMs)) === undefined) {
    throw new Error(`${way}: no line arrives, before anything was broken`);
  }
  const round: Round = { site, random, recoveries, result, say };
  const returns: Promise<void>[] = [];
  const untilMs = performance.now() + forMs;
  // Each kind comes once before any comes again.
  let deck: Kind[] = [];
  while (performance.now() < untilMs) {
    if (deck.length === 0) deck = random.shuffled(kinds);
    const { recovery } = await breakSomething(round, deck.pop() as Kind);
    returns.push(recovery);
  }
  await Promise.all(returns);
  const written = new Map<string, number>();
  for (const writer of writers.list) written.set(writer.name, await writer.stop());
  say('the containers have stopped writing; waiting for the rest');
  await drained(site.cloud, written, say);
  // What the agent does on its way out must neither lose nor repeat anything.
  await site.programs.get('agent')?.end('SIGTERM');
  const account = await compare(site.cloud, written);
  say(
    Object.entries(account)
      .map(([key, count]) => `${key} ${count}`)
      .join(', '),
  );
  return account;
}

interface Round {
  site: Site;
  random: Random;
  recoveries: Recoveries;
  result: ChaosResult;
  say: (line: string) => void;
}

/** Resolves when it is time for the next fault, with a promise of this one's recovery. */
async function breakSomething(round: Round, kind: Kind): Promise<{ recovery: Promise<void> }> {
  const { site, random, recoveries, result, say } = round;
  // As many numbers for each fault, whatever it makes of them: none changes what comes after it.
  const own = new Random(random.whole(0, 2 ** 31));
  // Half of the faults meet something that has not recovered from the last.
  const patienceMs = random.chance(0.5) ? 0 : maxPatienceMs;
  const gapMs = random.whole(0, 1_000);
  const { what, victims = [] } = await faults[kind](site, own);
  const record = result.faults.get(kind) ?? { count: 0, recoveriesMs: [], victims: {} };
  result.faults.set(kind, record);
  record.count++;
  for (const victim of victims) record.victims[victim] = (record.victims[victim] ?? 0) + 1;
  say(what);
  const recovery = recoveries.fromNow(recoveryMs).then((tookMs) => {
    if (tookMs === undefined) {
      result.notes.push(`${site.way}: no line arrived within ${recoveryMs / 1000} s after: ${what}`);
      say(`not back after ${recoveryMs / 1000} s: ${what}`);
      return;
    }
    record.recoveriesMs.push(tookMs);
    say(`back after ${(tookMs / 1000).toFixed(1)} s: ${what}`);
  });
  const waiting = new AbortController();
  await Promise.race([recovery, pause(patienceMs, undefined, { signal: waiting.signal })]);
  waiting.abort();
  await pause(gapMs);
  return { recovery };
}

/** Waits until everything has arrived and nothing more comes, or nothing has come for long. */
async function drained(
  cloud: CloudReader,
  written: ReadonlyMap<string, number>,
  say: (line: string) => void,
): Promise<void> {
  let lines = -1;
  let changedMs = performance.now();
  let comparedLines = -1;
  for (;;) {
    const now = await cloud.lineCount();
    if (now !== lines) {
      lines = now;
      changedMs = performance.now();
    }
    const quietMs = performance.now() - changedMs;
    if (quietMs > 2_000 && comparedLines !== lines) {
      comparedLines = lines;
      const { lost } = await compare(cloud, written);
      if (lost === 0) return;
      say(`${lost} lines are still to come`);
    }
    if (quietMs > stuckMs) return;
    await pause(200);
  }
}
