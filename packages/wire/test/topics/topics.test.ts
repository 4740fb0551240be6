import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  completeMessage,
  deviceTopic,
  type ErrorCode,
  levels,
  limits,
  MillraceError,
  parseDeviceTopic,
  parseServiceTopic,
  serviceTopic,
  topicLayout,
  topicLevel,
} from '../../src/index.ts';
import { hostileText, logInputs } from '../messages/arbitraries.ts';

/** What every broker we name accepts in a topic that is published to. */
function expectPublishable(topic: string): void {
  expect(topic).not.toMatch(/[+#\0]/);
  expect(topic.isWellFormed()).toBe(true);
  expect(topic.split('/')).not.toContain('');
  expect(topic.split('/').length - 1).toBeLessThanOrEqual(limits.maxTopicSlashes);
}

test('a topic level is never empty, never splits and never matches more than itself', () => {
  fc.assert(
    fc.property(fc.oneof(hostileText, fc.integer()), (value) => {
      const level = topicLevel(value);
      expect(level).not.toMatch(/[/+#]/);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
      expect(level).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
      expect(level.isWellFormed()).toBe(true);
      expect(level.length).toBeGreaterThan(0);
      expect(level.length).toBeLessThanOrEqual(limits.maxTopicLevelChars);
      expect(topicLevel(level)).toBe(level);
    }),
    { numRuns: 1000 },
  );
});

test('an emoji across the length limit is not cut in half', () => {
  const level = topicLevel(`${'x'.repeat(limits.maxTopicLevelChars - 1)}😀`);
  expect(level).toBe(`${'x'.repeat(limits.maxTopicLevelChars - 1)}_`);
});

test('a service topic says where its line came from, hostile names included', () => {
  const bases = fc.constantFrom(
    'container-manager/logs',
    'a',
    'a/b/c/d',
    'device',
    'system/manager',
    '$share/x',
  );
  fc.assert(
    fc.property(logInputs, bases, fc.boolean(), (input, base, batch) => {
      const line = completeMessage(input);
      const topic = serviceTopic(base, line);
      expectPublishable(topic);
      const parsed = parseServiceTopic(base, batch ? `${topic}/batch` : topic);
      const { type } = line.source;
      if (type === 'manager') expect(parsed).toEqual({ source: 'manager', level: line.level, batch });
      else if (type === 'system' || line.isSystem) {
        expect(parsed).toEqual({ source: 'system', level: line.level, batch });
      } else {
        expect(parsed).toEqual({
          source: 'container',
          appId: topicLevel(line.appId ?? line.serviceId ?? 0),
          serviceName: topicLevel(line.serviceName ?? line.source.name),
          level: line.level,
          batch,
        });
      }
    }),
    { numRuns: 1000 },
  );
});

test('the topics of the documentation', () => {
  const topicOf = (line: Parameters<typeof completeMessage>[0]) =>
    serviceTopic('container-manager/logs', completeMessage(line));
  expect(topicOf({ serviceName: 'web', serviceId: 1001 })).toBe('container-manager/logs/1001/web/info');
  expect(topicOf({ serviceName: 'web', appId: 7, isStdErr: true })).toBe(
    'container-manager/logs/7/web/error',
  );
  expect(topicOf({ isSystem: true })).toBe('container-manager/logs/system/info');
  expect(topicOf({ source: { type: 'manager', name: 'agent' }, level: 'error' })).toBe(
    'container-manager/logs/manager/error',
  );
});

test.each([
  'container-manager/logs',
  'container-manager/logs/',
  'container-manager/logs/1/web',
  'container-manager/logs/1/web/loud',
  'container-manager/logs/1/web/x/info',
  'container-manager/logs/web/info',
  'container-manager/logs//web/info',
  'container-manager/logs/batch',
  'container-manager/logs/info/batch/batch',
  'container-manager/logsX/1/web/info',
  'other/1/web/info',
  '',
])('"%s" is none of our service topics', (topic) => {
  expect(parseServiceTopic('container-manager/logs', topic)).toBeUndefined();
});

test('device topics both ways', () => {
  const uuids = fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/);
  fc.assert(
    fc.property(uuids, fc.constantFrom('logs', 'logs/ack', 'status', 'target'), (uuid, channel) => {
      const topic = deviceTopic(uuid, channel);
      expectPublishable(topic);
      expect(parseDeviceTopic(topic)).toEqual({ uuid, channel });
    }),
  );
  fc.assert(
    fc.property(hostileText, (uuid) => {
      const topic = deviceTopic(uuid, 'logs');
      expectPublishable(topic);
      expect(parseDeviceTopic(topic)).toEqual({ uuid: topicLevel(uuid), channel: 'logs' });
    }),
  );
  for (const topic of [
    'device',
    'device/',
    'device//logs',
    'device/x',
    'device/x/',
    'xdevice/a/logs',
    'device/+/logs',
    '',
  ]) {
    expect(parseDeviceTopic(topic)).toBeUndefined();
  }
});

describe('the layout that a base asks for', () => {
  test.each([
    ['container-manager/logs', { kind: 'service', base: 'container-manager/logs' }],
    ['container-manager/logs/', { kind: 'service', base: 'container-manager/logs' }],
    ['a/b/c/d', { kind: 'service', base: 'a/b/c/d' }],
    ['device/logs', { kind: 'device', logs: 'device/u-1/logs', ack: 'device/u-1/logs/ack' }],
    ['device/{uuid}/logs', { kind: 'device', logs: 'device/u-1/logs', ack: 'device/u-1/logs/ack' }],
    ['fleet/{uuid}', { kind: 'device', logs: 'fleet/u-1', ack: 'fleet/u-1/ack' }],
  ])('%s', (base, layout) => {
    expect(topicLayout(base, 'u-1')).toEqual(layout);
  });

  test.each(['', '/', '/logs', 'a//b', 'a/+/b', 'logs/#', 'a\0b', 'a/b/c/d/e', 'device/{uuid}/a/b/c/d/e/f'])(
    '"%s" is refused with what is allowed',
    (base) => {
      try {
        topicLayout(base, 'u-1');
        expect.unreachable();
      } catch (error) {
        expect(error).toBeInstanceOf(MillraceError);
        expect((error as MillraceError).code).toBe('TOPIC_INVALID' satisfies ErrorCode);
        expect((error as MillraceError).message).toContain(
          JSON.stringify(base).slice(1, -1).replace('\\u0000', '\0'),
        );
        expect((error as MillraceError).action).toContain('container-manager/logs');
      }
    },
  );

  test('either refuses a base or gives topics that every broker takes', () => {
    const line = completeMessage({ message: '', appId: 'a', serviceName: 'b' });
    fc.assert(
      fc.property(
        fc.oneof(hostileText, fc.stringMatching(/^[a{}uid/]{0,20}$/)),
        hostileText,
        (base, uuid) => {
          let layout: ReturnType<typeof topicLayout>;
          try {
            layout = topicLayout(base, uuid);
          } catch (error) {
            expect((error as MillraceError).code).toBe('TOPIC_INVALID');
            return;
          }
          const topics =
            layout.kind === 'device'
              ? [layout.logs, layout.ack]
              : levels.map((level) => `${serviceTopic(layout.base, { ...line, level })}/batch`);
          for (const topic of topics) expectPublishable(topic);
        },
      ),
      { numRuns: 1000 },
    );
  });
});
