import { expect, test } from 'vitest';
import { type Redaction, redactions, redactors } from '../../src/shape/redact.ts';

const esc = '\u001b';

/** What each kind takes out, and what it must leave. */
const table: readonly (readonly [Redaction, string, string])[] = [
  ['email', 'login of ann.lee+test@mail.example.com failed', 'login of [email] failed'],
  ['email', '{"user":"a@b.de","n":1}', '{"user":"[email]","n":1}'],
  ['email', '/?to=ann%40example.com&x=1, bob@exämple.de', '/?to=[email]&x=1, [email]'],
  ['email', '{"m":"to:\\nann\\u0040example.com"}', '{"m":"to:\\n[email]"}'],
  ['email', '{"m":"no\\/thing \\u0040 all"}', '{"m":"no\\/thing \\u0040 all"}'],
  ['email', 'user@host and @decorator, a@b', 'user@host and @decorator, a@b'],
  ['ip', 'from 192.168.1.20:51234 to 10.0.0.1', 'from [ip]:51234 to [ip]'],
  [
    'ip',
    'version 1.2.3.4.5 and 1.2.3 and 300.1.1.1 and 01.02.03.04',
    'version 1.2.3.4.5 and 1.2.3 and 300.1.1.1 and 01.02.03.04',
  ],
  ['ip', 'from 2001:db8::8a2e:370:7334, ::1 and fe80::1', 'from [ip], [ip] and [ip]'],
  ['ip', 'fe80::1: refused, peer:fe80::2, fe80::3-fe80::4', '[ip]: refused, peer:[ip], [ip]-[ip]'],
  ['ip', '{"m":"from\\n2001:db8::1"}', '{"m":"from\\n[ip]"}'],
  ['ip', 'add:2001:db8:85a3:0:0:8a2e:370:7334 Foo::bad::face', 'add:[ip] Foo::bad::face'],
  ['ip', 'at 12:30:45 in Foo::bar, 00:1a:2b:3c:4d:5e', 'at 12:30:45 in Foo::bar, 00:1a:2b:3c:4d:5e'],
  ['card', 'paid with 4111 1111 1111 1111 12/27, 2 4111111111111111 5', 'paid with [card] 12/27, 2 [card] 5'],
  ['card', '1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16', '1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16'],
  ['card', `${esc}[31m4111111111111111${esc}[0m`, `${esc}[31m[card]${esc}[0m`],
  ['card', '{"pan":4111111111111111,"m":"\\n4111-1111-1111-1111"}', '{"pan":"[card]","m":"\\n[card]"}'],
  ['card', 'paid with 4111 1111 1111 1111.', 'paid with [card].'],
  ['card', 'paid with 4111-1111-1111-1111, 378282246310005', 'paid with [card], [card]'],
  [
    'card',
    'order 4111111111111112, 4111111111111116 of 1767225600000123',
    'order 4111111111111112, 4111111111111116 of 1767225600000123',
  ],
  [
    'card',
    'zeros 0000000000000000 and id a4111111111111111',
    'zeros 0000000000000000 and id a4111111111111111',
  ],
  ['bearer', 'Authorization: Bearer abc.DEF-123_456', 'Authorization: Bearer [token]'],
  ['bearer', '{"authorization":"Basic YW5uOnNlY3JldA=="}', '{"authorization":"Basic [token]"}'],
  ['bearer', 'got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl back', 'got [token] back'],
  ['bearer', '{"m":"\\nBearer abc\\/def\\/ghijk","k":"v"}', '{"m":"\\nBearer [token]","k":"v"}'],
  [
    'bearer',
    `Bearer "abcdefghi", ${esc}[36mtoken=${esc}[0mabcdefghi`,
    `Bearer "[token]", ${esc}[36mtoken [token]`,
  ],
  ['bearer', '?h=Bearer%20eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln', '?h=Bearer [token]'],
  ['bearer', 'access_token=abcdefgh1234', 'access_token [token]'],
  ['bearer', 'the bearer of news', 'the bearer of news'],
  [
    'url-keys',
    'GET /a?api_key=s3cret&page=2&access_token=x',
    'GET /a?api_key=[redacted]&page=2&access_token=[redacted]',
  ],
  ['url-keys', 'postgres://ann:s3cret@db:5432/app', 'postgres://[redacted]@db:5432/app'],
  [
    'url-keys',
    '/#access_token=a;b&jwt=x&session_id=y&pass=z&ids[]=1',
    '/#access_token=[redacted]&jwt=[redacted]&session_id=[redacted]&pass=[redacted]&ids[]=1',
  ],
  ['url-keys', "/?token[]=a&token='b'", "/?token[]=[redacted]&token='[redacted]'"],
  // As Go and Gson write them, and PHP.
  ['url-keys', '{"u":"/?a=1\\u0026token\\u003dx\\u0026b=2"}', '{"u":"/?a=1&token=[redacted]&b=2"}'],
  [
    'url-keys',
    '{"u":"https:\\/\\/ann:s3cret@db\\/?key=a\\/b"}',
    '{"u":"https://[redacted]@db/?key=[redacted]"}',
  ],
  ['url-keys', 'https://ann:p@ss/w@db:5432/app', 'https://[redacted]@db:5432/app'],
  ['url-keys', 'http://host:8080/a@b http://h:443?x=a@b', 'http://host:8080/a@b http://h:443?x=a@b'],
  ['url-keys', 'https://example.com/a@b?monkeys=2', 'https://example.com/a@b?monkeys=2'],
];

test.each(table)('%s: %s', (kind, text, expected) => {
  expect(redactors[kind](text)).toBe(expected);
});

test('time grows with the length of the text, whatever it is', () => {
  const pieces = [
    'a',
    '1',
    '1 ',
    '1.',
    'a@',
    ':',
    'a:',
    '?key=',
    '://',
    'Bearer ',
    'eyJ',
    '-',
    'x@a.',
    '&token',
    '4 ',
    '\\/',
    '\\u0040',
    'a://b:',
  ];
  for (const kind of redactions) {
    for (const piece of pieces) {
      const since = performance.now();
      redactors[kind](piece.repeat(Math.floor(64_000 / piece.length)));
      expect(performance.now() - since, `${kind} ${piece}`).toBeLessThan(1_000);
    }
  }
});
