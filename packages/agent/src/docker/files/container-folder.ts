import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type LogConfig, rotationBytes } from '../rotation.ts';
import type { ContainerIdentity } from '../services.ts';

/** What the engine keeps beside a container's log. */
export interface ContainerFolder {
  /** Absent when the engine's file cannot be read. */
  identity: ContainerIdentity | undefined;
  /** In ms since 1970; `undefined` where that is not known. */
  createdMs: number | undefined;
  isTerminal: boolean;
  /** How soon a log that is being written to must be looked at again, lest a whole file come and go in between. */
  lookAgainMs: number;
  rotation: EngineRotation | undefined;
}

/** How the engine rotates a log, where it does. */
export interface EngineRotation {
  /** The size that a file has reached, and does not exceed by more than an entry, when the next is begun. */
  fileBytes: number;
  /** How many are kept; with 1 the file is cut. */
  maxFiles: number;
  isCompressed: boolean;
}

/** Twice what an engine was seen to write into one log. */
const maxBytesPerMs = 40_000;

/** For so long a thread that also collects garbage and compresses may not look at a log. */
const longestStallMs = 100;

/** Whether files of the log may come and go while nobody looks who does anything else. */
export function needsHolder({ lookAgainMs, rotation }: ContainerFolder): boolean {
  // Of a file that is cut nothing can be held.
  return lookAgainMs < longestStallMs && rotation !== undefined && rotation.maxFiles > 1;
}

/** Reads `config.v2.json` and `hostconfig.json` of a container's folder; what is missing has defaults. */
export function lookInto(folder: string): ContainerFolder {
  const config = objectIn(join(folder, 'config.v2.json'));
  const host = objectIn(join(folder, 'hostconfig.json'));
  const settings = objectOf(config?.Config);
  const logConfig = objectOf(host?.LogConfig) as LogConfig | undefined;
  const name = config?.Name;
  const rotation = rotationOf(logConfig);
  const createdMs = Date.parse(String(config?.Created));
  return {
    identity:
      typeof name === 'string'
        ? {
            id: basename(folder),
            name: name.replace(/^\//, ''),
            labels: (objectOf(settings?.Labels) ?? {}) as Record<string, string>,
          }
        : undefined,
    createdMs: Number.isNaN(createdMs) ? undefined : createdMs,
    isTerminal: settings?.Tty === true,
    // What can be written behind a file before the next one is gone.
    lookAgainMs: rotation
      ? (rotation.fileBytes * rotation.maxFiles) / maxBytesPerMs
      : Number.POSITIVE_INFINITY,
    rotation,
  };
}

function rotationOf(logConfig: LogConfig | undefined): EngineRotation | undefined {
  const fileBytes = logConfig?.Type === 'json-file' ? rotationBytes(logConfig) : undefined;
  if (fileBytes === undefined) return undefined;
  const { 'max-file': maxFile, compress } = logConfig?.Config ?? {};
  return { fileBytes, maxFiles: Math.max(1, Number(maxFile) || 1), isCompressed: compress === 'true' };
}

function objectIn(path: string): Record<string, unknown> | undefined {
  try {
    return objectOf(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    // Gone, or not readable: it only adds to what the engine's API tells.
    return undefined;
  }
}

function objectOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}
