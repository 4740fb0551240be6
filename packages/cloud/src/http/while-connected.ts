import type { FastifyReply } from 'fastify';

/**
 * Answers with what `run` gives, and aborts its signal when the caller goes away before that: then nobody is answered,
 * and nothing has failed.
 */
export async function whileConnected<T>(
  reply: FastifyReply,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const response = reply.raw;
  const gone = new AbortController();
  const leave = () => gone.abort();
  response.on('close', leave);
  try {
    if (response.destroyed) leave();
    return await run(gone.signal);
  } catch (error) {
    if (gone.signal.aborted) reply.hijack();
    throw error;
  } finally {
    response.off('close', leave);
  }
}
