import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { readEvents, type ServerEvent } from '../src/event-stream.ts';

async function eventsOf(text: string, cuts: number[] = []): Promise<ServerEvent[]> {
  const bytes = new TextEncoder().encode(text);
  const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  async function* body() {
    for (let i = 0; i + 1 < edges.length; i++) yield bytes.subarray(edges[i], edges[i + 1]);
  }
  return Array.fromAsync(readEvents(body()));
}

test('events, comments, types and data of several lines', async () => {
  const text =
    ': hello\n\nevent: log\nid: 1\ndata: {"a":1}\n\ndata:one\ndata: two\r\n\r\nevent: empty\n\ndata: cut off';
  expect(await eventsOf(text)).toEqual([
    { type: 'log', data: '{"a":1}' },
    { type: 'message', data: 'one\ntwo' },
  ]);
});

test('the stream may be cut anywhere, inside a character too', async () => {
  const events = fc.array(
    fc.record({
      type: fc.constantFrom('log', 'skipped', 'message'),
      data: fc.string({ unit: 'grapheme' }).map((t) => JSON.stringify(t)),
    }),
    { maxLength: 6 },
  );
  await fc.assert(
    fc.asyncProperty(events, fc.array(fc.nat(), { maxLength: 20 }), async (all, cuts) => {
      const text = all.map(({ type, data }) => `:\nevent: ${type}\ndata: ${data}\n\n`).join('');
      expect(await eventsOf(text, cuts)).toEqual(all);
    }),
  );
});

test('an event without an end is refused before it fills the memory', async () => {
  async function* endless() {
    while (true) yield new TextEncoder().encode(`data: ${'x'.repeat(100_000)}\n`);
  }
  await expect(Array.fromAsync(readEvents(endless()))).rejects.toThrow('never ends');
});
