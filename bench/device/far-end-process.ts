/*
 * What the benches of the agent run beside it, in a process of its own: a Docker engine that has one container, with its
 * log files but without containers, and a cloud that counts what it gets and acknowledges it.
 *
 * Commands come as messages of the parent process (far-end.ts), and so does what it knows.
 */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { constants, setPriority } from 'node:os';
import { createGunzip } from 'node:zlib';
import { type Ack, AckWriter } from '../../packages/cloud/src/http/ack-writer.ts';
import { BatchDecoder } from '../../packages/wire/src/index.ts';
import type { FarEndArrivals, FarEndCount, FarEndStart } from './far-end.ts';

const heartbeatMs = 20_000;

process.once('message', (start: FarEndStart) => run(start));

function run({ socketPath, root, containerId, commitMs, keepsText, isRemote }: FarEndStart): void {
  if (isRemote) setPriority(constants.priority.PRIORITY_LOW);
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
  /** What each request carried: looked through at the end, so that it costs nothing meanwhile. */
  const texts: Buffer[][] = [];
  /** Numbers that lines came with, and how many came once more: a request that broke is begun again. */
  const numbers = new Set<string>();
  let resent = 0;
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
    const text: Buffer[] = [];
    if (keepsText) texts.push(text);
    const commit = () => {
      if (stored) acks.write(stored);
      stored = undefined;
    };
    const commits = setInterval(commit, commitMs);
    response.on('close', () => clearInterval(commits));
    gunzip.on('data', (chunk: Buffer) => {
      if (keepsText) text.push(chunk);
      for (const { header, firstSeq, count: lines } of decoder.push(chunk)) {
        if (!header || firstSeq === null) throw new Error('a line without a batch');
        count.lines += lines;
        for (let seq = firstSeq; keepsText && seq < firstSeq + lines; seq++) {
          const number = `${header.journal}:${seq}`;
          if (numbers.has(number)) resent++;
          numbers.add(number);
        }
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
    if (message === 'arrivals') process.send?.(arrivalsIn(texts, resent));
    if (message !== 'start') return;
    isStarted = true;
    const actor = { ID: containerId, Attributes: { name: 'web' } };
    watcher?.write(`${JSON.stringify({ Action: 'start', Actor: actor })}\n`);
  });
  engine.listen(socketPath, () => {
    cloud.listen(0, '127.0.0.1', () => process.send?.((cloud.address() as AddressInfo).port));
  });
}

/** Lines of `web-log.ts` by their request's number, each of which is another's, and what is on record as missing. */
function arrivalsIn(texts: readonly Buffer[][], resent: number): FarEndArrivals {
  const seen = new Set<string>();
  const arrivals: FarEndArrivals = { distinct: 0, doubled: 0, gapFiles: 0, otherGaps: 0 };
  for (const text of texts) {
    const all = Buffer.concat(text).toString('latin1');
    for (const [, request = ''] of all.matchAll(/\\"request\\":\\"([0-9a-f]{8})/g)) {
      if (seen.has(request)) arrivals.doubled++;
      seen.add(request);
    }
    for (const [, files] of all.matchAll(/"gap":"\w+"(?:,"files":(\d+))?/g)) {
      if (files) arrivals.gapFiles += Number(files);
      else arrivals.otherGaps++;
    }
  }
  arrivals.distinct = seen.size;
  // Those a cloud knows by their number.
  arrivals.doubled -= resent;
  return arrivals;
}
