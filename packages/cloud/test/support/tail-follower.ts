/** What came over a tail since it was opened. */
export interface TailFollower {
  /** Messages of the lines, in the order of their arrival. */
  messages: string[];
  /** The cloud ended it. */
  ended: boolean;
  stop(): void;
}

/** Follows the tail of a cloud, as the holder of a token. */
export async function followTail(url: string, query: string, token: string): Promise<TailFollower> {
  const stopping = new AbortController();
  const response = await fetch(`${url}/api/v1/logs/tail?${query}`, {
    headers: { authorization: `Bearer ${token}` },
    signal: stopping.signal,
  });
  const state: TailFollower = { messages: [], ended: false, stop: () => stopping.abort() };
  (async () => {
    let rest = '';
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      const parts = (rest + Buffer.from(chunk).toString()).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) {
        if (line.startsWith('data: ')) state.messages.push(JSON.parse(line.slice(6)).message);
      }
    }
    state.ended = true;
  })().catch(() => undefined);
  return state;
}
