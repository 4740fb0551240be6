import { basename, dirname, extname, join, matchesGlob, resolve } from 'node:path';

/** An entry of `LOG_FILES`: which files, and what their lines are named. */
export interface FilePattern {
  /** Absolute, with `*`, `?`, `**`, `[…]` or `{a,b}`. */
  glob: string;
  /** Default: the file's name without its extension. */
  name: string | undefined;
}

const compressed = new Set(['.gz', '.xz', '.zst', '.bz2', '.lz4', '.zip']);

/** Reads `/var/log/*.log` or `shop=/srv/shop/log/*.txt`. */
export function parsePattern(text: string): FilePattern {
  const match = /^([^/=]{1,128})=(.+)$/s.exec(text);
  return { glob: resolve(match?.[2] ?? text), name: match?.[1] };
}

/** The folder that all files of a pattern are in or below. */
export function folderOf({ glob }: FilePattern): string {
  const special = glob.search(/[*?[{]/);
  return dirname(special < 0 ? glob : `${glob.slice(0, special)}x`);
}

/** What lines of a file are named. */
export function nameOf(path: string, pattern: FilePattern): string {
  if (pattern.name !== undefined) return pattern.name;
  const base = basename(path);
  return base.slice(0, base.length - extname(base).length) || base;
}

/** The pattern that a file is read by; `undefined` for what is compressed, which is a log that was read before. */
export function patternOf(path: string, patterns: readonly FilePattern[]): FilePattern | undefined {
  if (isCompressed(path)) return undefined;
  return patterns.find(({ glob }) => matchesGlob(path, glob));
}

export function isCompressed(path: string): boolean {
  return compressed.has(extname(path));
}

/** What rotation puts behind a log's name: `.1`, `-20261120`, `.2026-11-20_16`, `.old`, and `.gz` when it compresses. */
const rotation = /[.-](?:\d[\dT:_.-]{0,30}|old|bak|prev)(?:\.gz)?$/;

/** Whether `name` is what a rotation may have made of `base`. */
export function isRotated(name: string, base: string): boolean {
  return name.startsWith(base) && rotation.exec(name.slice(base.length))?.index === 0;
}

/** The paths of logs that a rotation may have made this file of: the other way round. */
export function rotatedOf(path: string): string[] {
  const base = basename(path);
  const cuts = [...base.matchAll(/[.-]/g)].map(({ index }) => index).filter((index) => index > 0);
  const bases = cuts.map((index) => base.slice(0, index)).filter((name) => isRotated(base, name));
  return bases.map((name) => join(dirname(path), name));
}
