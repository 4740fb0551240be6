import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  advance,
  begin,
  clockMarginMs,
  type DockerPosition,
  type LogStream,
  parsePosition,
  Resume,
  resumeFrom,
  skewMs,
} from '../../src/docker/position.ts';
import type { Json } from '../../src/logging/types.ts';

/**
 * An entry of the engine's log: a line, or the first or last piece of a long one. `id` is the line's place in what
 * the container wrote.
 */
interface Entry {
  stream: LogStream;
  nanos: string;
  id: number;
  begins: boolean;
  ends: boolean;
  /** What the machine's clock showed when the entry was written to the log. */
  nowMs: number;
}

const originMs = Date.UTC(2026, 10, 20);

function nanos(us: number, epoch = 0): string {
  return `${String(us)}${String(epoch).padStart(3, '0')}`.padStart(19, '0');
}

/** One line: its stream, how long after the line before, how long it waits for the log, how long until its newline. */
const write = fc.record({
  stream: fc.constantFrom<LogStream>('out', 'err'),
  gapMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 30_000 })),
  waitMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: skewMs - 1 })),
  longMs: fc.oneof(
    { weight: 5, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 300_000 }) },
  ),
});
type Write = typeof write extends fc.Arbitrary<infer T> ? T : never;

interface Step {
  afterMs: number;
  backMs: number;
}
const stepsOf = (backMs: fc.Arbitrary<number>) =>
  fc.array(fc.record({ afterMs: fc.nat(900_000), backMs }), { maxLength: 3 });
/** Steps that nobody can tell from the present time, and such that show. */
const smallStep = fc.integer({ min: 1, max: clockMarginMs / 4 });
const largeStep = fc.constant(86_400_000);

/**
 * The log that a container's writes lead to. Within a stream the order is that of writing, across streams a line
 * may be overtaken as long as it waits. Stamps of one clock epoch may be equal, those of different ones are not.
 */
function logOf(writes: Write[], steps: Step[]): Entry[] {
  const clockAt = (realMs: number) => {
    const past = steps.filter(({ afterMs }) => originMs + afterMs <= realMs);
    return { ms: realMs - past.reduce((sum, { backMs }) => sum + backMs, 0), epoch: past.length };
  };
  let realMs = originMs;
  const busyUntil: Record<LogStream, number> = { out: 0, err: 0 };
  const reached: Record<LogStream, number> = { out: 0, err: 0 };
  const placed = writes.flatMap(({ stream, gapMs, waitMs, longMs }, id) => {
    realMs += gapMs;
    const begunMs = Math.max(realMs, busyUntil[stream]);
    busyUntil[stream] = begunMs + longMs;
    const clock = clockAt(begunMs);
    const entry = { stream, id, nanos: nanos(clock.ms * 1000, clock.epoch) };
    const place = (atMs: number, begins: boolean, ends: boolean) => {
      const writtenMs = Math.max(reached[stream], atMs + waitMs);
      reached[stream] = writtenMs;
      return { ...entry, begins, ends, writtenMs, nowMs: clockAt(writtenMs).ms };
    };
    if (longMs === 0) return [place(begunMs, true, true)];
    return [place(begunMs, true, false), place(begunMs + longMs, false, true)];
  });
  return placed.sort((a, b) => a.writtenMs - b.writtenMs || a.id - b.id);
}

/** What an engine sends for `since`: 20.10 filters every line, 23 and later only up to the first that passes. */
function answer(log: Entry[], since: string, filtersEach: boolean): Entry[] {
  if (filtersEach) return log.filter((entry) => entry.nanos >= since);
  const first = log.findIndex((entry) => entry.nanos >= since);
  return first < 0 ? [] : log.slice(first);
}

interface Session {
  /** How much of the log exists when it begins. */
  written: number;
  /** After how many new lines the agent dies. */
  reads: number;
}

