/*
 * What the benches of the agent run beside it, in a process of its own: a Docker engine that has one container, with its
 * log files but without containers, and a cloud that counts what it gets and acknowledges it.
 *
 * Commands come as messages of the parent process (far-end.ts), and so does what it knows.
 */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createGunzip } from 'node:zlib';
import { type Ack, AckWriter } from '../../packages/cloud/src/http/ack-writer.ts';
import { BatchDecoder } from '../../packages/wire/src/index.ts';
import type { FarEndCount, FarEndStart } from './far-end.ts';

const heartbeatMs = 20_000;

process.once('message', (start: FarEndStart) => run(start));

function run({ socketPath, root, containerId, commitMs }: FarEndStart): void {
  const container = { Id: containerId, Names: ['/web'], Labels: {}, State: 'running' };
  let watcher: ServerResponse | undefined;
  let isStarted = false;
  const engine = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? '';
    if (path.endsWith('/events')) {
      response.writeHead(200).flushHeaders();
      watcher = response;
    } else if (path.endsWith('/info')) response.end(JSON.stringify({ DockerRootDir: root }));
    else if (path.endsWith('/containers/json')) response.end(JSON.stringify(isStarted ? [container] : []));
    else response.end('OK');
  });
  const count: FarEndCount = { lines: 0, batches: 0, wireBytes: 0 };
  const cloud = createServer((request, response) => {
    if (request.method === 'PATCH') {
      // A report of the device's state.
      request.resume().on('end', () => response.end('{}'));
      return;
    }
    response.writeHead(200).flushHeaders();
    const short = String(request.headers['millrace-acks']).includes('short');
    const acks = new AckWriter({ response, heartbeatMs, short });
    const decoder = new BatchDecoder();
    const gunzip = createGunzip();
    request.pipe(gunzip);
    request.on('data', (chunk: Buffer) => {
      count.wireBytes += chunk.length;
    });
    let stored: Ack | undefined;
    const commit = () => {
      if (stored) acks.write(stored);
      stored = undefined;
    };
    const commits = setInterval(commit, commitMs);
    response.on('close', () => clearInterval(commits));
    gunzip.on('data', (chunk: Buffer) => {
      for (const { header, firstSeq, count: lines } of decoder.push(chunk)) {
        if (!header || firstSeq === null) throw new Error('a line without a batch');
        count.lines += lines;
        count.batches++;
        stored = { journal: header.journal, through: firstSeq + lines - 1 };
      }
    });
    gunzip.on('end', () => {
      commit();
      acks[Symbol.dispose]();
      response.end();
    });
    // A request that breaks is begun again by the agent.
    gunzip.on('error', () => response.destroy());
  });
  process.on('message', (message) => {
    if (message === 'count') process.send?.(count);
    if (message !== 'start') return;
    isStarted = true;
    const actor = { ID: containerId, Attributes: { name: 'web' } };
    watcher?.write(`${JSON.stringify({ Action: 'start', Actor: actor })}\n`);
  });
  engine.listen(socketPath, () => {
    cloud.listen(0, '127.0.0.1', () => process.send?.((cloud.address() as AddressInfo).port));
  });
}
