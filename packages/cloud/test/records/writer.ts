// Run as a process of its own: adds devices for as long as it lives, and prints each uuid once it is confirmed.
import pino from 'pino';
import { lockFolder } from '../../src/records/folder-lock.ts';
import { Records } from '../../src/records/records.ts';

const dataDir = process.argv[2] as string;
using _lock = await lockFolder(dataDir);
await using records = await Records.open({ dataDir, log: pino({ level: 'silent' }) });
for (let i = 0; ; i++) {
  const uuid = `${process.pid}-${i}`;
  await records.devices.add({ uuid, name: 'x'.repeat(500), keyHash: '00', createdAtMs: i });
  process.stdout.write(`${uuid}\n`);
}