/** One life of the agent, as ContainerReader goes about it. Returns the position that was saved last. */
function live(
  log: Entry[],
  saved: DockerPosition | undefined,
  session: Session,
  filtersEach: boolean,
  got: { stream: LogStream; id: number }[],
  firstSeenMs = originMs,
) {
  let position = saved;
  let left = session.reads;
  const nowMs = (log.at(-1)?.nowMs ?? originMs) + 2_000;
  const start = nanos(Math.max(0, Math.min(firstSeenMs, nowMs) - 3_600_000) * 1000);
  const resumePoint = () =>
    resumeFrom(position, { start, now: nanos(nowMs * 1000), marginMs: clockMarginMs });
  const read = (rotated?: ReadonlySet<LogStream>) => {
    const resume = new Resume(position, rotated);
    const since = rotated && rotated.size > 0 ? '0'.repeat(19) : resumePoint().since;
    const open: Partial<Record<LogStream, Entry>> = {};
    for (const entry of answer(log, since, filtersEach)) {
      const { stream } = entry;
      if (entry.begins) open[stream] = entry;
      if (!entry.ends) continue;
      const isWhole = open[stream]?.id === entry.id;
      open[stream] = undefined;
      if (resume.readBefore(stream, entry.nanos) > 0) continue;
      if (left-- <= 0) return resume;
      got.push({ stream, id: isWhole ? entry.id : Number.NaN });
      position = advance(position ?? {}, stream, entry.nanos);
      const other = stream === 'out' ? 'err' : 'out';
      const begun = open[other];
      if (!position[other] && begun) position = begin(position, other, begun.nanos);
    }
    return resume;
  };
  if (!resumePoint().isUncertain) read();
  else {
    const unmatched = read().unmatched();
    if (left > 0) read(new Set(unmatched));
  }
  return position && parsePosition(JSON.parse(JSON.stringify(position)) as Json);
}

const sessions = fc.array(fc.record({ written: fc.nat(60), reads: fc.nat(40) }), { maxLength: 8 });

test('every line is read exactly once, wherever the agent is restarted', () => {
  fc.assert(
    fc.property(
      fc.array(write, { maxLength: 60, size: 'max' }),
      stepsOf(fc.oneof(smallStep, largeStep)),
      sessions,
      fc.boolean(),
      (writes, clock, lives, each) => {
        const log = logOf(writes, clock);
        const got: { stream: LogStream; id: number }[] = [];
        let position: DockerPosition | undefined;
        let written = 0;
        for (const session of [...lives, { written: log.length, reads: Number.POSITIVE_INFINITY }]) {
          written = Math.max(written, session.written);
          position = live(log.slice(0, written), position, session, each, got);
        }
        expect(got.map(({ id }) => id).sort((a, b) => a - b)).toEqual(writes.map((_, id) => id));
        for (const stream of ['out', 'err']) {
          const order = got.filter((entry) => entry.stream === stream).map(({ id }) => id);
          expect(order).toEqual([...order].sort((a, b) => a - b));
        }
      },
    ),
    { numRuns: 3_000 },
  );
});

test('a clock set from 1970 to the present while containers run and the agent restarts loses and repeats nothing', () => {
  const bootedMs = 12_000;
  fc.assert(
    fc.property(
      fc.array(write, { maxLength: 60, size: 'max' }),
      fc.nat(900_000),
      sessions,
      fc.boolean(),
      (anyWrites, setAfterMs, lives, each) => {
        // The first line of a stream that was overtaken across the step is the one case that is not covered: see
        // DockerPosition.
        const seen = new Set<LogStream>();
        const writes = anyWrites.map((one) => {
          const isFirst = !seen.has(one.stream);
          seen.add(one.stream);
          return isFirst ? { ...one, waitMs: 0 } : one;
        });
        const backMs = originMs - bootedMs;
        const log = logOf(writes, [
          { afterMs: 0, backMs },
          { afterMs: setAfterMs, backMs: -backMs },
        ]);
        const got: { stream: LogStream; id: number }[] = [];
        let position: DockerPosition | undefined;
        let written = 0;
        for (const session of [...lives, { written: log.length, reads: Number.POSITIVE_INFINITY }]) {
          written = Math.max(written, session.written);
          position = live(log.slice(0, written), position, session, each, got, bootedMs);
        }
        expect(got.map(({ id }) => id).sort((a, b) => a - b)).toEqual(writes.map((_, id) => id));
      },
    ),
    { numRuns: 2_000 },
  );
});

