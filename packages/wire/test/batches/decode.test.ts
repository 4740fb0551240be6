import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  BatchDecoder,
  type BatchHeader,
  type BatchPart,
  completeMessage,
  type BatchDecoder as Decoder,
  decodePart,
  encodeHeader,
  encodeLine,
  forEachLine,
  limits,
  type Overlap,
  parseHeader,
} from '../../src/index.ts';
import { asJson, hostileText, logInputs, wellFormed } from '../messages/arbitraries.ts';

/** One line as a reader sees it, whatever parts it came in. */
interface SeenLine {
  text: string;
  journal?: string;
  seq: number | null;
  oversized: boolean;
}

function linesOf(parts: BatchPart[]): SeenLine[] {
  const seen: SeenLine[] = [];
  for (const part of parts) {
    let count = 0;
    forEachLine(part.bytes, (line, index) => {
      count++;
      seen.push({
        text: Buffer.from(line).toString('latin1'),
        journal: part.header?.journal,
        seq: part.firstSeq === null ? null : part.firstSeq + index,
        oversized: part.oversized,
      });
    });
    expect(part.count).toBe(count);
    expect(part.bytes.at(-1)).toBe(10);
  }
  return seen;
}

/** Decodes a stream cut at the given places. Parts are views into the chunk, so each is read at once. */
function decodeCut(stream: Uint8Array, cuts: number[], options?: ConstructorParameters<typeof Decoder>[0]) {
  const decoder = new BatchDecoder(options);
  const seen: SeenLine[] = [];
  const edges = [...new Set([0, ...cuts.map((cut) => cut % (stream.length + 1)), stream.length])].sort(
    (a, b) => a - b,
  );
  for (let i = 0; i + 1 < edges.length; i++) {
    // A chunk that is overwritten afterwards: nobody may hold on to it.
    const chunk = Buffer.from(stream.subarray(edges[i], edges[i + 1]));
    seen.push(...linesOf(decoder.push(chunk)));
    chunk.fill(0x58);
  }
  return { whole: seen, all: [...seen, ...linesOf(decoder.end())] };
}

const header = (over: Partial<BatchHeader> = {}): BatchHeader => ({
  journal: 'abcdefgh12',
  first: 1,
  count: 1,
  levels: [0, 1, 0, 0],
  sealed: 1696195200000,
  ...over,
});

const plainLines = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: logInputs.map(encodeLine) },
    { weight: 2, arbitrary: hostileText.map((text) => text.replaceAll('\n', '')) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        '',
        ' ',
        '\r',
        '\t \r',
        '{"batch":',
        '{"batch":{}}',
        '{"batch":7}',
        '[',
        '"',
      ),
    },
    { weight: 1, arbitrary: fc.integer({ min: 60, max: 200 }).map((n) => ' '.repeat(n)) },
    { weight: 1, arbitrary: fc.integer({ min: 60, max: 200 }).map((n) => 'x'.repeat(n)) },
  ),
  { maxLength: 8 },
);
/** A batch whose header may claim any number of lines, not the number that follows. */
const batches = fc.record({
  claimed: fc.option(fc.integer({ min: 0, max: 12 }), { nil: undefined }),
  first: fc.integer({ min: 1, max: 1000 }),
  lines: plainLines,
});
const streams = fc.tuple(fc.array(batches, { maxLength: 4 }), fc.boolean()).map(([all, endsWithNewline]) => {
  let text = '';
  for (const { claimed, first, lines } of all) {
    if (claimed !== undefined) text += encodeHeader(header({ first, count: claimed }));
    for (const line of lines) text += `${line}\n`;
  }
  return Buffer.from(endsWithNewline ? text : text.replace(/\n$/, ''));
});
const cuts = fc.array(fc.nat(), { maxLength: 12 });

