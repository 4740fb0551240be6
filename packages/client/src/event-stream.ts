import { MillraceError } from '@millrace/wire';

/** One event of a server-sent event stream. */
export interface ServerEvent {
  /** `message` when the server named none. */
  type: string;
  data: string;
}

/** Longest event that is read, in UTF-16 units: a log line is far shorter, so more means that something is wrong. */
const maxEventChars = 4 * 1024 * 1024;

/**
 * Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) from a response's
 * body. Comments are heartbeats and are passed over. An event that the end of the stream cuts off is dropped.
 */
export async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  let type = '';
  let data: string[] = [];
  let dataChars = 0;
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true });
    let start = 0;
    for (let end = rest.indexOf('\n', start); end >= 0; end = rest.indexOf('\n', start)) {
      const line = rest.slice(start, rest[end - 1] === '\r' && end > start ? end - 1 : end);
      start = end + 1;
      if (line === '') {
        if (data.length > 0) yield { type: type || 'message', data: data.join('\n') };
        type = '';
        data = [];
        dataChars = 0;
      } else if (!line.startsWith(':')) {
        const colon = line.indexOf(':');
        const field = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1));
        if (field === 'event') type = value;
        else if (field === 'data') {
          data.push(value);
          dataChars += value.length;
        }
      }
    }
    rest = rest.slice(start);
    if (rest.length + dataChars > maxEventChars) {
      throw new MillraceError('SERVER_UNREACHABLE', 'an event of the log stream never ends');
    }
  }
}
