import type { ContainerLabels } from './labels.ts';

/** A container of ours, as the engine shows it. */
export interface OwnedContainer extends ContainerLabels {
  id: string;
  name: string;
  state: 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';
  /** Only of one that has a health check. */
  health?: 'starting' | 'healthy' | 'unhealthy';
  exitCode: number;
  /** How often the engine has started it again. */
  restarts: number;
  isOutOfMemory: boolean;
  /** How long it has been running without an end, as long as this process has been watching. */
  runningMs: number;
  networks: string[];
}

/** What the engine has, as far as the apps are concerned. */
export interface Observed {
  /** All of ours, of every app. */
  containers: readonly OwnedContainer[];
  /** Of the images that were asked for, those that are there, with their ids. */
  images: ReadonlyMap<string, string>;
  /** Names of all networks and volumes, and whose app's they are if they are ours. */
  networks: ReadonlyMap<string, number | undefined>;
  volumes: ReadonlyMap<string, number | undefined>;
}

/** Its process is alive, or the engine is about to start it again. */
export function isUp({ state }: OwnedContainer): boolean {
  return state === 'running' || state === 'restarting' || state === 'paused';
}
