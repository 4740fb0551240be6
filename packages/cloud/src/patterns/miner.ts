/**
 * Finds what messages have in common, in the manner of Drain (He et al., "Drain: An Online Log Parsing Approach with
 * Fixed Depth Tree", ICWS 2017): a tree of fixed depth leads to few candidates, and a message joins the most similar of
 * them, whose words that differ become `<*>`, or founds a pattern of its own.
 *
 * Where this differs from the paper: numbers and ids are `<*>` before they come here, and messages that are then equal
 * come as one template with the number of their lines; the first step down is by all that is between the words, which
 * includes how many there are; and only one word leads further down.
 *
 *   root ─► what is between the words ─► first word (or `<*>`) ─► patterns
 */

export const wildcard = '<*>';

export interface MinedPattern<T> {
  text: string;
  lines: number;
  /** What came with its templates, in the order in which they came. */
  members: T[];
}

interface Cluster<T> {
  /** Between the words: `gaps[0] words[0] gaps[1] words[1] … gaps[n]`. */
  gaps: readonly string[];
  words: string[];
  lines: number;
  members: T[];
}

/** Share of the words that a message must have in common with a pattern to join it. */
const minSimilarity = 0.6;
/** First words that are told apart beneath one shape; further ones go together. */
const maxFirstWords = 100;
/** Patterns beneath one first word; when there are so many, a message joins the most similar whatever it is. */
const maxPatternsPerLeaf = 200;
/** Words of a message that are looked at. */
const maxWords = 80;

export class PatternMiner<T> {
  readonly #tree = new Map<string, Map<string, Cluster<T>[]>>();

  /** Adds messages that are equal once their numbers are `<*>`. The most frequent should come first. */
  add(template: string, lines: number, member: T): void {
    const { gaps, words } = split(template);
    const leaf = this.#leaf(gaps.join('\0'), words[0] ?? '');
    let best: Cluster<T> | undefined;
    let bestSimilarity = -1;
    for (const cluster of leaf) {
      const similarity = similarityOf(cluster.words, words);
      if (similarity > bestSimilarity) {
        best = cluster;
        bestSimilarity = similarity;
      }
    }
    if (best && (bestSimilarity >= minSimilarity || leaf.length >= maxPatternsPerLeaf)) {
      for (const [i, word] of words.entries()) if (best.words[i] !== word) best.words[i] = wildcard;
      best.lines += lines;
      best.members.push(member);
    } else leaf.push({ gaps, words, lines, members: [member] });
  }

  #leaf(shape: string, firstWord: string): Cluster<T>[] {
    let byFirstWord = this.#tree.get(shape);
    if (!byFirstWord) {
      byFirstWord = new Map();
      this.#tree.set(shape, byFirstWord);
    }
    const isKnown = byFirstWord.has(firstWord) || byFirstWord.size < maxFirstWords;
    const key = firstWord.includes(wildcard) || !isKnown ? wildcard : firstWord;
    let leaf = byFirstWord.get(key);
    if (!leaf) {
      leaf = [];
      byFirstWord.set(key, leaf);
    }
    return leaf;
  }

  /** All patterns, most lines first. */
  patterns(): MinedPattern<T>[] {
    // Two may read the same by now: one grew more general after the other had been founded.
    const byText = new Map<string, MinedPattern<T>>();
    for (const byFirstWord of this.#tree.values()) {
      for (const { gaps, words, lines, members } of [...byFirstWord.values()].flat()) {
        const text = words.reduce((all, word, i) => all + word + gaps[i + 1], gaps[0] ?? '');
        const same = byText.get(text);
        if (same) {
          same.lines += lines;
          same.members.push(...members);
        } else byText.set(text, { text, lines, members });
      }
    }
    return [...byText.values()].sort((a, b) => b.lines - a.lines || (a.text < b.text ? -1 : 1));
  }
}

/** Words, and what is between them: blanks as one, and the punctuation that separates values. */
function split(template: string): { gaps: string[]; words: string[] } {
  const gaps: string[] = [];
  const words: string[] = [];
  let end = 0;
  for (const match of template.matchAll(/[^\s,;:=()[\]{}"'|]+/g)) {
    if (words.length === maxWords) break;
    gaps.push(blanksAsOne(template.slice(end, match.index)));
    words.push(match[0]);
    end = match.index + match[0].length;
  }
  const cut = words.length === maxWords;
  gaps.push(cut ? ' …' : blanksAsOne(template.slice(end)));
  return { gaps, words };
}

function blanksAsOne(gap: string): string {
  return gap.replace(/\s+/g, ' ');
}

/** Both have the same number of words. Words that are `<*>` in both say nothing either way. */
function similarityOf(a: readonly string[], b: readonly string[]): number {
  let alike = 0;
  let telling = 0;
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i]) {
      if (a[i] === wildcard) continue;
      alike++;
    }
    telling++;
  }
  return telling === 0 ? 1 : alike / telling;
}
