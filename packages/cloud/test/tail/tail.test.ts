import { get as httpGet, type IncomingMessage } from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { unlimited } from '../../src/query/index.ts';
import { deviceMatches, lineMatcher } from '../../src/tail/filter.ts';
import { adminToken, type Line, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { batch, StreamClient } from '../support/stream-client.ts';

let cloud: TestCloud;
const keys = new Map<string, string>();

beforeAll(async () => {
  cloud = await startTestCloud({ tuning: { tailHeartbeatMs: 50, tailMaxWaitingBytes: 64 * 1024 } });
  for (const uuid of ['one', 'two']) keys.set(uuid, await cloud.register(uuid));
});
afterAll(() => cloud[Symbol.asyncDispose]());

const open = (uuid: string) => new StreamClient({ url: cloud.url, uuid, key: keys.get(uuid), acks: true });

/** A watcher, whose events are taken apart by the letter of the specification. */
class Watcher implements Disposable {
  response: IncomingMessage | undefined;
  ended = false;
  text = '';
  readonly #request;

  constructor(query = '') {
    this.#request = httpGet(
      `${cloud.url}/api/v1/logs/tail?${query}`,
      { headers: { authorization: `Bearer ${adminToken}` }, agent: false },
      (response) => {
        this.response = response;
        response.setEncoding('utf8').on('data', (text: string) => {
          this.text += text;
        });
        response.on('close', () => {
          this.ended = true;
        });
      },
    );
    this.#request.on('error', () => undefined);
  }

  get events(): { event: string; id?: string; data: unknown }[] {
    const blocks = this.text.split('\n\n').slice(0, -1);
    return blocks
      .filter((block) => !block.startsWith(':'))
      .map((block) => {
        const fields = Object.fromEntries(
          block.split('\n').map((line) => line.split(/: (.*)/s) as [string, string]),
        );
        return { event: fields.event as string, id: fields.id, data: JSON.parse(fields.data as string) };
      });
  }

  get lines(): Line[] {
    return this.events.filter(({ event }) => event === 'log').map(({ data }) => data as Line);
  }

  get skipped(): number {
    const counts = this.events.filter(({ event }) => event === 'skipped');
    return counts.reduce((sum, { data }) => sum + (data as { count: number }).count, 0);
  }

  ready(): Promise<unknown> {
    return until(() => this.text.startsWith(': tail\n\n'), { what: 'the tail to stand' });
  }

  [Symbol.dispose](): void {
    this.#request.destroy();
  }
}

test('a watcher sees lines as they come, and just those that it asked for', async () => {
  using all = new Watcher();
  using one = new Watcher('device=one&level=error&text=BOOM');
  await Promise.all([all.ready(), one.ready()]);
  expect(all.response?.headers['content-type']).toBe('text/event-stream; charset=utf-8');
  using first = open('one');
  using second = open('two');
  first.send(batch('journal01', 1, 2));
  second.send(batch('journal02', 1, 2, 'boom'));
  first.send('{"message":"Boom 3","isStdErr":true,"serviceName":"db","timestamp":1700000000009}\n');
  await until(() => all.lines.length >= 5 && one.lines.length >= 1, { what: 'all lines to be seen' });
  expect(one.lines.map(({ device, message, level }) => [device, message, level])).toEqual([
    ['one', 'Boom 3', 'error'],
  ]);
  expect(all.lines.filter(({ device }) => device === 'one').map(({ message }) => message)).toEqual([
    'line 1',
    'line 2',
    'Boom 3',
  ]);
  expect(all.events[0]).toMatchObject({ event: 'log', id: expect.stringMatching(/^journal0[12]-1$/) });
  // What a watcher sees is what a search finds a moment later.
  const [found] = await cloud.lines('two', 1);
  expect(all.lines.find(({ id }) => id === found?.id)).toEqual(found);
});

test('a watcher may ask in the query language, as a search does', async () => {
  const query = encodeURIComponent('device:one (status:>=500 OR "timed out") -level:debug');
  using watcher = new Watcher(`query=${query}`);
  await watcher.ready();
  using first = open('one');
  using second = open('two');
  const messages = ['{"status":503}', '{"status":200}', 'it Timed Out', 'status=500 x=y', 'all is well'];
  const lines = messages.map((message) => ({ message, timestamp: 1_700_000_000_100, containerId: 'asked' }));
  const body = [...lines, { ...lines[0], level: 'debug' }]
    .map((line) => `${JSON.stringify(line)}\n`)
    .join('');
  second.send(body);
  first.send(body);
  await until(() => watcher.lines.length >= 3, { what: 'the lines asked for' });
  const found = async () =>
    (await cloud.search(`query=${query}%20container:asked&order=asc`)).map(({ id }) => id);
  await until(async () => (await found()).length >= 3, { what: 'the same lines to be stored' });
  expect(watcher.lines.map(({ id }) => id)).toEqual(await found());
  expect(watcher.lines.map(({ message }) => message)).toEqual([
    '{"status":503}',
    'it Timed Out',
    'status=500 x=y',
  ]);
});

