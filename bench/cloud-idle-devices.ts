/*
 * The devices of bench/cloud-idle.ts, in a process of their own. MQTT by hand, as ten thousand clients of a library
 * would take more of the machine than the cloud that is measured.
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { generate, parser } from 'mqtt-packet';
import { deviceTopic, encodeHeader, encodeLine } from '../packages/wire/src/index.ts';
import { benchLine, deviceKey, deviceName, journalOf } from './cloud-lines.ts';

export interface IdleStart {
  mqttPort: number;
  devices: number;
  linesPerSecond: number;
  seconds: number;
}

export interface IdleResult {
  /** Devices that printed. */
  active: number;
  lines: number;
  seconds: number;
  /** From the first line of a device to its confirmation, while all devices come for the first time. */
  firstConfirmedMs: number[];
}

interface Device {
  socket: Socket;
  number: number;
  seq: number;
  confirmed: number;
  onConfirmed: (() => void) | undefined;
}

const connectAtOnce = 50;
/** Devices that print; the others are connected and silent. */
const maxActive = 500;
const tickMs = 20;
const firstAtOnce = 20;
/** Each device says that it is there this often, as MQTT clients with a keep-alive of twice that do. */
const pingMs = 60_000;
const pingTickMs = 100;

process.once('message', async (start: IdleStart) => {
  const devices: Device[] = [];
  for (let from = 0; from < start.devices; from += connectAtOnce) {
    const some = Math.min(connectAtOnce, start.devices - from);
    devices.push(
      ...(await Promise.all(Array.from({ length: some }, (_, i) => open(start.mqttPort, from + i)))),
    );
  }
  keepAlive(devices);
  process.once('message', async () => {
    process.send?.(await run(devices, start));
  });
  process.send?.('connected');
});

function keepAlive(devices: readonly Device[]): void {
  const perTick = Math.ceil((devices.length * pingTickMs) / pingMs);
  const ping = generate({ cmd: 'pingreq' });
  let next = 0;
  setInterval(() => {
    for (let i = 0; i < perTick; i++) devices[next++ % devices.length]?.socket.write(ping);
  }, pingTickMs);
}

/** First each that prints, once, unmeasured for the tail; then `linesPerSecond` in all, in an order that mixes them. */
async function run(all: Device[], { linesPerSecond, seconds }: IdleStart): Promise<IdleResult> {
  const every = Math.ceil(all.length / maxActive);
  const devices = all.filter((_, i) => i % every === 0);
  const firstConfirmedMs: number[] = [];
  let lines = 0;
  for (let from = 0; from < devices.length; from += firstAtOnce) {
    const some = devices.slice(from, from + firstAtOnce);
    const startMs = performance.now();
    await Promise.all(
      some.map(async (device) => {
        send(device, 'first');
        lines++;
        await new Promise<void>((resolve) => {
          device.onConfirmed = resolve;
        });
        firstConfirmedMs.push(performance.now() - startMs);
      }),
    );
  }
  const startMs = performance.now();
  let sent = 0;
  // A prime step visits all of them, neighbours far apart.
  for (let at = 0; ; ) {
    const elapsed = (performance.now() - startMs) / 1000;
    const due = Math.min(elapsed, seconds) * linesPerSecond;
    for (; sent < due; sent++) {
      at = (at + 7919) % devices.length;
      send(devices[at] as Device, `sent=${(performance.timeOrigin + performance.now()).toFixed(3)}`);
    }
    if (elapsed >= seconds) break;
    await pause(tickMs);
  }
  while (devices.some(({ seq, confirmed }) => confirmed < seq)) await pause(tickMs);
  return {
    active: devices.length,
    lines: lines + sent,
    seconds: (performance.now() - startMs) / 1000,
    firstConfirmedMs,
  };
}

function send(device: Device, mark: string): void {
  const { number } = device;
  const seq = ++device.seq;
  const line = benchLine(number, seq);
  const header = encodeHeader({ journal: journalOf(number), first: seq, count: 1, sealed: Date.now() });
  const text = `${header}${encodeLine({ ...line, message: `${mark} ${line.message}`, timestamp: Date.now() })}\n`;
  device.socket.write(
    generate({
      cmd: 'publish',
      topic: deviceTopic(deviceName(number), 'logs'),
      payload: gzipSync(text),
      qos: 1,
      messageId: (seq % 65_000) + 1,
      dup: false,
      retain: false,
    }),
  );
}

function open(port: number, number: number): Promise<Device> {
  const name = deviceName(number);
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  const device: Device = { socket, number, seq: 0, confirmed: 0, onConfirmed: undefined };
  return new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.once('close', () => {
      reject(new Error(`${name}: closed`));
      // Later on nobody waits for this promise, and a device that is gone would make every figure wrong.
      if (device.seq > 0) throw new Error(`${name}: the broker closed the connection`);
    });
    const packets = parser();
    packets.on('packet', (packet) => {
      if (packet.cmd === 'connack') {
        if (packet.returnCode !== 0) reject(new Error(`${name}: refused with ${packet.returnCode}`));
        socket.write(
          generate({
            cmd: 'subscribe',
            messageId: 1,
            subscriptions: [{ topic: deviceTopic(name, 'logs/ack'), qos: 0 }],
          }),
        );
      } else if (packet.cmd === 'suback') resolve(device);
      else if (packet.cmd === 'publish') {
        device.confirmed = JSON.parse(packet.payload.toString()).ack.through;
        device.onConfirmed?.();
        device.onConfirmed = undefined;
      }
    });
    socket.on('data', (chunk) => packets.parse(chunk));
    socket.write(
      generate({
        cmd: 'connect',
        clientId: name,
        protocolId: 'MQTT',
        protocolVersion: 4,
        clean: true,
        keepalive: (2 * pingMs) / 1000,
        username: name,
        password: Buffer.from(deviceKey(number)),
      }),
    );
  });
}
