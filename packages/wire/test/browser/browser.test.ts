import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { expect, test } from 'vitest';
import { openBrowser } from '../../../../tests/support/browser.ts';
import { exercise } from './entry.ts';

test('the contract runs in a browser and gives the same there', async () => {
  // `platform: browser` has no stand-in for Node's modules: an import of one fails the build.
  const bundle = await build({
    entryPoints: [fileURLToPath(new URL('./entry.ts', import.meta.url))],
    bundle: true,
    platform: 'browser',
    target: 'chrome114',
    format: 'iife',
    globalName: 'wire',
    write: false,
    logLevel: 'silent',
  });
  expect(bundle.warnings).toEqual([]);

  await using browser = await openBrowser();
  const page = await browser.newPage();
  await page.addScriptTag({ content: bundle.outputFiles[0]?.text ?? '' });
  const inBrowser = await page.evaluate<string>('wire.exercise()');
  expect(JSON.parse(inBrowser)).toEqual(JSON.parse(exercise()));
});
