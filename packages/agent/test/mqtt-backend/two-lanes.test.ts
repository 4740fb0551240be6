import { gunzipSync } from 'node:zlib';
import { BatchDecoder, decodePart, type LogMessage } from '@millrace/wire';
import mqtt from 'mqtt';
import { expect, test } from 'vitest';
import { captureLog } from '../../../../tests/support/log.ts';
import { mosquittoSub, startMosquitto } from '../../../../tests/support/mosquitto.ts';
import { tempDir } from '../../../../tests/support/tmp.ts';
import { until } from '../../../../tests/support/wait.ts';
import { FolderDisk } from '../../src/journal/disk.ts';
import { Journal } from '../../src/journal/journal.ts';
import { MqttLogBackend } from '../../src/logging/mqtt-backend.ts';

const backlogLines = 20_000;

async function journalWithBacklog(folder: string): Promise<Journal> {
  const journal = new Journal({ disk: new FolderDisk(folder) });
  for (let i = 1; i <= backlogLines; i++) {
    journal.append({ message: `old ${i}`, serviceName: 'web' });
    if (i % 1000 === 0) await journal.flush();
  }
  return journal;
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}

/** A cloud behind the broker that holds back acknowledgements of the backlog, and can lose a batch. */
async function startReader(brokerUrl: string, answer: (first: number, last: number) => object | undefined) {
  const client = await mqtt.connectAsync(brokerUrl);
  const lines: LogMessage[] = [];
  client.on('message', (_topic, payload) => {
    const [part] = new BatchDecoder().push(gunzipSync(payload));
    if (!part?.header) throw new Error('not a batch');
    const { journal, first, count } = part.header;
    const ack = answer(first, first + count - 1);
    if (!ack) return;
    lines.push(...decodePart(part));
    client.publish('device/d1/logs/ack', JSON.stringify({ ack: { journal, ...ack } }), { qos: 1 });
  });
  await client.subscribeAsync('device/d1/logs', { qos: 1 });
  return { lines, [Symbol.asyncDispose]: () => client.endAsync(true) };
}

const options = { baseTopic: 'device/logs', deviceUuid: 'd1', ack: 'cloud' as const };

test('a batch that is lost while later ones are acknowledged is sent again, in two lanes and after', async () => {
  await using folder = await tempDir();
  await using broker = await startMosquitto();
  const lost = new Set<number>();
  await using cloud = await startReader(broker.url, (first, last) => {
    // One batch of the backlog, and one of the fresh lines.
    const loses = (lost.size === 0 && first > 8000) || (lost.size === 1 && first > backlogLines);
    if (loses) lost.add(first);
    // A conclusion from the order of messages, as wrong as can be: what is stored is named beside it.
    return loses ? undefined : { through: last, stored: [[first, last]] };
  });
  await using journal = await journalWithBacklog(folder.path);
  const { log } = captureLog();
  await using backend = new MqttLogBackend({
    ...{ ...options, brokerUrl: broker.url, feed: journal.cursor('mqtt'), log, ackTimeoutMs: 200 },
  });
  await backend.connect();
  let fresh = 0;
  await until(() => {
    if (fresh < 500) journal.append({ message: `fresh ${++fresh}` });
    return fresh === 500 && backend.state.lag === 0;
  });
  expect(lost.size).toBe(2);
  const seqs = new Set(cloud.lines.map(({ seq }) => seq as number));
  expect([...seqs].toSorted((a, b) => a - b)).toEqual(upTo(backlogLines + fresh));
});

test('a cloud that names no ranges gets one lane', async () => {
  await using folder = await tempDir();
  await using broker = await startMosquitto();
  await using cloud = await startReader(broker.url, (_first, last) => ({ through: last }));
  await using journal = await journalWithBacklog(folder.path);
  const { log } = captureLog();
  await using backend = new MqttLogBackend({
    ...{ ...options, brokerUrl: broker.url, feed: journal.cursor('mqtt'), log },
  });
  await backend.connect();
  journal.append({ message: 'fresh' });
  await until(() => backend.state.lag === 0);
  expect(cloud.lines.map(({ seq }) => seq)).toEqual(upTo(backlogLines + 1));
});

test('over a plain broker a fresh line overtakes the backlog, and nothing comes twice', async () => {
  await using folder = await tempDir();
  await using broker = await startMosquitto();
  await using watcher = await mosquittoSub(broker, 'container-manager/logs/#');
  await using journal = await journalWithBacklog(folder.path);
  await using backend = new MqttLogBackend({
    ...{ brokerUrl: broker.url, feed: journal.cursor('mqtt'), log: captureLog().log, maxInFlight: 4 },
  });
  // Written just before the connection stands, it is as fresh as what follows.
  journal.append({ message: 'fresh', serviceName: 'now' });
  await journal.flush();
  await backend.connect();
  await until(() => backend.state.lag === 0);
  await until(() => watcher.lines.length === backlogLines + 1);
  const at = watcher.lines.findIndex((line) => line.includes('"fresh"'));
  expect(at).toBeGreaterThanOrEqual(0);
  expect(at).toBeLessThan(backlogLines / 2);
  const seqs = watcher.messages.map(({ payload }) => JSON.parse(payload).seq as number);
  expect(seqs.toSorted((a, b) => a - b)).toEqual(upTo(backlogLines + 1));
});
