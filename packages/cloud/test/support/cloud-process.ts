// Run as a process of its own: a cloud by the environment, which prints its URL as soon as it is up.
import pino from 'pino';
import { startCloud } from '../../src/index.ts';

const cloud = await startCloud({ log: pino({ level: 'silent' }) });
process.stdout.write(`${cloud.url}\n`);
