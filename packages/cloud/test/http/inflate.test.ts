import { PassThrough, Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { inflate } from '../../src/http/inflate.ts';

const never = new AbortController().signal;

async function read(
  source: Readable,
  signal = never,
): Promise<{ text: string; bytes: number; error?: Error }> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let error: Error | undefined;
  try {
    for await (const chunk of inflate(source, signal)) {
      bytes += chunk.length;
      if (bytes < 10_000_000) chunks.push(chunk);
    }
  } catch (thrown) {
    error = thrown as Error;
  }
  return { text: Buffer.concat(chunks).toString(), bytes, error };
}

const pieces = (...parts: Uint8Array[]) =>
  Readable.from(
    parts.map((part) => Buffer.from(part)),
    { objectMode: false },
  );
const one = gzipSync('hello\nworld\n');
const two = gzipSync('again\n');

test('members may follow one another, cut anywhere', async () => {
  const whole = Buffer.concat([one, two, gzipSync('')]);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(whole.length), { maxLength: 8 }), async (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), whole.length];
      const parts = at.slice(1).map((end, i) => whole.subarray(at[i], end));
      expect(await read(pieces(...parts))).toMatchObject({ text: 'hello\nworld\nagain\n', error: undefined });
    }),
    { numRuns: 50 },
  );
});

test('an input that stops anywhere gives what can be read, and no error', async () => {
  for (let length = 0; length <= one.length; length++) {
    const { text, error } = await read(pieces(one.subarray(0, length)));
    expect(error).toBeUndefined();
    expect('hello\nworld\n'.startsWith(text)).toBe(true);
    if (length >= one.length - 8) expect(text).toBe('hello\nworld\n');
  }
});

test.each([
  ['garbage behind it, in one piece', [Buffer.concat([one, Buffer.from('garbage')])]],
  ['garbage behind it, in two', [one, Buffer.from('garbage')]],
  ['zeros behind it, and more behind those', [Buffer.concat([one, Buffer.alloc(10)]), two]],
  ['a broken second member', [Buffer.concat([one, two.subarray(0, 4), Buffer.alloc(40, 0xff)])]],
])('all that is whole is given before %s is refused', async (_name, parts) => {
  const { text, error } = await read(pieces(...parts));
  expect(text.startsWith('hello\nworld\n')).toBe(true);
  expect(error).toMatchObject({ code: 'BODY_INVALID' });
});

test('what is no gzip is refused', async () => {
  expect(await read(pieces(Buffer.from('{"message":"x"}\n')))).toMatchObject({
    text: '',
    error: { code: 'BODY_INVALID' },
  });
});

test('damage is reported at once, though the peer stays connected and says no more', async () => {
  const source = new PassThrough();
  source.write(Buffer.concat([one, Buffer.from('garbage')]));
  expect(await read(source)).toMatchObject({ text: 'hello\nworld\n', error: { code: 'BODY_INVALID' } });
});

test('what a peer sent before it vanished is given before the failure', async () => {
  const source = new PassThrough();
  source.write(one);
  const reading = read(source);
  setImmediate(() => source.destroy(new Error('gone')));
  expect(await reading).toMatchObject({ text: 'hello\nworld\n', error: { message: 'gone' } });
});

test('an abort ends it without an error', async () => {
  const source = new PassThrough();
  source.write(one);
  const stop = new AbortController();
  setImmediate(() => stop.abort());
  expect(await read(source, stop.signal)).toMatchObject({ text: 'hello\nworld\n', error: undefined });
  expect(await read(new PassThrough(), AbortSignal.abort())).toMatchObject({ text: '', error: undefined });
});

test('a bomb is refused long before it is through', async () => {
  const bomb = gzipSync(Buffer.alloc(400_000_000));
  const parts = Array.from({ length: Math.ceil(bomb.length / 65_536) }, (_, i) =>
    bomb.subarray(i * 65_536, (i + 1) * 65_536),
  );
  const { bytes, error } = await read(pieces(...parts));
  expect(error).toMatchObject({ code: 'BOMB_REFUSED' });
  expect(bytes).toBeLessThan(80_000_000);
});

test('many alike lines are no bomb', async () => {
  const lines = Array.from(
    { length: 200_000 },
    (_, i) => `{"timestamp":${1.7e12 + i},"message":"ok"}\n`,
  ).join('');
  const { bytes, error } = await read(pieces(gzipSync(lines)));
  expect({ bytes, error }).toEqual({ bytes: lines.length, error: undefined });
});
