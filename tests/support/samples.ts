import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { repository } from './programs.ts';

/** A piece of code out of the documentation. */
export interface Sample {
  /** The file it stands in, relative to the repository. */
  file: string;
  /** `ts`, `js`, `html`, `bash` … */
  language: string;
  /** What follows the language on the fence: our name for it. */
  name: string;
  code: string;
}

/** Every fenced piece of code in the repository's documentation. */
export async function readSamples(): Promise<Sample[]> {
  const samples: Sample[] = [];
  for await (const file of glob(['*.md', 'docs/**/*.md', 'packages/*/README.md'], { cwd: repository })) {
    const text = await readFile(join(repository, file), 'utf8');
    for (const match of text.matchAll(/^```(\w+)[ \t]*(\S*)[^\n]*\n(.*?)^```$/gms)) {
      samples.push({ file, language: match[1] ?? '', name: match[2] ?? '', code: match[3] ?? '' });
    }
  }
  return samples;
}
