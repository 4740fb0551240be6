import { isIPv6 } from 'node:net';
import { takeCards } from './cards.ts';
import { takeCredentials } from './credentials.ts';
import { withoutEscapes } from './escapes.ts';
import { wordEdge } from './word-edge.ts';

/** What can be taken out of lines by name. */
export const redactions = ['email', 'ip', 'card', 'bearer', 'url-keys'] as const;
export type Redaction = (typeof redactions)[number];

/**
 * Takes secrets of one kind out of a text. The expressions are ours and take time in proportion to the text: each
 * repetition is bounded, or ends at a character that it cannot hold.
 *
 * Many lines are JSON, where loggers write `/` as `\/` and `&`, `@`, `=` as `\u0026`, `\u0040`, `\u003d`. A text with
 * such escapes is looked at without them, and stays as it was when nothing is found in it.
 */
export const redactors: Readonly<Record<Redaction, (text: string) => string>> = {
  email: readable((text) => (atSign.test(text) ? text.replace(email, '[email]') : text)),
  ip: (text) => {
    const without = text.replace(ipv4, (found) => (isIpv4(found) ? '[ip]' : found));
    return without.includes('::') || ipv6Hint.test(without) ? without.replace(colons, takeIpv6) : without;
  },
  card: readable(takeCards),
  bearer: readable(takeCredentials),
  'url-keys': readable((text) =>
    text
      .replace(urlKey, (_, key: string) => `${key}[redacted]`)
      .replace(urlUser, (_, scheme: string) => `${scheme}[redacted]@`),
  ),
};

const expression = (source: string, flags = 'g') => new RegExp(source, flags);

const atSign = /@|%40/;
// Not from the letter of an escape on: `\nann@…` would be no JSON without it.
const email = expression(
  String.raw`(?<!\\)[A-Za-z0-9._%+-]{1,64}(?:@|%40)(?:[A-Za-z0-9\u00a1-\uffff-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])`,
);
const ipv4 = /(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9])/g;
/** Words with colons in them. */
const colons = expression(`${wordEdge}[0-9A-Za-z]{0,64}:[0-9A-Za-z:]{1,64}`);
const ipv6Hint = /[0-9A-Fa-f]:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:/;
const keyNames =
  'key|token|secret|password|passwd|passphrase|pass|pwd|signature|sig|auth|authorization|credential|credentials|jwt|session|sessionid|session_id';
const urlKey = expression(
  String.raw`([?&;#](?:[A-Za-z0-9_.-]{0,32}?(?:${keyNames}))(?:\[\])?(?:=|%3D)["']?)[^&#\s"'<>\\]{1,4096}`,
  'gi',
);
/** With a name in front of the colon the password may hold what it should not; a port is none. */
const urlUser =
  /\b([a-z][a-z0-9+.-]{1,15}:\/\/)(?:[^\s/?#@"'<>\\:[]{0,256}:(?!\d{1,5}(?:[/?#"'\s\\]|$))[^\s"'<>\\]{1,256}|[^\s/?#"'<>\\]{1,256})@/gi;

/** The same for a text whose escapes may hide what is looked for. */
function readable(take: (text: string) => string): (text: string) => string {
  return (text) => {
    const plain = withoutEscapes(text);
    if (plain === text) return take(text);
    const taken = take(plain);
    return taken === plain ? text : taken;
  };
}

function isIpv4(text: string): boolean {
  return text.split('.').every((part) => Number(part) <= 255 && (part === '0' || !part.startsWith('0')));
}

/** An address may have a name in front (`peer:fe80::1`), and a colon behind, as in a sentence. */
function takeIpv6(word: string): string {
  const end = word.endsWith(':') && !word.endsWith('::') ? word.length - 1 : word.length;
  const text = word.slice(0, end);
  // Behind `ad:` only all eight groups are certain to be an address: `Foo::bad::face` is none.
  let isName = true;
  for (let at = 0; ; ) {
    const rest = text.slice(at);
    if (isIPv6(rest) && (isName || !rest.includes('::'))) return `${word.slice(0, at)}[ip]${word.slice(end)}`;
    const colon = text.indexOf(':', at);
    if (colon < 0) return word;
    isName &&= /[^0-9A-Fa-f]/.test(text.slice(at, colon));
    at = colon + 1;
  }
}
