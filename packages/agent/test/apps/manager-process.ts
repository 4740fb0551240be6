import { flushCompileCache } from 'node:module';
import { pino } from 'pino';
import { Apps } from '../../src/apps/apps.ts';
import { connectEngine } from '../../src/docker/engine.ts';

/* Only the part of the agent that runs apps, as a process of its own that can be killed: node manager-process.ts DIR */
const apps = new Apps({
  docker: connectEngine({ env: process.env }),
  dataDir: process.argv[2] as string,
  owner: 'd1',
  patience: { stableMs: 100, healthyMs: 120_000 },
  log: pino({ level: 'info' }),
});
await apps.start();
// Otherwise kept at the end, which no process that is killed comes to: each would compile it all anew.
flushCompileCache();
