import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { StoredLine } from '@millrace/wire';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { LiveWriter } from '../../src/http/live-writer.ts';

const line = (message: string) => ({ message }) as StoredLine;

test('who is told of skipped lines behind a line, in one go, sees them and all that comes after', async () => {
  let respond: (response: ServerResponse) => void = () => undefined;
  const server = createServer((_request, response) => respond(response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const asked = new Promise<ServerResponse>((resolve) => {
    respond = resolve;
  });
  const reading = fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const response = await asked;
  using writer = new LiveWriter(response, {
    format: {
      line: ({ message }) => `${message}\n`,
      skipped: (count) => `skipped ${count}\n`,
      gap: 'gap\n',
      heartbeat: '',
    },
    heartbeatMs: 60_000,
    maxWaitingBytes: 1024,
    onSkipped: () => undefined,
  });
  // As another process tells it: what it wrote at once is read at once.
  writer.write(line('one'));
  writer.skip(5);
  writer.gap();
  writer.write(line('two'));
  let text = '';
  const body = (await reading).body as ReadableStream<Uint8Array>;
  const collecting = (async () => {
    for await (const chunk of body) text += Buffer.from(chunk).toString();
  })();
  await until(() => text === 'one\nskipped 5\ngap\ntwo\n', { what: () => `all of it; there is ${text}` });
  expect(response.writableNeedDrain).toBe(false);
  response.end();
  await collecting;
  await new Promise((resolve) => server.close(resolve));
});
