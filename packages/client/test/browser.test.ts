import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { expect, test } from 'vitest';
import { openBrowser } from '../../../tests/support/browser.ts';
import { adminToken, joinKey, startTestCloud } from '../../cloud/test/support/cloud.ts';
import { MillraceClient } from '../src/index.ts';

test('the client runs in a page of the cloud', async () => {
  // `platform: browser` has no stand-in for Node's modules: an import of one fails the build.
  const bundle = await build({
    entryPoints: [fileURLToPath(new URL('../src/index.ts', import.meta.url))],
    bundle: true,
    platform: 'browser',
    target: 'chrome114',
    format: 'iife',
    globalName: 'millrace',
    write: false,
    logLevel: 'silent',
  });
  expect(bundle.warnings).toEqual([]);

  await using cloud = await startTestCloud();
  const node = new MillraceClient({ url: cloud.url, token: adminToken });
  const { api_key: deviceKey } = await node.register({ uuid: 'one' }, { joinKey });
  await node.send('one', [{ message: 'said one', timestamp: 1 }], { deviceKey });
  await using browser = await openBrowser();
  const page = await browser.newPage();
  await page.goto(`${cloud.url}/healthz`);
  await page.addScriptTag({ content: bundle.outputFiles[0]?.text ?? '' });
  const inPage = await page.evaluate<string>(`(async () => {
    const client = new millrace.MillraceClient({ url: '', token: '${adminToken}' });
    const { logs } = await client.search({ query: 'said' });
    const tail = await client.tail({ device: 'one' });
    await client.send('one', [{ message: 'said two', timestamp: 2 }], { deviceKey: '${deviceKey}' });
    const { value } = await tail.next();
    const exported = [];
    for await (const { message } of client.exportLines()) exported.push(message);
    const refused = await client.search({ query: ')' }).catch(({ code, problem }) => [code, problem.offset]);
    return JSON.stringify({ found: logs.map(({ message }) => message), followed: value.line.message, exported, refused });
  })()`);
  expect(JSON.parse(inPage)).toEqual({
    found: ['said one'],
    followed: 'said two',
    exported: ['said one', 'said two'],
    refused: ['QUERY_INVALID', 0],
  });
});
