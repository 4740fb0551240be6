import fc from 'fast-check';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { type Parcel, SendWindow } from '../../src/delivery/send-window.ts';

const roomy = { maxParcels: 1e9, maxLines: 1e9, maxBytes: 1e9 };
const never = new AbortController().signal;

test('an acknowledgement never passes a line that has not arrived, whatever the order of arrivals', () => {
  fc.assert(
    fc.property(
      // Each line belongs to one of five topics; parcels close after three lines; arrivals come in any order.
      fc.array(fc.record({ topic: fc.nat(4), gap: fc.nat(2), arrive: fc.nat(7) }), { maxLength: 80 }),
      fc.infiniteStream(fc.nat(1000)),
      (steps, picks) => {
        const missing = new Set<number>();
        let advanced = 0;
        const window = new SendWindow({
          ...roomy,
          onAdvance: (_journal, through) => {
            expect(through).toBeGreaterThan(advanced);
            advanced = through;
            expect([...missing].every((seq) => seq > through)).toBe(true);
          },
        });
        const open = new Map<number, { parcel: Parcel; seqs: number[] }>();
        const sent: { parcel: Parcel; seqs: number[] }[] = [];
        const send = (topic: number) => {
          const group = open.get(topic);
          if (!group) return;
          open.delete(topic);
          window.send(group.parcel, { lines: group.seqs.length, bytes: 1 });
          sent.push(group);
        };
        const arrive = () => {
          if (sent.length === 0) return;
          const [group] = sent.splice((picks.next().value as number) % sent.length, 1);
          if (!group) return;
          for (const seq of group.seqs) missing.delete(seq);
          window.arrived(group.parcel);
        };
        let seq = 0;
        for (const step of steps) {
          seq += 1 + step.gap;
          missing.add(seq);
          const group = open.get(step.topic) ?? { parcel: window.open('journal1', seq), seqs: [] };
          window.extend(group.parcel, seq);
          group.seqs.push(seq);
          open.set(step.topic, group);
          if (group.seqs.length === 3) send(step.topic);
          if (step.arrive < 4) arrive();
        }
        for (const topic of [...open.keys()]) send(topic);
        while (sent.length > 0) arrive();
        // In the end everything has arrived, and that is said.
        expect(advanced).toBe(seq);
        expect(window.empty).toBe(true);
        expect(window.underWay).toBe(0);
      },
    ),
  );
});

test('acknowledgements of a far end: any order, any repetition, never beyond what was sent', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 20 }),
      fc.array(fc.integer({ min: -5, max: 500 }), { maxLength: 40 }),
      (sizes, acks) => {
        let advanced = 0;
        const window = new SendWindow({
          ...roomy,
          onAdvance: (_journal, through) => {
            advanced = through;
          },
        });
        let last = 0;
        for (const size of sizes) {
          const parcel = window.open('journal1', last + 1);
          last += size;
          window.extend(parcel, last);
          window.send(parcel, { lines: size, bytes: size });
        }
        let highest = 0;
        for (const ack of acks) {
          const news = window.ackThrough('journal1', ack);
          expect(news).toBe(Math.min(ack, last) > highest);
          highest = Math.max(highest, Math.min(ack, last));
          expect(advanced).toBe(highest);
          expect(window.ackThrough('journal2', last)).toBe(false);
        }
        expect(window.empty).toBe(highest === last);
      },
    ),
  );
});

test('a journal that is replaced is completed before its successor', () => {
  const advances: string[] = [];
  const window = new SendWindow({
    ...roomy,
    onAdvance: (journal, through) => advances.push(`${journal} ${through}`),
  });
  const parcels = (['old', 'old', 'new'] as const).map((journal, i) => {
    const parcel = window.open(journal, journal === 'old' ? 10 + i : 1);
    window.send(parcel, { lines: 1, bytes: 1 });
    return parcel;
  });
  window.arrived(parcels[2] as Parcel);
  expect(advances).toEqual(['old 9']);
  window.arrived(parcels[0] as Parcel);
  window.arrived(parcels[1] as Parcel);
  expect(advances).toEqual(['old 9', 'old 10', 'old 11', 'new 1']);
});

test('room() waits for an arrival, and gives up with the signal', async () => {
  for (const [limits, size] of [
    [
      { ...roomy, maxParcels: 1 },
      { lines: 1, bytes: 1 },
    ],
    [
      { ...roomy, maxLines: 5 },
      { lines: 5, bytes: 1 },
    ],
    [
      { ...roomy, maxBytes: 5 },
      { lines: 1, bytes: 9 },
    ],
  ] as const) {
    const window = new SendWindow({ ...limits, onAdvance: () => {} });
    const parcel = window.open('journal1', 1);
    expect(await window.room(never)).toBe(true);
    window.send(parcel, size);
    expect(window.full).toBe(true);
    let hasRoom = false;
    const waiting = window.room(never).then((room) => {
      hasRoom = room;
    });
    const giveUp = new AbortController();
    const impatient = window.room(giveUp.signal);
    giveUp.abort();
    expect(await impatient).toBe(false);
    expect(hasRoom).toBe(false);
    window.arrived(parcel);
    await waiting;
    expect(hasRoom).toBe(true);
  }
});

test('stalledMs runs only while something is under way, and starts anew with each arrival', async () => {
  const window = new SendWindow({ ...roomy, onAdvance: () => {} });
  expect(window.stalledMs).toBe(0);
  const parcels = [1, 2].map((seq) => {
    const parcel = window.open('journal1', seq);
    window.send(parcel, { lines: 1, bytes: 1 });
    return parcel;
  });
  await until(() => window.stalledMs > 20);
  window.arrived(parcels[0] as Parcel);
  expect(window.stalledMs).toBeLessThan(20);
  window.clear();
  expect(window.stalledMs).toBe(0);
  // A confirmation that comes after the window was cleared belongs to an earlier sending.
  window.arrived(parcels[1] as Parcel);
  expect(window.underWay).toBe(0);
});
