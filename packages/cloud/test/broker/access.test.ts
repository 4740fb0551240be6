import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  isLoopback,
  isOriginAllowed,
  mayPublish,
  mayReceive,
  maySubscribe,
  type Principal,
} from '../../src/broker/access.ts';
import { topicMatches } from '../../src/broker/topic-filter.ts';

const device: Principal = { kind: 'device', uuid: 'd1' };
const admin: Principal = { kind: 'admin' };
const anonymous: Principal = { kind: 'anonymous' };

test.each<[string, boolean, boolean, boolean]>([
  // topic, device d1, admin, anonymous
  ['device/d1/logs', true, false, false],
  ['device/d1/status', true, true, false],
  ['device/d1/logs/ack', false, true, false],
  ['device/d1/target', false, true, false],
  ['device/d1/anything/else', true, true, false],
  ['device/d2/logs', false, false, false],
  ['device/d2/status', false, true, false],
  ['device/d11/logs', false, false, false],
  ['device/D1/logs', false, false, false],
  ['device', false, true, false],
  ['device/', false, true, false],
  ['device//logs', false, true, false],
  ['device/d1', false, true, false],
  ['device/d1/', false, true, false],
  ['/device/d2/logs', true, true, true],
  ['devices/x', true, true, true],
  ['container-manager/logs/1/web/info', true, true, true],
  ['$SYS/x', false, false, false],
  ['$share/g/x', false, false, false],
])('publishing on %s', (topic, byDevice, byAdmin, byAnonymous) => {
  expect(mayPublish(device, topic)).toBe(byDevice);
  expect(mayPublish(admin, topic)).toBe(byAdmin);
  expect(mayPublish(anonymous, topic)).toBe(byAnonymous);
});

test.each<[string, boolean, boolean]>([
  // filter, device d1, anonymous
  ['device/d1/#', true, true],
  ['device/d1/logs/ack', true, true],
  ['device/d1', false, true],
  ['device/+/logs', false, true],
  ['device/#', false, true],
  ['#', false, true],
  ['+/d1/logs', false, true],
  ['device/d2/#', false, true],
  ['device/d11/#', false, true],
  ['container-manager/logs/#', false, true],
  ['$SYS/#', false, false],
  ['$share/g/device/#', false, false],
])('subscribing to %s', (filter, byDevice, byAnonymous) => {
  expect(maySubscribe(device, filter)).toBe(byDevice);
  expect(maySubscribe(anonymous, filter)).toBe(byAnonymous);
  expect(maySubscribe(admin, filter)).toBe(true);
});

test('no topic lets a device write under another one', () => {
  const part = fc.constantFrom('device', 'd1', 'd2', 'logs', '', '+', '#', 'ack', '$SYS', 'D1');
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), (parts) => {
      const topic = parts.join('/');
      const ofOther = topicMatches('device/#', topic) && !topicMatches('device/d1/#', topic);
      if (ofOther) expect(mayPublish(device, topic)).toBe(false);
      if (maySubscribe(device, topic)) expect(topic.startsWith('device/d1/')).toBe(true);
    }),
  );
});

test.each([
  ['127.0.0.1', true],
  ['127.8.9.1', true],
  ['::1', true],
  ['::ffff:127.0.0.1', true],
  ['::ffff:10.0.0.1', false],
  ['10.0.0.1', false],
  ['127.0.0.1.evil.example', false],
  ['', false],
  [undefined, false],
])('%s is loopback: %s', (address, expected) => {
  expect(isLoopback(address)).toBe(expected);
});

test.each([
  [undefined, true],
  ['http://localhost:5173', true],
  ['https://localhost', true],
  ['http://127.0.0.1:8080', true],
  ['http://[::1]:3000', true],
  ['https://logs.example.com', true],
  ['https://logs.example.com:444', false],
  ['https://evil.example', false],
  ['http://localhost.evil.example', false],
  ['http://127.0.0.1.evil.example', false],
  ['null', false],
  ['file://', false],
  ['', false],
  ['chrome-extension://localhost', false],
])('the origin %s is allowed: %s', (origin, expected) => {
  expect(isOriginAllowed(origin, ['https://logs.example.com'])).toBe(expected);
});

test('a star allows all origins', () => {
  expect(isOriginAllowed('https://anywhere.example', ['*'])).toBe(true);
});

test.each([
  ['a/+/c', 'a/b/c', true],
  ['a/+', 'a/b/c', false],
  ['a/#', 'a', true],
  ['a/#', 'a/b/c', true],
  ['#', 'a/b', true],
  ['#', '$SYS/a', false],
  ['+/a', '$SYS/a', false],
  ['$SYS/#', '$SYS/a', true],
  ['a/+/c', 'a//c', true],
  ['a', 'ab', false],
  ['a/b', 'a', false],
])('%s matches %s: %s', (filter, topic, expected) => {
  expect(topicMatches(filter, topic)).toBe(expected);
});

test.each<[string, boolean, boolean, boolean]>([
  ['device/d1/target', true, true, false],
  ['device/d2/target', false, true, false],
  ['device/d1/status', true, true, true],
  ['device/d1/target/x', true, true, true],
])('receiving %s, by whatever filter', (topic, byDevice, byAdmin, byAnonymous) => {
  expect(mayReceive(device, topic)).toBe(byDevice);
  expect(mayReceive(admin, topic)).toBe(byAdmin);
  expect(mayReceive(anonymous, topic)).toBe(byAnonymous);
  expect(mayReceive(undefined, 'device/d1/target')).toBe(false);
});
