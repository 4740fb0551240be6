import { wordEdge } from './word-edge.ts';

/**
 * Takes the credentials of HTTP out of a text: what `Authorization`, `Cookie`, `X-Api-Key` and their kin hold, as headers
 * (`X-Api-Key: …`), pairs (`api_key=…`), JSON, or as Go, Python and Node.js print objects; tokens behind the name of a
 * scheme; JSON web tokens. Names and schemes stay, so that a line still says what it was about.
 *
 * Where nothing but a blank or a colon stands in front of a value, words are none: "token authentication failed".
 */
export function takeCredentials(text: string): string {
  if (!hint.test(text)) return text;
  return text
    .replace(
      setCookies,
      (_, head: string, cookies: string) => head + cookies.replace(firstValues, '$1[token]'),
    )
    .replace(cookies, (_, head: string, pairs: string) => head + pairs.replace(pairValues, '=[token]'))
    .replace(authorization, (all, head: string, found: string) =>
      isWord(found) && !given.test(head) ? all : `${head}[token]`,
    )
    .replace(named, takeNamed)
    .replace(schemed, (all, head: string, open: string, found: string) =>
      open === '' && (isWord(found) || beginsPair.test(found)) ? all : `${head}${open}[token]`,
    )
    .replace(basic, (all, head: string, found: string) => (isWord(found) ? all : `${head}[token]`))
    .replace(jwt, '[token]');
}

/** Most lines hold none of these. */
const hint = /bearer|basic|token|key|secret|authorization|cookie|sessi|eyJ/i;

const expression = (source: string) => new RegExp(source, 'g');
/** Letters in any case. A flag would do the same to all of an expression. */
const anyCase = (source: string) =>
  source.replace(/[a-z]/g, (letter) => `[${letter.toUpperCase()}${letter}]`);
/** One of some names as a word, or as the end of one in camel case: `access_token`, `accessToken`. */
const nameOf = (names: readonly string[], camel: string) =>
  `(?:${wordEdge}(?:${names.map(anyCase).join('|')})|(?<=[a-z])(?:${camel}))`;

const ansi = String.raw`(?:\x1b|\\u001b)\[[0-9;]{0,20}m`;
const blank = String.raw`(?:[ \t\u00a0]|\\t|%20|${ansi})`;
/** With the backslashes that it has in JSON within JSON. */
const quote = String.raw`\\{0,7}["']`;
/** What stands between a name, with its quote, and a value, with its quote; `=>` is Ruby's, `:[` Go's. */
const sign = String.raw`[ \t]{0,4}(?:${ansi})?(?:=>?|:|%3[AaDd])[ \t]{0,4}(?:${ansi}){0,2}(?:\[\s{0,8})?`;
const between = `(?:${quote})?${sign}(?:${quote})?`;
const char = String.raw`[^\s"'\\,;&<>(){}\[\]\x1b]`;

const cookie = String.raw`[^\s"'\\,;=&<>(){}\[\]\x1b:]{1,128}=${char}{0,4096}`;
const cookies = expression(
  `((?<![Ss][Ee][Tt]-?)${nameOf(['cookie'], 'Cookie')}${between})(${cookie}(?:; ?${cookie}){0,63})`,
);
const pairValues = expression(`=${char}+`);
/** What follows a cookie's value is not secret; a list holds several cookies. */
const attributes = String.raw`(?:;[^"'\\\r\n\]]{0,256})?`;
const setCookies = expression(
  String.raw`(${wordEdge}${anyCase('set')}-?${anyCase('cookie')}${between})(${cookie}(?:${attributes}${quote},\s{0,8}${quote}${cookie}){0,15})`,
);
const firstValues = expression(`((?:^|["'])[^"'=]{1,128}=)${char}+`);

/** `Digest` and others have a list of pairs. */
const credentials = String.raw`(?:[\w-]{1,64}=(?:${quote}[^"'\\]{0,2048}${quote}|[^\s"',\\]{0,2048})(?:,[ \t]{0,4})?){1,32}|${char}{4,}`;
const knownScheme = anyCase(
  'bearer|basic|token|digest|negotiate|ntlm|api-?key|key|hawk|oauth|signature|dpop|jwt|aws4-hmac-sha256',
);
/** One that is not known is a word with a capital, and no pair behind it. */
const scheme = `(?:${knownScheme}|[A-Z][A-Za-z-]{1,31}(?=${blank}{1,4}(?![\\w.-]{1,64}=[^=\\s])))`;
/** What stands before a value that is certain to be one: a scheme, a quote or `=`. */
const given = new RegExp(`(?:[="']|${knownScheme})${blank}{0,4}$`);
const authorization = expression(
  `(${nameOf(['authorization'], 'Authorization')}${between}(?:${scheme}${blank}{1,4})?)(?![^\\s"']{1,32} \\[token\\])(${credentials})`,
);

const named = expression(
  `(${nameOf(
    [
      ...['token', 'x-api-key', 'api[ _-]?key', 'access[ _-]?key', 'secret[ _-]?key', 'auth[ _-]?key'],
      ...['client[ _-]?secret', 'jsessionid', 'phpsessid'],
    ],
    'Token|ApiKey|AccessKey|SecretKey|AuthKey|ClientSecret',
  )})(${quote})?(${sign})(${quote})?(${char}{6,})`,
);
const schemed = expression(
  `(${wordEdge}(?:${anyCase('bearer')}|${anyCase('token')})(?:${blank}|[:=]){1,6})((?:${quote})?)([A-Za-z0-9._~+/=%-]{8,})`,
);
// Of such a word there is more in texts, and what follows it is base64.
const basic = expression(
  String.raw`(${wordEdge}${anyCase('basic')}(?:${blank}|[:=]){1,6}(?:${quote})?)([A-Za-z0-9+/_-]{8,}(?:={0,2}|(?:%3D){0,2}))(?![A-Za-z0-9+/=_~%-]|\.[A-Za-z0-9])`,
);
const jwt = expression(String.raw`${wordEdge}eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?`);
const beginsPair = /^[A-Za-z][\w.-]{0,63}=[^=]/;

function takeNamed(all: string, name: string, keyQuote = '', before = '', open = '', found = ''): string {
  if (nothing.test(found)) return all;
  if (open !== '') return `${name}${keyQuote}${before}${open}[token]`;
  if (before.includes(':') && !/^x-/i.test(name) && isWord(found)) return all;
  // A number of JSON becomes a string, lest the line be no JSON any more.
  const quotes = keyQuote !== '' && /^[0-9.]+$/.test(found) ? keyQuote : '';
  return `${name}${keyQuote}${before}${quotes}[token]${quotes}`;
}

/** What is said of a token instead of giving it. */
const nothing = /^(?:undefined|missing|invalid|expired|required|revoked|refresh|redacted|\*+)$/i;

/** A word or a few with dashes between them, as no token of that length is. */
function isWord(text: string): boolean {
  return text.length <= maxWordChars && words.test(text);
}

const maxWordChars = 48;
const words = /^(?:[A-Za-z]?[a-z]{0,22}|[A-Z]{1,15})(?:[-_'][A-Za-z]?[a-z]{0,22}){0,4}[.:!?]{0,3}$/;
