import {
  BatchDecoder,
  decodePart,
  encodeHeader,
  encodeLine,
  normaliseMessage,
  serviceTopic,
} from '../../src/index.ts';

/** Does the same with the contract in Node and in a browser, and gives everything it made as JSON. */
export function exercise(): string {
  const inputs = [
    { message: 'plain', timestamp: 1 },
    {
      message: 'lone \ud800, NUL \0, 😀 and "quotes"\n',
      timestamp: 2,
      serviceName: 'a/b+c#\udc00',
      isStdErr: true,
    },
    { message: 'x'.repeat(200_000), timestamp: 3, fields: { a: { b: [1, 'ü'] } } },
  ];
  const lines = inputs.map(encodeLine);
  const header = encodeHeader({ journal: 'abcdefgh', first: 9, count: 3, levels: [0, 2, 0, 1], sealed: 4 });
  const stream = new TextEncoder().encode(`${header}${lines.join('\n')}\n`);
  const decoder = new BatchDecoder();
  const messages = [];
  for (let at = 0; at < stream.length; at += 1000) {
    for (const part of decoder.push(stream.subarray(at, at + 1000))) messages.push(...decodePart(part));
  }
  const strange = normaliseMessage({ msg: '\ud800', level: 'WARNING', ts: '2023-10-01T20:00:00Z' }, 5);
  return JSON.stringify({ lines, messages, topics: messages.map((m) => serviceTopic('base', m)), strange });
}
