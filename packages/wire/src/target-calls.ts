/*
 * How a device asks for its target, apart from what a target is (apps/target.ts): an agent that has none loads only
 * this.
 */

/** Header of the answer to a state report: the version of the device's target, if it has one. */
export const targetVersionHeader = 'millrace-target';
/** How often a device asks for its target though nothing told it to, in ms. */
export const targetPollMs = 15 * 60_000;
/** Most bytes of a document, and of a message that holds one. */
export const maxTargetBytes = 4 * 1024 * 1024;

/** Path of the call that gives the document. */
export function targetPath(uuid: string): string {
  return `/device/v3/${encodeURIComponent(uuid)}/state`;
}
