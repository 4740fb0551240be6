import { startAgent } from '../../../src/main.ts';

/* The agent, as a process of its own that can be killed. */
await startAgent();
