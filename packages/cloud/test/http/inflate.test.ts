import { PassThrough, Readable } from 'node:stream';
import { constants, createZstdCompress, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Codec, gzip, zstd } from '../../src/compression/codecs.ts';
import { inflate } from '../../src/http/inflate.ts';

const never = new AbortController().signal;

const pieces = (...parts: Uint8Array[]) =>
  Readable.from(
    parts.map((part) => Buffer.from(part)),
    { objectMode: false },
  );

const codecs: { name: string; codec: Codec; compress: (data: string | Buffer) => Buffer }[] = [
  { name: 'gzip', codec: gzip, compress: gzipSync },
  { name: 'zstd', codec: zstd, compress: zstdCompressSync },
];

describe.each(codecs)('$name', ({ codec, compress }) => {
  async function read(
    source: Readable,
    signal = never,
  ): Promise<{ text: string; bytes: number; error?: Error }> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    let error: Error | undefined;
    try {
      for await (const chunk of inflate(source, codec, signal)) {
        bytes += chunk.length;
        if (bytes < 10_000_000) chunks.push(chunk);
      }
    } catch (thrown) {
      error = thrown as Error;
    }
    return { text: Buffer.concat(chunks).toString(), bytes, error };
  }
  const one = compress('hello\nworld\n');
  const two = compress('again\n');

  test('members may follow one another, cut anywhere', async () => {
    const whole = Buffer.concat([one, two, compress('')]);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(whole.length), { maxLength: 8 }), async (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), whole.length];
        const parts = at.slice(1).map((end, i) => whole.subarray(at[i], end));
        expect(await read(pieces(...parts))).toMatchObject({
          text: 'hello\nworld\nagain\n',
          error: undefined,
        });
      }),
      { numRuns: 50 },
    );
  });

  test('an input that stops anywhere gives what can be read, and no error', async () => {
    for (let length = 0; length <= one.length; length++) {
      const { text, error } = await read(pieces(one.subarray(0, length)));
      expect(error).toBeUndefined();
      expect('hello\nworld\n'.startsWith(text)).toBe(true);
      if (length >= one.length - (codec === gzip ? 8 : 0)) expect(text).toBe('hello\nworld\n');
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

  test('what is not compressed is refused', async () => {
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
    const bomb = compress(Buffer.alloc(400_000_000));
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
    const { bytes, error } = await read(pieces(compress(lines)));
    expect({ bytes, error }).toEqual({ bytes: lines.length, error: undefined });
  });
});

describe('zstd frames', () => {
  const flushed = async (...texts: string[]) => {
    const zlib = createZstdCompress({ params: { [constants.ZSTD_c_checksumFlag]: 1 } });
    const parts: Buffer[] = [];
    zlib.on('data', (part: Buffer) => parts.push(part));
    for (const text of texts) {
      zlib.write(text);
      await new Promise<void>((resolve) => zlib.flush(constants.ZSTD_e_flush, resolve));
    }
    return { zlib, parts };
  };

  test('what was flushed is given while the frame is still open', async () => {
    const { parts } = await flushed('first\n', 'second\n');
    const source = new PassThrough();
    source.write(Buffer.concat(parts));
    const lines = inflate(source, zstd, never);
    const read = await lines.next();
    expect(String(read.value)).toBe('first\nsecond\n');
    await lines.return(undefined);
  });

  test('of every kind, one after the other, are cut apart wherever the chunks end', async () => {
    const noise = Array.from({ length: 40_000 }, (_, i) => `${(i * 2_654_435_761) % 4_294_967_296}\n`).join(
      '',
    );
    const { zlib, parts } = await flushed('x'.repeat(300_000), noise);
    zlib.end('end\n');
    await new Promise((resolve) => zlib.on('end', resolve));
    const skippable = Buffer.from('502a4d1803000000616263', 'hex');
    const frames = [
      zstdCompressSync('short\n'),
      Buffer.concat(parts),
      skippable,
      zstdCompressSync(Buffer.alloc(70_000, 'y'), { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } }),
      zstdCompressSync(''),
      zstdCompressSync('last\n'),
    ];
    const expected = `short\n${'x'.repeat(300_000)}${noise}end\n${'y'.repeat(70_000)}last\n`;
    const whole = Buffer.concat(frames);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(whole.length), { maxLength: 6 }), async (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), whole.length];
        const source = pieces(...at.slice(1).map((end, i) => whole.subarray(at[i], end)));
        let text = '';
        for await (const chunk of inflate(source, zstd, never)) text += chunk;
        // By the length first: the difference of two texts this long would take a minute to show.
        expect(text.length).toBe(expected.length);
        expect(text === expected).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  test('that need more memory than RFC 9659 allows are refused', async () => {
    const params = { [constants.ZSTD_c_windowLog]: 27, [constants.ZSTD_c_contentSizeFlag]: 0 };
    const zlib = createZstdCompress({ params });
    const frame: Buffer[] = [];
    zlib.on('data', (part: Buffer) => frame.push(part)).end('small');
    await new Promise((resolve) => zlib.on('end', resolve));
    await expect(inflate(pieces(...frame), zstd, never).next()).rejects.toMatchObject({
      code: 'BODY_INVALID',
    });
  });
});
