import { flushCompileCache } from 'node:module';
import { startAgent } from '../../../src/main.ts';

/* The agent, as a process of its own that can be killed. */
// Otherwise kept at the end, which no process that is killed comes to: each would compile it all anew.
flushCompileCache();
await startAgent();
