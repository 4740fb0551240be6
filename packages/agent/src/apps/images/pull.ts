import type { EngineApi } from '../../docker/api.ts';
import type { RegistryLogin } from './registry-logins.ts';

// A registry is asked before the first word of progress; a slow link may then be silent for a while.
const beginTimeoutMs = 180_000;
const silenceMs = 300_000;
const maxLineBytes = 1024 * 1024;

interface Progress {
  id?: string;
  status?: string;
  progressDetail?: { current?: number; total?: number };
  error?: string;
}

/** The engine could not pull; the message is the registry's or its own. */
export class PullFailure extends Error {}

export interface PullOptions {
  image: string;
  login: RegistryLogin | undefined;
  onProgress: (percent: number) => void;
}

/**
 * Pulls an image and tells how far it is, in percent of what is known so far of its layers.
 *
 * @throws PullFailure
 */
export async function pullImage(
  api: EngineApi,
  { image, login, onProgress }: PullOptions,
  signal: AbortSignal,
): Promise<void> {
  const [, fromImage = image, tag] =
    /^(.*?)(?:@(sha256:[0-9a-f]{64}))$/.exec(image) ?? /^(.*):([^/:]+)$/.exec(image) ?? [];
  const silent = new AbortController();
  const timer = setTimeout(
    () => silent.abort(new PullFailure(`no progress in ${silenceMs / 1000} s`)),
    silenceMs,
  );
  const either = AbortSignal.any([signal, silent.signal]);
  const layers = new Map<string, { done: number; total: number }>();
  try {
    const query = { fromImage, tag };
    const request = {
      method: 'POST',
      path: '/images/create',
      query,
      registryLogin: login,
      answerTimeoutMs: beginTimeoutMs,
    } as const;
    const response = await api.send(request, either);
    for await (const line of linesOf(response as AsyncIterable<Buffer>)) {
      timer.refresh();
      const progress = JSON.parse(line) as Progress;
      if (progress.error !== undefined) throw new PullFailure(progress.error);
      if (count(layers, progress)) onProgress(percentOf(layers));
    }
  } catch (error) {
    throw silent.signal.aborted ? silent.signal.reason : error;
  } finally {
    clearTimeout(timer);
  }
}

/** Downloading is taken for nine tenths of a layer, unpacking for the rest. */
function count(layers: Map<string, { done: number; total: number }>, progress: Progress): boolean {
  const { id, status, progressDetail: { current = 0, total = 0 } = {} } = progress;
  if (id === undefined || status === undefined) return false;
  const layer = layers.get(id) ?? { done: 0, total: 1 };
  if (status === 'Downloading' && total > 0) layers.set(id, { done: 0.9 * current, total });
  else if (status === 'Extracting' && total > 0)
    layers.set(id, { done: (0.9 + (0.1 * current) / total) * total, total });
  else if (status === 'Download complete')
    layers.set(id, { ...layer, done: Math.max(layer.done, 0.9 * layer.total) });
  else if (status === 'Pull complete' || status === 'Already exists')
    layers.set(id, { ...layer, done: layer.total });
  else if (status === 'Pulling fs layer') layers.set(id, layer);
  else return false;
  return true;
}

function percentOf(layers: ReadonlyMap<string, { done: number; total: number }>): number {
  let done = 0;
  let total = 0;
  for (const layer of layers.values()) {
    done += layer.done;
    total += layer.total;
  }
  return Math.min(100, Math.floor((100 * done) / Math.max(1, total)));
}

async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of chunks) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > maxLineBytes) throw new PullFailure(`a line is longer than ${maxLineBytes} bytes`);
    for (const line of lines) if (line.trim() !== '') yield line;
  }
  if (rest.trim() !== '') yield rest;
}
