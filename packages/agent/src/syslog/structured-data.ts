export type StructuredData = Record<string, Record<string, string>>;

const maxElements = 32;
const maxParams = 64;

const name = '[^\\s="\\]\\p{Cc}]{1,64}';
const element = new RegExp(`\\[(${name})((?: +${name}="(?:[^"\\\\\\]]|\\\\[^])*")*) *\\]`, 'uy');
const param = new RegExp(`(${name})="((?:[^"\\\\\\]]|\\\\[^])*)"`, 'gu');

/**
 * Reads the STRUCTURED-DATA of RFC 5424 (6.3) at `start`: `-`, or elements `[id name="value" …]` without anything
 * between them, where `"`, `\` and `]` are escaped in values.
 *
 * @returns what it says and where it ends; `undefined` when it is none. Of very many elements the first are kept.
 */
export function readStructuredData(
  text: string,
  start: number,
): { data: StructuredData | undefined; end: number } | undefined {
  if (text[start] === '-') return { data: undefined, end: start + 1 };
  // A map, since names are the sender's: `__proto__` too is one.
  const found = new Map<string, Record<string, string>>();
  let end = start;
  for (;;) {
    element.lastIndex = end;
    const match = element.exec(text);
    if (!match) break;
    const [whole, id = '', params = ''] = match;
    if (found.size < maxElements) found.set(id, paramsOf(params));
    end += whole.length;
  }
  if (end === start) return undefined;
  return { data: Object.fromEntries(found), end };
}

function paramsOf(text: string): Record<string, string> {
  const values = new Map<string, string>();
  for (const [, key = '', value = ''] of text.matchAll(param)) {
    if (values.size >= maxParams) break;
    const plain = value.replace(/\\(["\\\]])/g, '$1');
    const before = values.get(key);
    // A name may come several times.
    values.set(key, before === undefined ? plain : `${before}, ${plain}`);
  }
  return Object.fromEntries(values);
}