// A line that was rotated away *and* a small step of the clock while nobody read: lines stamped before ours are then
// taken for read until the clock has caught up. So only large steps here.
test('when the log is rotated, exactly the lines that were gone before they were read are missing', () => {
  const distinct = write.map((line) => ({ ...line, gapMs: line.gapMs + 1, longMs: 0 }));
  const rotations = fc.array(fc.record({ written: fc.nat(60), reads: fc.nat(40), rotated: fc.nat(60) }), {
    maxLength: 8,
  });
  fc.assert(
    fc.property(
      fc.array(distinct, { maxLength: 60, size: 'max' }),
      stepsOf(largeStep),
      rotations,
      fc.boolean(),
      (writes, clock, lives, each) => {
        const log = logOf(writes, clock);
        const got: { stream: LogStream; id: number }[] = [];
        const lost = new Set<number>();
        let position: DockerPosition | undefined;
        let written = 0;
        let rotated = 0;
        for (const session of [
          ...lives,
          { written: log.length, reads: Number.POSITIVE_INFINITY, rotated: 0 },
        ]) {
          written = Math.max(written, session.written);
          rotated = Math.min(written, Math.max(rotated, session.rotated));
          const had = new Set(got.map(({ id }) => id));
          for (const { id } of log.slice(0, rotated)) if (!had.has(id)) lost.add(id);
          position = live(log.slice(rotated, written), position, session, each, got);
        }
        const expected = log.map(({ id }) => id).filter((id) => !lost.has(id));
        expect(got.map(({ id }) => id).sort((a, b) => a - b)).toEqual(expected.sort((a, b) => a - b));
      },
    ),
    { numRuns: 3_000 },
  );
});

test('a position keeps what the format says', () => {
  let position = advance({}, 'out', nanos(5));
  expect(position).toEqual({ out: { last: nanos(5), n: 1 } });
  position = advance(position, 'out', nanos(5));
  position = advance(position, 'err', nanos(9));
  expect(position).toEqual({ out: { last: nanos(5), n: 2 }, err: { last: nanos(9), n: 1 } });
  position = advance(position, 'err', nanos(2));
  expect(position.err).toEqual({ last: nanos(2), n: 1, max: nanos(9) });
  position = advance(position, 'err', nanos(10));
  expect(position.err).toEqual({ last: nanos(10), n: 1 });
  expect(parsePosition(JSON.parse(JSON.stringify(position)) as Json)).toEqual(position);
});

test('of an unfinished line that was continued later, only the rest is new', () => {
  const position = advance(advance({}, 'out', nanos(4)), 'out', nanos(5), 10);
  expect(position).toEqual({ out: { last: nanos(5), n: 1, part: 10 } });
  const resume = new Resume(position);
  expect(resume.readBefore('out', nanos(4))).toBe(Number.POSITIVE_INFINITY);
  expect(resume.readBefore('out', nanos(5))).toBe(10);
  expect(resume.readBefore('out', nanos(6))).toBe(0);
  expect(advance(position, 'out', nanos(5))).toEqual({ out: { last: nanos(5), n: 1 } });
});

test('a saved value that is none of ours counts as no position', () => {
  const strange: Json[] = [
    null,
    1,
    'x',
    [],
    {},
    { out: null },
    { out: { last: 5, n: 1 } },
    { out: { last: nanos(1) } },
  ];
  for (const value of strange) expect(parsePosition(value)).toBeUndefined();
  expect(parsePosition(undefined)).toBeUndefined();
});
