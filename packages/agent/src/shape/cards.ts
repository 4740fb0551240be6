import { wordEdge } from './word-edge.ts';

/**
 * Numbers of 13 to 19 digits with a right check digit, in one piece or in groups with a blank or a dash between them.
 * What stands beside a card's number are often numbers, too (`4111 1111 1111 1111 12/27`), so within a run of groups
 * each that looks like a card is looked for.
 */
export function takeCards(text: string): string {
  return text.replace(runs, (run: string, at: number) => {
    // Times in milliseconds are in many lines.
    if (run.length < minDigits + 1 && !isOfIssuer(run)) return run;
    if (!edgeBefore.test(text.slice(Math.max(0, at - maxEdgeChars), at))) return run;
    // A number of JSON becomes a string, lest the line be no JSON any more.
    const quote = jsonKey.exec(text.slice(Math.max(0, at - 8), at))?.[1] ?? '';
    const groups = [...run.matchAll(/[0-9]+/g)].map(({ 0: digits, index }) => ({ digits, index }));
    let shown = '';
    let from = 0;
    for (let first = 0; first < groups.length; ) {
      const last = lastOfCard(groups, first);
      const begin = groups[first] as Group;
      if (last < 0) first++;
      else {
        shown += `${run.slice(from, begin.index)}${quote}[card]${quote}`;
        const end = groups[last] as Group;
        from = end.index + end.digits.length;
        first = last + 1;
      }
    }
    return shown + run.slice(from);
  });
}

interface Group {
  digits: string;
  index: number;
}

// The edge is looked at behind the match: for most lines that is never, and it takes as long as all the rest.
const runs = /[0-9](?:[ \u00a0-]?[0-9]){12,}(?![0-9A-Za-z])/g;
const edgeBefore = new RegExp(`${wordEdge}$`);
const maxEdgeChars = 32;
/** Behind the key of a pair, whose value has no quotes. In JSON within JSON there are backslashes before a quote. */
const jsonKey = /(\\*")\s{0,4}:\s{0,4}$/;
const minDigits = 13;
const maxDigits = 19;

/** The last group of the card that begins with the group `first`; -1 when there is none. The longest counts. */
function lastOfCard(groups: readonly Group[], first: number): number {
  const { length } = (groups[first] as Group).digits;
  if (first > 0 && length !== 4 && length < minDigits) return -1;
  let digits = '';
  let found = -1;
  for (let last = first; last < groups.length && digits.length < maxDigits; last++) {
    digits += (groups[last] as Group).digits;
    if (digits.length < minDigits || digits.length > maxDigits) continue;
    const isWhole = first === 0 && last === groups.length - 1;
    if ((isWhole || looksLikeCard(groups, first, last)) && isCard(digits)) found = last;
  }
  return found;
}

/** In one piece, or as it is printed: 4-4-4-4, 4-6-5, 4-4-4-4-3. Else one of ten sequences of numbers would pass. */
function looksLikeCard(groups: readonly Group[], first: number, last: number): boolean {
  if (first === last) return true;
  return (
    (groups[first] as Group).digits.length === 4 &&
    groups.slice(first, last + 1).every(({ digits }) => digits.length >= 3 && digits.length <= 7)
  );
}

/** Issuers' numbers begin with 2 to 6; times in milliseconds and microseconds with 1. */
function isOfIssuer(digits: string): boolean {
  return digits >= '2' && digits < '7';
}

/** By the check digit (Luhn), which nine of ten other numbers of this length do not have. */
function isCard(digits: string): boolean {
  if (!isOfIssuer(digits)) return false;
  let sum = 0;
  for (let i = 0; i < digits.length; i++) {
    const digit = Number(digits[digits.length - 1 - i]);
    const doubled = i % 2 === 1 ? digit * 2 : digit;
    sum += doubled > 9 ? doubled - 9 : doubled;
  }
  // All the same digit passes for some lengths, and is never a card.
  return sum % 10 === 0 && !/^(\d)\1*$/.test(digits);
}
