import { copyFile, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type Docker from 'dockerode';
import { outputOf, streamOf } from './docker-processes.ts';
import { tempDir } from './tmp.ts';

export const nodeImage = 'millrace-test/node';

/** This Node with the libraries that it and others are linked to, and nothing else: no registry is asked for an image. */
export async function importNode(docker: Docker, others: readonly string[] = []): Promise<void> {
  await using dir = await tempDir();
  const libraries = new Set<string>();
  for (const program of [process.execPath, ...others]) {
    const linked = await outputOf('ldd', [program]);
    for (const [, path] of linked.matchAll(/(\/\S+\.so[.\d]*)/g)) libraries.add(path as string);
  }
  for (const [from, to] of [
    [process.execPath, '/usr/bin/node'],
    ...[...libraries].map((path) => [path, path]),
  ] as [string, string][]) {
    await mkdir(join(dir.path, dirname(to)), { recursive: true });
    await copyFile(from, join(dir.path, to));
  }
  const tar = streamOf('tar', ['-C', dir.path, '-c', '.']);
  const options = { repo: nodeImage, tag: 'latest', changes: 'ENV PATH=/usr/bin' };
  const progress = await docker.importImage(tar, options);
  await new Promise<void>((resolve, reject) =>
    docker.modem.followProgress(progress, (error: Error | null) => (error ? reject(error) : resolve())),
  );
}
