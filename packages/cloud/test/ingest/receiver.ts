import { connect } from 'node:net';
import { pino } from 'pino';
import { Ingest } from '../../src/ingest/index.ts';
import { openStore } from '../../src/store/index.ts';

/*
 * A cloud in a process of its own, to be killed: it connects to a port of its parent, takes what comes from there
 * as the stream of a device, and sends back each acknowledgement as a line.
 *   node receiver.ts <data folder> <port>
 */
const log = pino({ level: 'silent' });
const store = await openStore({ dataDir: process.argv[2] as string, log });
const ingest = new Ingest({ store, log, limits: { maxFlightBytes: 200_000 } });
const socket = connect({ port: Number(process.argv[3]), host: '127.0.0.1', allowHalfOpen: true });
const stream = ingest.openStream('dev', {
  via: 'http',
  onAck: ({ through }) => socket.write(`${through}\n`),
});
// The parent may be gone first.
socket.on('error', () => undefined);
for await (const chunk of socket) await stream.write(chunk);
await stream.end();
await ingest.close();
await store.close();
socket.end();
