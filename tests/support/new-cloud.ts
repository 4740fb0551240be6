// Run as a process of its own: makes both embedded databases in a folder, as the first start of a cloud does.
import { join } from 'node:path';
import { pino } from 'pino';
import { Records } from '../../packages/cloud/src/records/records.ts';
import { openStore } from '../../packages/cloud/src/store/index.ts';
import { copyEmptyRecords } from './records-template.ts';

const dataDir = process.argv[2] as string;
const log = pino({ level: 'warn' }, process.stderr);
await copyEmptyRecords(dataDir);
await (await Records.open({ dataDir, log }))[Symbol.asyncDispose]();
await (await openStore({ dataDir: join(dataDir, 'store'), log })).close();
// What the engine keeps running is of no more use.
process.exit(0);
