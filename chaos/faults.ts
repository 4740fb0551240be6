import { open, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { damageJournal } from './damage.ts';
import type { Weather } from './link.ts';
import type { Kind, Way } from './options.ts';
import type { Random } from './random.ts';
import type { Site, Victim } from './site.ts';

/** What was done, in a few words, and to which programs. */
export interface Done {
  what: string;
  victims?: Victim[];
}

/** Does its worst and undoes it: when it resolves, everything runs and is connected again. */
export type Fault = (site: Site, random: Random) => Promise<Done>;

/** Which faults there can be on a way. */
export function isPossible(kind: Kind, way: Way): boolean {
  return way === 'http' || (kind !== 'answer' && kind !== 'toolarge');
}

export const faults: Record<Kind, Fault> = {
  async kill(site, random) {
    const victims = random.some([...site.programs.keys()]);
    const blows = victims.map((victim) => ({
      victim,
      afterMs: random.whole(0, 300),
      downMs: random.whole(0, 1_000),
    }));
    await Promise.all(
      blows.map(async ({ victim, afterMs, downMs }) => {
        await pause(afterMs);
        await endAndStart(site, victim, 'SIGKILL', downMs);
      }),
    );
    return { what: `kill ${victims.join(', ')}`, victims };
  },

  async pause(site, random) {
    const victim = random.pick([...site.programs.keys()]);
    const forMs = random.whole(500, 5_000);
    const program = site.programs.get(victim);
    program?.signal('SIGSTOP');
    await pause(forMs);
    program?.signal('SIGCONT');
    return { what: `pause ${victim} for ${forMs} ms`, victims: [victim] };
  },

  async restart(site, random) {
    const victim = random.pick([...site.programs.keys()]);
    await endAndStart(site, victim, 'SIGTERM', random.whole(0, 2_000));
    return { what: `restart ${victim}`, victims: [victim] };
  },

  cut: (site, random) => weather(site, random, { kind: 'cut' }),

  freeze: (site, random) => weather(site, random, { kind: 'frozen' }),

  slow: (site, random) => weather(site, random, { kind: 'slow', bytesPerS: random.whole(500, 8_000) }),

  tear: (site, random) => weather(site, random, { kind: 'tear', afterBytes: random.whole(1, 20_000) }),

  async answer(site, random) {
    const status = random.pick([500, 503, 'hang'] as const);
    const forwards = random.chance(0.5);
    const forMs = random.whole(1_000, 4_000);
    await during(site, forMs, { kind: 'answer', status, forwards });
    return { what: `answer ${status}${forwards ? ' to what arrived' : ''} for ${forMs} ms` };
  },

  async toolarge(site, random) {
    const forMs = random.whole(1_000, 3_000);
    await during(site, forMs, { kind: 'answer', status: 413, forwards: random.chance(0.5) });
    return { what: `answer 413 for ${forMs} ms` };
  },

  async engine(site) {
    await site.engine.restart();
    return { what: 'restart the Docker engine' };
  },

  async disk(site, random) {
    const forMs = random.whole(2_000, 9_000);
    const kills = random.chance(0.5);
    const path = join(site.diskDir, 'filler');
    const { bavail, bsize } = await statfs(site.diskDir);
    const filler = await open(path, 'w');
    try {
      // A block at a time, to the last one: what the journal writes meanwhile is in the way.
      const block = Buffer.alloc(bsize);
      for (let i = 0; i < bavail; i++) await filler.write(block);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    } finally {
      await filler.close();
    }
    await pause(forMs);
    // What it has sent meanwhile it knows nothing of afterwards.
    if (kills) await endAndStart(site, 'agent', 'SIGKILL', 0);
    await unlink(path);
    return kills
      ? { what: `disk full for ${forMs} ms, then kill agent`, victims: ['agent'] }
      : { what: `disk full for ${forMs} ms` };
  },

  async clock(site, random) {
    const victim = random.pick(['agent', 'cloud'] as const);
    const offsetS = random.pick([-1, 1]) * random.pick([90, 3_600, 86_400, 40 * 86_400]);
    const forMs = random.whole(2_000, 6_000);
    await site.setClock(victim, offsetS);
    await pause(forMs);
    await site.setClock(victim, 0);
    return {
      what: `clock of ${victim} ${offsetS > 0 ? '+' : ''}${offsetS} s for ${forMs} ms`,
      victims: [victim],
    };
  },

  async corrupt(site, random) {
    const agent = site.programs.get('agent');
    const signal = random.pick(['SIGKILL', 'SIGTERM'] as const);
    const forMs = random.whole(2_000, 6_000);
    // What is damaged has been sent, or not yet, or has arrived and was never acknowledged.
    const weather = random.pick<Weather>([
      { kind: 'open' },
      { kind: 'cut' },
      { kind: 'slow', bytesPerS: 4_000 },
    ]);
    site.uplink.set(weather);
    await pause(forMs);
    await agent?.end(signal);
    const what = `${await damageJournal(site.journalDir, random)}, uplink ${weather.kind}`;
    await agent?.start();
    site.uplink.set({ kind: 'open' });
    return { what, victims: ['agent'] };
  },
};

async function endAndStart(
  site: Site,
  victim: Victim,
  signal: 'SIGKILL' | 'SIGTERM',
  downMs: number,
): Promise<void> {
  const program = site.programs.get(victim);
  await program?.end(signal);
  await pause(downMs);
  await program?.start();
}

/** Some of the links, for a while; then at times broken as well, as a network that comes back does. */
async function weather(site: Site, random: Random, bad: Weather): Promise<Done> {
  const names = random.some([...site.links.keys()]);
  const forMs = random.whole(500, 5_000);
  const breaks = random.chance(0.5);
  const links = names.map((name) => site.links.get(name));
  for (const link of links) link?.set(bad);
  await pause(forMs);
  for (const link of links) {
    link?.set({ kind: 'open' });
    if (breaks) link?.reset();
  }
  return { what: `${bad.kind} ${names.join(', ')} for ${forMs} ms` };
}

async function during(site: Site, forMs: number, bad: Weather): Promise<void> {
  site.uplink.set(bad);
  await pause(forMs);
  site.uplink.set({ kind: 'open' });
  site.uplink.reset();
}
