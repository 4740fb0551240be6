import { isIPv6 } from 'node:net';

/** What can be taken out of lines by name. */
export const redactions = ['email', 'ip', 'card', 'bearer', 'url-keys'] as const;
export type Redaction = (typeof redactions)[number];

/**
 * Takes secrets of one kind out of a text. The expressions are ours and take time in proportion to the text: each
 * repetition is bounded, or ends at a character that it cannot hold.
 */
export const redactors: Readonly<Record<Redaction, (text: string) => string>> = {
  email: (text) => (text.includes('@') ? text.replace(email, '[email]') : text),
  ip: (text) => {
    const without = text.replace(ipv4, (found) => (isIpv4(found) ? '[ip]' : found));
    return without.includes('::') || ipv6Hint.test(without)
      ? without.replace(ipv6, (found) => (isIPv6(found) ? '[ip]' : found))
      : without;
  },
  card: (text) => text.replace(card, (found) => (isCard(found) ? '[card]' : found)),
  bearer: (text) => text.replace(bearer, (_, scheme: string) => `${scheme} [token]`).replace(jwt, '[token]'),
  'url-keys': (text) =>
    text
      .replace(urlKey, (_, key: string) => `${key}[redacted]`)
      .replace(urlUser, (_, scheme: string) => `${scheme}[redacted]@`),
};

const email = /[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])/g;
const ipv4 = /(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9])/g;
const ipv6 = /(?<![0-9A-Za-z:.])[0-9A-Fa-f:]{2,39}(?![0-9A-Za-z:])/g;
const ipv6Hint = /[0-9A-Fa-f]:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:/;
// Issuers' numbers begin with 2 to 6; times in microseconds with 1.
const card = /(?<![0-9A-Za-z])[2-6](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z])/g;
const bearer = /\b(Bearer|Basic|Token)[ :=]{1,3}[A-Za-z0-9._~+/=-]{8,}/gi;
const jwt = /\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?/g;
const urlKey =
  /([?&;](?:[A-Za-z0-9_.-]{0,32}?(?:key|token|secret|password|passwd|pwd|signature|sig|auth|credential|session))=)[^&;#\s"'<>\\]{1,4096}/gi;
const urlUser = /\b([a-z][a-z0-9+.-]{1,15}:\/\/)[^\s/?#@"'<>\\]{1,256}@/gi;

function isIpv4(text: string): boolean {
  return text.split('.').every((part) => Number(part) <= 255 && (part === '0' || !part.startsWith('0')));
}

/** By the check digit (Luhn), which nine of ten other numbers of this length do not have. */
function isCard(text: string): boolean {
  const digits = text.replace(/[ -]/g, '');
  let sum = 0;
  for (let i = 0; i < digits.length; i++) {
    const digit = Number(digits[digits.length - 1 - i]);
    const doubled = i % 2 === 1 ? digit * 2 : digit;
    sum += doubled > 9 ? doubled - 9 : doubled;
  }
  // All the same digit passes for some lengths, and is never a card.
  return sum % 10 === 0 && !/^(\d)\1*$/.test(digits);
}
