import { isUtf8 } from 'node:buffer';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { anyCharacter } from '../../../../../tests/support/text-arbitraries.ts';
import { EntryReader } from '../../../src/docker/files/entry.ts';

interface Read {
  text: string;
  stream: 'stdout' | 'stderr';
  nanos: string;
  endsLine: boolean;
  /** Without a JSON parser. */
  isUsual: boolean;
}

function read(bytes: Buffer): Read | undefined {
  // Something around it, so that reading beyond the ends shows.
  const around = Buffer.concat([Buffer.from('"}\n'), bytes, Buffer.from('\n{"log":"next')]);
  const entry = new EntryReader();
  if (!entry.read(around, 3, 3 + bytes.length, isUtf8(around))) return undefined;
  const text = entry.parsed ?? (JSON.parse(`"${around.toString('utf8', entry.start, entry.end)}"`) as string);
  return {
    text,
    stream: entry.isStdErr ? 'stderr' : 'stdout',
    nanos: entry.nanos,
    endsLine: entry.endsLine,
    isUsual: entry.parsed === undefined,
  };
}

const time = '2026-11-20T12:41:25.567969173Z';
const nanos = '1795178485567969173';

test('entries as the engine writes them are read without a parser; other JSON with one', () => {
  const usual = (log: string) => `{"log":"${log}","stream":"stdout","time":"${time}"}`;
  const table: [string, Partial<Read> | undefined][] = [
    [usual('hello\\n'), { text: 'hello', endsLine: true, isUsual: true, nanos, stream: 'stdout' }],
    [usual('\\n'), { text: '', endsLine: true, isUsual: true }],
    [usual(''), { text: '', endsLine: false, isUsual: true }],
    [usual('a piece'), { text: 'a piece', endsLine: false, isUsual: true }],
    [usual('\\\\n'), { text: '\\n', endsLine: false, isUsual: true }],
    [usual('\\\\\\n'), { text: '\\', endsLine: true, isUsual: true }],
    [usual('{\\"level\\":\\"info\\"}\\r\\n'), { text: '{"level":"info"}\r', endsLine: true, isUsual: true }],
    [usual('\\u003cb\\u003e äö \\u2028\\n'), { text: '<b> äö \u2028', endsLine: true, isUsual: true }],
    [usual('\\",\\"stream\\":\\"stderr\\n'), { text: '","stream":"stderr', stream: 'stdout', isUsual: true }],
    [usual('lone \\ud800\\n'), { text: 'lone \ud800', endsLine: true, isUsual: false }],
    [`{"log":"e\\n","stream":"stderr","time":"${time}"}`, { text: 'e', stream: 'stderr', isUsual: true }],
    [
      '{"log":"a\\n","stream":"stdout","time":"2026-11-20T12:41:25.5Z"}',
      { nanos: '1795178485500000000', isUsual: true },
    ],
    [
      '{"log":"a\\n","stream":"stdout","time":"2026-11-20T12:41:25Z"}',
      { nanos: '1795178485000000000', isUsual: false },
    ],
    [
      '{"log":"a\\n","stream":"stdout","time":"2026-11-20T13:41:25.5+01:00"}',
      { nanos: '1795178485500000000' },
    ],
    [
      `{"log":"a\\n","stream":"stdout","attrs":{"tag":"x"},"time":"${time}"}`,
      { text: 'a', nanos, isUsual: false },
    ],
    [
      `{"time":"${time}", "stream" : "stderr", "log":"a\\n"}`,
      { text: 'a', stream: 'stderr', isUsual: false },
    ],
    [`{"log":"a","log":"b\\n","stream":"stdout","time":"${time}"}`, { text: 'b', isUsual: false }],
    [usual('half').slice(0, 20), undefined],
    [usual('bad \\x escape\\n'), undefined],
    [usual('raw " quote\\n'), undefined],
    [usual('raw \t tab\\n'), undefined],
    [usual('a\\n').replace('12:41', '99:99'), undefined],
    ['{"log":1,"stream":"stdout","time":"x"}', undefined],
    ['null', undefined],
    ['', undefined],
  ];
  for (const [text, expected] of table) {
    const entry = read(Buffer.from(text));
    if (expected) expect(entry, text).toMatchObject(expected);
    else expect(entry, text).toBeUndefined();
  }
  const spoilt = Buffer.from(usual('a\xff\\n'), 'latin1');
  expect(read(spoilt)).toMatchObject({ text: 'a\ufffd', isUsual: false });
});

test('whatever a container writes: the same as with a JSON parser', () => {
  const text = fc.oneof(
    fc.string({ unit: anyCharacter }),
    fc.string({ unit: fc.constantFrom('\\', '"', 'n', 'u', '\n', 'd8') }),
  );
  const entry = fc.record({
    log: text,
    stream: fc.constantFrom('stdout', 'stderr'),
    time: fc
      .tuple(fc.integer({ min: 0, max: 4e9 }), fc.integer({ min: 0, max: 999_999_999 }))
      .map(([s, n]) => {
        const fraction = String(n).padStart(9, '0').replace(/0+$/, '');
        return `${new Date(s * 1000).toISOString().slice(0, 19)}${fraction && `.${fraction}`}Z`;
      }),
  });
  fc.assert(
    fc.property(entry, (value) => {
      const got = read(Buffer.from(JSON.stringify(value)));
      const endsLine = value.log.endsWith('\n');
      expect(got).toMatchObject({
        // A lone surrogate is written as an escape, which the parser reads.
        text: endsLine ? value.log.slice(0, -1) : value.log,
        stream: value.stream,
        endsLine,
      });
      const [second, fraction = ''] = value.time.slice(0, -1).split('.') as [string, string?];
      expect(got?.nanos).toBe(
        `${String(Date.parse(`${second}Z`) / 1000).padStart(10, '0')}${fraction.padEnd(9, '0')}`,
      );
    }),
    { numRuns: 500 },
  );
});