/** The format's rules said once more, the slow and obvious way. */
function expectedLines(stream: Buffer, maxLineBytes: number): SeenLine[] {
  const texts = stream.toString('latin1').split('\n');
  const rest = texts.pop() ?? '';
  if (rest !== '' && !(rest.startsWith('{') && !isJson(rest) && rest.length <= maxLineBytes))
    texts.push(rest);
  const seen: SeenLine[] = [];
  let open: { header: BatchHeader; left: number } | null = null;
  for (const text of texts) {
    const oversized: boolean = text.length > maxLineBytes;
    if (!oversized && /^[ \t\r]*$/.test(text)) continue;
    const found = oversized ? undefined : parseHeader(text);
    if (found) {
      open = found.count > 0 ? { header: found, left: found.count } : null;
      continue;
    }
    const seq: number | null = open ? open.header.first + open.header.count - open.left : null;
    seen.push({
      text: oversized ? text.slice(0, maxLineBytes) : text,
      journal: open?.header.journal,
      seq,
      oversized,
    });
    if (open && --open.left === 0) open = null;
  }
  return seen;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

describe('a stream cut anywhere', () => {
  test('gives the lines, seqs and marks that the format says', () => {
    fc.assert(
      fc.property(streams, cuts, fc.constantFrom(64, 100, 1_000_000), (stream, where, maxLineBytes) => {
        expect(decodeCut(stream, where, { maxLineBytes }).all).toEqual(expectedLines(stream, maxLineBytes));
      }),
      { numRuns: 2000 },
    );
  });

  test('cut into single bytes gives the same', () => {
    fc.assert(
      fc.property(streams, (stream) => {
        const everywhere = Array.from(stream, (_, i) => i);
        const options = { maxLineBytes: 100 };
        expect(decodeCut(stream, everywhere, options)).toEqual(decodeCut(stream, [], options));
      }),
      { numRuns: 200 },
    );
  });

  test('and torn off at any byte keeps every line that was whole, and invents none', () => {
    fc.assert(
      fc.property(streams, fc.nat(), cuts, (stream, at, where) => {
        const torn = stream.subarray(0, at % (stream.length + 1));
        const got = decodeCut(torn, where);
        const full = decodeCut(stream, []);
        expect(got.whole).toEqual(full.all.slice(0, got.whole.length));
        const newlines = torn.lastIndexOf(10) + 1;
        expect(got.whole).toEqual(decodeCut(torn.subarray(0, newlines), []).whole);
      }),
      { numRuns: 500 },
    );
  });
});

test('messages come back as they were, with ids and seqs from their header', () => {
  const batch = fc.tuple(
    fc.array(logInputs, { minLength: 1, maxLength: 6 }),
    fc.integer({ min: 1, max: 1e12 }),
  );
  fc.assert(
    fc.property(fc.array(batch, { maxLength: 4 }), cuts, (all, where) => {
      let text = '';
      const expected: unknown[] = [];
      for (const [inputs, first] of all) {
        text += encodeHeader(header({ first, count: inputs.length }));
        inputs.forEach((input, i) => {
          text += `${encodeLine(input)}\n`;
          expected.push(completeMessage(wellFormed(input), 'abcdefgh12', first + i));
        });
      }
      const stream = Buffer.from(text);
      const decoder = new BatchDecoder();
      const edges = [...where.map((cut) => cut % (stream.length + 1)), stream.length].sort((a, b) => a - b);
      const got: unknown[] = [];
      let at = 0;
      for (const edge of edges) {
        for (const part of decoder.push(stream.subarray(at, edge))) got.push(...decodePart(part));
        at = edge;
      }
      expect(decoder.end()).toEqual([]);
      expect(got).toEqual(asJson(expected));
    }),
    { numRuns: 200 },
  );
});

describe('headers', () => {
  test('come back as they were', () => {
    const anyHeader = fc.record({
      journal: fc.stringMatching(/^[0-9a-z]{8,40}$/),
      first: fc.integer({ min: 1, max: 2 ** 50 }),
      count: fc.integer({ min: 0, max: 2 ** 50 }),
      levels: fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat()),
      sealed: fc.nat(),
    });
    fc.assert(
      fc.property(anyHeader, (h) => {
        expect(parseHeader(encodeHeader(h))).toEqual(h);
      }),
    );
  });

  test.each([
    '{"batch":{"journal":"UPPERCASE1","first":1,"count":1}}',
    '{"batch":{"journal":"short","first":1,"count":1}}',
    '{"batch":{"journal":"abcdefgh","first":0,"count":1}}',
    '{"batch":{"journal":"abcdefgh","first":-1,"count":1}}',
    '{"batch":{"journal":"abcdefgh","first":1.5,"count":1}}',
    '{"batch":{"journal":"abcdefgh","first":1,"count":-1}}',
    '{"batch":{"journal":"abcdefgh","first":1,"count":1e300}}',
    '{"batch":{"journal":"abcdefgh","first":9007199254740991,"count":1}}',
    '{"batch":{"journal":"abcdefgh","first":"1","count":1}}',
    '{"batch":{"first":1,"count":1}}',
    '{"batch":null}',
    '{"batch":[]}',
    '{"batch":{"journal":"abcdefgh"',
    ' {"batch":{"journal":"abcdefgh","first":1,"count":1}}',
  ])('%s is a log line and no header', (text) => {
    expect(parseHeader(text)).toBeUndefined();
    expect(linesOf(new BatchDecoder().push(Buffer.from(`${text}\n`)))).toHaveLength(1);
  });

  test('with keys of a later version, or wrong counts per level, are read all the same', () => {
    const text =
      '{"batch":{"later":true,"journal":"abcdefgh","first":3,"count":2,"levels":["x",1]},"more":1}';
    expect(parseHeader(text)).toEqual({
      journal: 'abcdefgh',
      first: 3,
      count: 2,
      levels: [0, 1, 0, 0],
      sealed: 0,
    });
  });

  test('the ranges that a journal may repeat come back as they were, and a header always fits its line', () => {
    const journal = fc.stringMatching(/^[0-9a-z]{8,40}$/);
    const seq = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
    const overlap: fc.Arbitrary<Overlap> = fc.tuple(journal, seq);
    fc.assert(
      fc.property(
        fc.array(overlap, { minLength: 1, maxLength: limits.maxOverlaps }),
        journal,
        seq,
        (overlaps, id, n) => {
          const many = header({
            journal: id,
            first: 1,
            count: n - 1,
            levels: [n, n, n, n],
            sealed: n,
            overlaps,
          });
          const text = encodeHeader(many);
          expect(parseHeader(text)).toEqual(many);
          expect(Buffer.byteLength(text)).toBeLessThanOrEqual(limits.maxHeaderLineBytes);
        },
      ),
    );
  });

  test('of the ranges in a header, what is none is left out, and so are too many', () => {
    const good = ['journal02', 5] as const;
    const wrong = [null, 7, ['journal02'], ['x', 1, 2], ['journal02', 0], ['journal02', 1.5]];
    const parse = (overlaps: unknown) =>
      parseHeader(JSON.stringify({ batch: { journal: 'journal01', first: 1, count: 1, overlaps } }))
        ?.overlaps;
    expect(parse([...wrong, good])).toEqual([good]);
    expect(parse(wrong)).toBeUndefined();
    expect(parse('all')).toBeUndefined();
    expect(parse(Array(100).fill(good))).toHaveLength(limits.maxOverlaps);
  });

  test('a header that promises a line beyond all lines numbers those that come, and the next header counts anew', () => {
    const text = `${encodeHeader(header({ count: 2 ** 40 }))}a\nb\n${encodeHeader(header({ first: 50, count: 1 }))}c\nd\n`;
    expect(linesOf(new BatchDecoder().push(Buffer.from(text))).map((line) => [line.text, line.seq])).toEqual([
      ['a', 1],
      ['b', 2],
      ['c', 50],
      ['d', null],
    ]);
  });
});

test('a line of 5 MB is kept as its beginning, holds no more memory than the limit, and harms no other', () => {
  const decoder = new BatchDecoder();
  const got: SeenLine[] = linesOf(decoder.push(Buffer.from(`${encodeHeader(header({ count: 3 }))}one\n`)));
  const block = Buffer.alloc(64 * 1024, 'y');
  for (let i = 0; i < 80; i++) got.push(...linesOf(decoder.push(block)));
  got.push(...linesOf(decoder.push(Buffer.from('\nthree\n'))));
  expect(got.map((line) => [line.seq, line.oversized, line.text.length])).toEqual([
    [1, false, 3],
    [2, true, limits.maxReceivedLineBytes],
    [3, false, 5],
  ]);
});

test('arbitrary bytes are lines like any other', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), cuts, (bytes, where) => {
      expect(decodeCut(bytes, where, { maxLineBytes: 64 }).all).toEqual(
        expectedLines(Buffer.from(bytes), 64),
      );
    }),
    { numRuns: 500 },
  );
});
