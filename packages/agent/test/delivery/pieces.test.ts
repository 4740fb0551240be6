import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AckReader } from '../../src/delivery/acks.ts';
import { Backoff } from '../../src/delivery/backoff.ts';
import { displayUrl, redact, urlSecrets } from '../../src/delivery/secrets.ts';

test('pauses grow to their ceiling, with full jitter, and start anew after progress', () => {
  const backoff = new Backoff({ minMs: 100, maxMs: 1600 });
  const ceilings = [100, 200, 400, 800, 1600, 1600, 1600];
  const seen = new Set<number>();
  for (let round = 0; round < 50; round++) {
    for (const ceiling of ceilings) {
      const ms = backoff.nextMs();
      expect(ms).toBeGreaterThanOrEqual(0);
      expect(ms).toBeLessThanOrEqual(ceiling);
      if (ceiling === 1600) seen.add(Math.floor(ms / 400));
    }
    backoff.reset();
  }
  expect([...seen].toSorted()).toEqual([0, 1, 2, 3]);
  for (let i = 0; i < 5000; i++) backoff.nextMs();
  expect(backoff.nextMs()).toBeLessThanOrEqual(1600);
});

test('acknowledgements are read however the stream is cut, and nothing else is', () => {
  const text = [
    ...[
      '',
      '6',
      '{"ping":1}',
      '{"ack":{"journal":"k3v9","through":7}}',
      '8',
      'junk',
      '10.5',
      '-10',
      '1234567890123456',
      '{"ack":{"journal":1,"through":2}}',
    ],
    ...['{"ack":{"journal":"k","through":1.5}}', '[{"ack":1}]', `{"x":"${'y'.repeat(9000)}"}`],
    ...['{"ack":{"journal":"k3v9","through":12},"more":true}', '{"ack":{"journal":"z","through":1}}'],
  ].join('\n');
  fc.assert(
    fc.property(fc.array(fc.nat(text.length), { maxLength: 30 }), (cuts) => {
      const reader = new AckReader();
      const places = [0, ...cuts.toSorted((a, b) => a - b), text.length];
      const acks = places.slice(1).flatMap((end, i) => reader.push(text.slice(places[i], end)));
      expect([...acks, ...reader.end()]).toEqual([
        { journal: 'k3v9', through: 7 },
        { journal: 'k3v9', through: 8 },
        { journal: 'k3v9', through: 12 },
        { journal: 'z', through: 1 },
      ]);
    }),
  );
});

test('addresses are shown without what is secret in them', () => {
  const url = new URL('mqtts://admin:p%40ss@host:8883/path/?token=t#f');
  expect(displayUrl(url)).toBe('mqtts://host:8883/path');
  expect(redact('bad p@ss or p%40ss', urlSecrets(url))).toBe('bad *** or ***');
  expect(redact('nothing to hide', [undefined, ''])).toBe('nothing to hide');
  expect(urlSecrets(new URL('mqtt://u:100%@h'))).toContain('100%');
});