test('a line that is sent again is not seen again', async () => {
  using all = new Watcher('device=two');
  await all.ready();
  using stream = open('two');
  stream.send(batch('journal03', 1, 3));
  await stream.acked(3);
  stream.send(batch('journal03', 1, 3));
  stream.send(batch('journal03', 4, 1));
  await until(() => all.lines.length >= 4, { what: 'the last line' });
  expect(all.lines.map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
});

test('text that looks like the protocol stays text', async () => {
  using all = new Watcher('device=one');
  await all.ready();
  using stream = open('one');
  const message = 'a\n\nevent: log\ndata: {"message":"forged"}\n\nb\r\u2028';
  stream.send(`${JSON.stringify({ message, id: 'x\n\ndata: y', serviceName: 'a\nb' })}\n`);
  await until(() => all.events.length > 0, { what: 'the line' });
  expect(all.events).toHaveLength(1);
  expect(all.lines[0]).toMatchObject({ message, serviceName: 'a\nb' });
});

test('a quiet tail gets a heartbeat', async () => {
  using quiet = new Watcher('device=nobody');
  await quiet.ready();
  await until(() => quiet.text.includes(': ping\n\n'), { what: 'a heartbeat' });
  expect(quiet.events).toEqual([]);
});

test('a slow watcher misses lines, is told how many, and delays nobody', async () => {
  using slow = new Watcher('device=two&text=flood');
  using quick = new Watcher('device=two&text=flood');
  await Promise.all([slow.ready(), quick.ready()]);
  slow.response?.pause();
  using stream = open('two');
  const count = 60_000;
  for (let first = 1; first <= count; first += 1000) {
    stream.send(batch('journal04', first, 1000, `flood ${'x'.repeat(150)}`));
  }
  await stream.acked(count);
  await until(() => quick.lines.length + quick.skipped >= count, { what: 'the quick one to be through' });
  slow.response?.resume();
  await until(() => slow.skipped > 0, { what: 'the slow one to be told' });
  await until(() => slow.lines.length + slow.skipped >= count, { what: 'the slow one to be through' });
  expect(slow.lines.length + slow.skipped).toBe(count);
  expect(slow.skipped).toBeGreaterThan(10_000);
}, 60_000);

test.each(['levl=error', 'level=loud', 'since=1h'])(
  'the query %s is refused before anything is streamed',
  async (query) => {
    const response = await cloud.get(`/api/v1/logs/tail?${query}`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'PARAMETER_INVALID' });
  },
);

test('a stop ends all tails in order', async () => {
  using watcher = new Watcher();
  await watcher.ready();
  await cloud.restart();
  await until(() => watcher.ended, { what: 'the tail to end' });
  expect(watcher.response?.complete).toBe(true);
});

test('a filter with nothing in it lets everything through', () => {
  const line = {
    id: '',
    message: '',
    timestamp: 0,
    level: 'info',
    source: { type: 'container', name: '' },
    isStdErr: false,
    isSystem: false,
    device: 'dev',
    receivedAt: 0,
  } as const;
  const scope = unlimited;
  expect(lineMatcher({ scope })(line)).toBe(true);
  expect(lineMatcher({ scope, words: [''] })(line)).toBe(true);
  expect(lineMatcher({ scope, levels: [] })(line)).toBe(false);
  expect(lineMatcher({ scope, service: '' })(line)).toBe(true);
  expect(lineMatcher({ scope, service: 'x' })(line)).toBe(false);
});

test('a watcher is told of the devices of its scope alone, whatever it asks for', () => {
  const scope = { devices: new Set(['mine']) };
  expect(deviceMatches({ scope }, 'mine')).toBe(true);
  expect(deviceMatches({ scope }, 'theirs')).toBe(false);
  expect(deviceMatches({ scope, device: 'theirs' }, 'theirs')).toBe(false);
  expect(deviceMatches({ scope: unlimited, device: 'theirs' }, 'mine')).toBe(false);
});
