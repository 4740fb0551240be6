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
    `Bearer "[token]", ${esc}[36mtoken=${esc}[0m[token]`,
  ],
  ['bearer', '?h=Bearer%20eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln', '?h=Bearer%20[token]'],
  ['bearer', 'access_token=abcdefgh1234', 'access_token=[token]'],
  // Headers, as they are sent, and as programs print them
  ['bearer', 'X-Api-Key: abcdefghijk', 'X-Api-Key: [token]'],
  ['bearer', '> x-api-key: 3f2a9c1b77d04e', '> x-api-key: [token]'],
  ['bearer', 'X-Auth-Token: 9a8b7c6d5e4f', 'X-Auth-Token: [token]'],
  ['bearer', 'Proxy-Authorization: Basic YTpi', 'Proxy-Authorization: Basic [token]'],
  ['bearer', 'authorization: 9a8b7c6d5e4f', 'authorization: [token]'],
  ['bearer', 'Authorization: Bearer mysecrettoken', 'Authorization: Bearer [token]'],
  ['bearer', 'authorization="mysecret" n=1', 'authorization="[token]" n=1'],
  ['bearer', '{"authorization":"mysecret"}', '{"authorization":"[token]"}'],
  ['bearer', 'authorization=Bearer 9a8b7c, status=401', 'authorization=Bearer [token], status=401'],
  ['bearer', 'Authorization: Token token="9a8b7c6d5e4f"', 'Authorization: Token [token]'],
  ['bearer', 'Authorization: GenieKey 9a8b7c6d-5e4f', 'Authorization: GenieKey [token]'],
  [
    'bearer',
    'Authorization: Digest username="ann", realm="a b", nonce="dcd98b", uri="/", response="6629fae4"',
    'Authorization: Digest [token]',
  ],
  [
    'bearer',
    'Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/eu/s3/aws4_request, SignedHeaders=host;range, Signature=fe5f80',
    'Authorization: AWS4-HMAC-SHA256 [token]',
  ],
  [
    'bearer',
    '{"headers":{"x-api-key":"a|b:c!d","authorization":"9a8b7c6d5e4f","host":"h"}}',
    '{"headers":{"x-api-key":"[token]","authorization":"[token]","host":"h"}}',
  ],
  [
    'bearer',
    '{"body":"{\\"apiKey\\":\\"9a8b7c6d5e4f\\",\\"page\\":1}"}',
    '{"body":"{\\"apiKey\\":\\"[token]\\",\\"page\\":1}"}',
  ],
  [
    'bearer',
    "{'Authorization': 'Bearer 9a8b7c6d5e4f', 'X-Api-Key': '9a8b7c6d5e4f', 'Accept': '*/*'}",
    "{'Authorization': 'Bearer [token]', 'X-Api-Key': '[token]', 'Accept': '*/*'}",
  ],
  [
    'bearer',
    'map[Authorization:[Bearer 9a8b7c6d5e4f] Host:[h] X-Api-Key:[9a8b7c6d5e4f]]',
    'map[Authorization:[Bearer [token]] Host:[h] X-Api-Key:[[token]]]',
  ],
  ['bearer', '{"token"=>"9a8b7c6d5e4f", "page"=>"2"}', '{"token"=>"[token]", "page"=>"2"}'],
  ['bearer', 'Bearer: 9a8b7c6d5e4f', 'Bearer: [token]'],
  ['bearer', 'Basic dXNlcjpwYXNzd29yZA==.', 'Basic [token].'],
  // Keys in pairs, JSON and URLs
  ['bearer', 'connect api_key=9a8b7c retries=3', 'connect api_key=[token] retries=3'],
  ['bearer', 'apikey: 9a8b7c6d5e4f', 'apikey: [token]'],
  ['bearer', 'using API key: 9a8b7c6d5e4f', 'using API key: [token]'],
  ['bearer', 'GET /v1?api_key=9a8b7c&page=2', 'GET /v1?api_key=[token]&page=2'],
  ['bearer', '/callback%3Faccess_token%3D9a8b7c6d', '/callback%3Faccess_token%3D[token]'],
  [
    'bearer',
    '{"accessToken":"9a8b7c6d5e4f","refresh_token":"abcdefgh","expires_in":3600}',
    '{"accessToken":"[token]","refresh_token":"[token]","expires_in":3600}',
  ],
  ['bearer', '{"token":12345678,"n":1}', '{"token":"[token]","n":1}'],
  [
    'bearer',
    'aws_secret_access_key = wJalrXUtnFEMI/K7MDENG client_secret=s3cr3t-1',
    'aws_secret_access_key = [token] client_secret=[token]',
  ],
  // Cookies
  ['bearer', 'Cookie: theme=dark; session=9a8b7c', 'Cookie: theme=[token]; session=[token]'],
  [
    'bearer',
    'Set-Cookie: sid=9a8b7c; Path=/; HttpOnly; Expires=Wed, 21 Oct 2026 07:28:00 GMT',
    'Set-Cookie: sid=[token]; Path=/; HttpOnly; Expires=Wed, 21 Oct 2026 07:28:00 GMT',
  ],
  [
    'bearer',
    '{"cookie":"a=b=c; d=e","set-cookie":["sid=9a8b7c; Path=/; Max-Age=60","x=y"],"n":1}',
    '{"cookie":"a=[token]; d=[token]","set-cookie":["sid=[token]; Path=/; Max-Age=60","x=[token]"],"n":1}',
  ],
  ['bearer', 'POST /login;JSESSIONID=9A8B7C6D5E', 'POST /login;JSESSIONID=[token]'],
  // What only sounds like one
  ...[
    'the bearer of news',
    'Bearer of bad news',
    'Bearer authentication is required',
    'token authentication failed',
    'Token authentication is enabled',
    'token-based authentication, TOKEN AUTHENTICATION',
    'the token validation_failed for user 7',
    "token couldn't be read",
    'invalid token: authentication required',
    'Unexpected token: SEMICOLON, token: null, token=null',
    'token expires_in=3600',
    'basic usage',
    'Basic usage: see /docs, basic authentication, Basic HTTP/1.1 client',
    'WWW-Authenticate: Basic realm=Restricted',
    'WWW-Authenticate: Bearer realm="api", error="invalid_token"',
    'authorization: access denied for user bob',
    'Authorization: failed, 403',
    'API key: missing',
    '{"token":null,"apiKey":"undefined"}',
    'cookie: disabled; cookies: a=b are gone',
    '{"tokens":1500,"max_tokens":4096,"total_tokens":123456}',
    'key=9a8b7c6d5e4f monkey=9a8b7c6d5e4f tokenizer=9a8b7c6d5e4f',
    'session opened for user root',
  ].map((text) => ['bearer', text, text] as const),
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

test('what was redacted stays as it is, in JSON that stays JSON', () => {
  for (const [kind, text, expected] of table) {
    expect(redactors[kind](expected), text).toBe(expected);
    if (isJson(text)) expect(isJson(expected), expected).toBe(true);
  }
});

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

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
    'token=',
    'token: ',
    'Authorization: ',
    'authorization=a=b,',
    'Digest a="',
    'Cookie: a=b; ',
    'a=b; ',
    'Set-Cookie: a=b;',
    '","a=b;',
    'Basic aaaaaaaa=.a',
    'api key ',
    '\\',
    '\\"',
    `${esc}[0m`,
    '_',
  ];
  for (const kind of redactions) {
    for (const piece of pieces) {
      const since = performance.now();
      redactors[kind](piece.repeat(Math.floor(64_000 / piece.length)));
      expect(performance.now() - since, `${kind} ${piece}`).toBeLessThan(1_000);
    }
  }
});
