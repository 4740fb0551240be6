import type { Feed, FreshLane } from '../logging/types.ts';
import { pause, withDeadline } from './pause.ts';

export interface FreshLanesOptions {
  feed: Feed;
  /** Aborted when no more lines are to be read. */
  read: AbortSignal;
  /** Asked before a lane is opened. */
  ready?: () => boolean;
  /** Delivers what the lane gives until `reading` is aborted, and returns when all of it is confirmed, or never will be. */
  deliver: (lane: FreshLane, reading: AbortSignal) => Promise<void>;
}

// A line waits at most this long for the lane that it could take: a session begins with whatever piled up before it.
const firstLooks = 40;
const firstLookMs = 250;
// A feed that keeps up falls behind only where its far end cannot keep up. On an idle device each look is a waking up.
const lookMs = 1000;

/** Serves the fresh lanes of a feed, one after another, beside whoever reads the feed itself. */
export async function serveFreshLanes({ feed, read, ready, deliver }: FreshLanesOptions): Promise<void> {
  if (!feed.fresh) return;
  let looks = 0;
  while (!read.aborted) {
    using lane = ready?.() === false ? undefined : feed.fresh();
    if (!lane) {
      await pause(looks++ < firstLooks ? firstLookMs : lookMs, read);
      continue;
    }
    looks = 0;
    using reading = withDeadline([read, lane.joined], Number.POSITIVE_INFINITY);
    await deliver(lane, reading.signal);
  }
}
