import fc from 'fast-check';
import { expect, test } from 'vitest';
import { completeMessage, fieldLimits, fieldsOf, withFields } from '../../src/index.ts';

test.each([
  [
    '{"level":"info","status":200,"user":{"id":7},"tags":["a"],"ok":true,"none":null}',
    { level: 'info', status: 200, user: { id: 7 }, tags: ['a'], ok: true, none: null },
  ],
  ['  {"a":1}  ', { a: 1 }],
  ['{"a":1', undefined],
  ['{not json}', undefined],
  ['{}', undefined],
  ['[1,2]', undefined],
  ['"text"', undefined],
  ['42', undefined],
  ['', undefined],
  ['plain text', undefined],
  [
    'level=info msg="it works" took=12.5 n=-3 ok=true id=007',
    { level: 'info', msg: 'it works', took: 12.5, n: -3, ok: true, id: '007' },
  ],
  ['msg="say \\"hi\\"\\n" path=/a?b=c', { msg: 'say "hi"\n', path: '/a?b=c' }],
  ['a.b/c@d-e=1 empty= last=x ', { 'a.b/c@d-e': 1, empty: '', last: 'x' }],
  ['big=12345678901234567890 exp=1e5', { big: '12345678901234567890', exp: '1e5' }],
  ['only=one', undefined],
  ['a=1 and b=2', undefined],
  ['a=1 b', undefined],
  ['started a=1 b=2', undefined],
  ['a="open b=2', undefined],
  ['a="x"b=2 c=3', undefined],
  ['a=1\nb=2', undefined],
  ['=1 b=2', undefined],
])('%s', (message, fields) => {
  expect(fieldsOf(message)).toEqual(fields);
});

test('fields that the sender gave win', () => {
  const line = completeMessage({ message: '{"a":1}', timestamp: 1 });
  expect(withFields(line).fields).toEqual({ a: 1 });
  expect(withFields({ ...line, fields: { b: 2 } }).fields).toEqual({ b: 2 });
  const plain = completeMessage({ message: 'text', timestamp: 1 });
  expect(withFields(plain)).toBe(plain);
});

test('the bounds hold', () => {
  const many = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`k${i}`, i]));
  expect(Object.keys(fieldsOf(JSON.stringify(many)) ?? {})).toHaveLength(fieldLimits.maxKeys);
  const pairs = Object.keys(many).map((key) => `${key}=1`);
  expect(Object.keys(fieldsOf(pairs.join(' ')) ?? {})).toHaveLength(fieldLimits.maxKeys);
  expect(fieldsOf(JSON.stringify({ [`${'k'.repeat(fieldLimits.maxKeyChars + 1)}`]: 1, b: 2 }))).toEqual({
    b: 2,
  });
  expect(fieldsOf(JSON.stringify({ a: 'x'.repeat(fieldLimits.maxMessageChars) }))).toBeUndefined();
  const nested = (depth: number): unknown => (depth === 0 ? 1 : { x: nested(depth - 1) });
  const { a, b } = fieldsOf(JSON.stringify({ a: nested(fieldLimits.maxDepth), b: nested(20) })) as Record<
    string,
    unknown
  >;
  expect(a).toEqual(nested(fieldLimits.maxDepth));
  let inner = b;
  for (let i = 0; i < fieldLimits.maxDepth; i++) inner = (inner as Record<string, unknown>).x;
  expect(inner).toBe(JSON.stringify(nested(20 - fieldLimits.maxDepth)));
  expect(fieldsOf(`{"a":${'['.repeat(16_000)}${']'.repeat(16_000)}}`)).toHaveProperty('a');
});

test('a key may be called anything', () => {
  const fields = fieldsOf('{"__proto__":{"polluted":1},"constructor":2}') as Record<string, unknown>;
  expect(Object.keys(fields)).toEqual(['__proto__', 'constructor']);
  expect(Object.getPrototypeOf(fields)).toBe(Object.prototype);
  expect(fieldsOf('__proto__=1 toString=2')).toHaveProperty('toString', 2);
});

test('any object with few keys comes back as it was; any text does no harm', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string({ maxLength: 20 }), fc.jsonValue({ maxDepth: 4 }), { minKeys: 1 }),
      (value) => {
        const message = JSON.stringify(value);
        expect(fieldsOf(message)).toEqual(JSON.parse(message));
      },
    ),
  );
  const text = fc
    .array(fc.constantFrom('a', '=', '"', ' ', '\\', '{', '}', 'k=v', '\n', '1'))
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(text, (message) => {
      const fields = fieldsOf(message);
      if (fields) expect(() => JSON.stringify(fields)).not.toThrow();
    }),
    { numRuns: 2000 },
  );
});
