import type { Agent } from 'node:http';
import type { CloudSettings } from './options.ts';

/** How long `disconnect()` waits for acknowledgements. */
export const drainMs = 2000;

/** What a cloud may take for a whole answer, over the acknowledgement timeout. */
export const answerFactor = 3;

/** What a backend knows over all its requests. */
export interface CloudContext {
  settings: CloudSettings;
  agent: Agent;
  counters: {
    requests: number;
    lines: number;
    bytes: number;
    wireBytes: number;
    refused: number;
  };
  mode: 'stream' | 'short';
  /** When streaming is tried again, by `performance.now()`. */
  streamAgainAtMs: number;
  /** This cloud has acknowledged over a stream: silence then is a fault, and not its way. */
  provenStream: boolean;
  /** Streams in a row on which acknowledgements failed to come. */
  silentStreams: number;
}

/** From now on, and for a while, short requests. */
export function fallBack(context: CloudContext, why: string): void {
  const { settings } = context;
  context.mode = 'short';
  context.silentStreams = 0;
  context.streamAgainAtMs = performance.now() + settings.streamRetryMs;
  settings.log.warn(`${settings.shownUrl}: ${why}; sending short requests instead of one long one`);
}
