import { createServer, request, type Server } from 'node:http';
import { pipeline } from 'node:stream';

/**
 * When a process is to die: while the engine works on its next request that changes something, or when that is done but
 * the process has not heard of it.
 */
export type DeathAt = 'during' | 'after';

export interface EngineGate extends AsyncDisposable {
  readonly socketPath: string;
  /** Holds for the process that starts now. `kill` is called at that moment; nothing more is let through. */
  arm(at: DeathAt, kill: () => void): void;
  /** What has been asked for so far, as `POST /containers/create`. */
  readonly changes: readonly string[];
}

/** A Docker engine's socket with a guard in front who knows which requests change something. */
export async function openGate(engineSocket: string, socketPath: string): Promise<EngineGate> {
  const changes: string[] = [];
  /** The one process that may ask. */
  let life = { at: 'after' as DeathAt, kill: () => {}, isOver: false };
  const server: Server = createServer((incoming, outgoing) => {
    const mine = life;
    if (mine.isOver) return;
    const die = () => {
      if (!mine.isOver) mine.kill();
      mine.isOver = true;
    };
    const isChange = incoming.method !== 'GET';
    if (isChange) changes.push(`${incoming.method} ${incoming.url?.replace(/[0-9a-f]{64}|\?.*/g, '')}`);
    const { method, url: path, headers } = incoming;
    const forwarded = request({ socketPath: engineSocket, method, path, headers }, (answer) => {
      if (isChange || outgoing.destroyed) {
        answer.resume();
        if (isChange) answer.once('end', die);
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      outgoing.flushHeaders();
      pipeline(answer, outgoing, () => forwarded.destroy());
    });
    forwarded.on('error', () => outgoing.destroy());
    // As the engine would see it: whoever asked hangs up.
    if (mine.at === 'during') outgoing.once('close', () => forwarded.destroy());
    pipeline(incoming, forwarded, () => {
      if (isChange && mine.at === 'during') die();
    });
  });
  await new Promise<void>((done) => server.listen(socketPath, done));
  return {
    socketPath,
    changes,
    arm(at, kill) {
      life = { at, kill, isOver: false };
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}
