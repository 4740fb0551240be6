/*
 * What a device that prints a line a second pays for its link: bytes of TCP payload each way over an hour, counted by a
 * relay between the agent and a cloud that acknowledges each batch. Request and response heads, chunk framing and
 * heartbeats are in it.
 *
 *   npm run bench:agent:wire                 3600 lines, an hour of device time in two minutes
 *   npm run bench:agent:wire -- 3600 1000    the same at its true pace
 *
 * Faster than a line a second, the journal would begin to group lines, which saves bytes; so its interval is shortened by
 * the same factor, and the figures say how many lines went in a batch: 1, or they are not worth the paper. The lines'
 * times are a second apart in either case.
 */

import { startTcpProxy } from '../tests/support/tcp-proxy.ts';
import { tempDir } from '../tests/support/tmp.ts';
import { until } from '../tests/support/wait.ts';
import { FarEnd } from './device/far-end.ts';
import { MeasuredAgent, round } from './device/measured-agent.ts';
import { print } from './device/printer.ts';

const [lines, intervalMs] = [process.argv[2] ?? 3600, process.argv[3] ?? 33].map(Number) as [number, number];
if (!Number.isInteger(lines) || lines < 1 || !(intervalMs >= 30 && intervalMs <= 1000))
  throw new Error('usage: npm run bench:agent:wire [-- lines [interval in ms, from 30 to 1000]]');

await using dir = await tempDir('millrace-bench-');
using farEnd = await FarEnd.start(dir.path, { commitMs: 1 });
await using relay = await startTcpProxy({ port: farEnd.cloudPort });
await using agent = await MeasuredAgent.start({
  dataDir: `${dir.path}/data`,
  dockerHost: farEnd.dockerHost,
  cloudPort: relay.port,
  // Reports of the state go by the clock, and not by lines.
  env: { JOURNAL_SYNC_MS: String(Math.ceil(intervalMs / 2)), REPORT_STATE: 'false' },
});
farEnd.startContainer();
console.error(`${lines} lines, one every ${intervalMs} ms…`);
const { logPath } = farEnd;
const firstMs = Date.now() - lines * 1000;
await print({ logPath, lines, intervalMs, timeOf: (n) => firstMs + n * 1000 });
await until(async () => (await farEnd.count()).lines >= lines, {
  what: () => `${lines} lines\n${agent.stderr}`,
});
const { batches } = await farEnd.count();
await agent.stop();

const figures = {
  sentBytesPerLine: round(relay.bytesUp / lines, 1),
  receivedBytesPerLine: round(relay.bytesDown / lines, 1),
  linesPerBatch: round(lines / batches, 2),
  connections: relay.accepted,
};
console.log(`
lines                       ${lines}, one every ${intervalMs} ms
sent                        ${figures.sentBytesPerLine} bytes a line
received                    ${figures.receivedBytesPerLine} bytes a line
lines in a batch            ${figures.linesPerBatch}
connections                 ${figures.connections}
`);
console.log(JSON.stringify(figures));
