/**
 * Where a word may begin, as a part of an expression: not behind a letter or digit, unless that ends an escape of JSON
 * (`\n`), an escape of a URL (`%20`) or a terminal's colour.
 */
export const wordEdge = String.raw`(?:(?<![0-9A-Za-z\\])|(?<=\\[bfnrt])|(?<=%[0-9A-Fa-f]{2})|(?<=(?:\x1b|\\u001b)\[[0-9;]{0,20}m))`;
