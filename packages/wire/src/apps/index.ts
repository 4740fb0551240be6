/*
 * Apps: what a device is to run, as cloud, command and agent read it alike. Not part of the package's root, since an
 * agent without apps has no need to load it.
 */
export * from './canonical.ts';
export { parseCompose } from './compose.ts';
export type { Dependency, Device, Mount, PublishedPort, RestartPolicy } from './fields.ts';
export * from './schema.ts';
export * from './target.ts';
