import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import * as z from 'zod';
import { describeSettings, MillraceError, readSettings, type Setting } from '../../src/index.ts';

const settings = {
  port: {
    env: 'CLOUD_PORT',
    schema: z.coerce.number().int().min(1).max(65535).default(8080),
    defaultText: '8080',
    help: 'Where the cloud listens.',
  } satisfies Setting<number>,
  mode: {
    env: 'MODE',
    schema: z.enum(['fast', 'slow']).default('fast'),
    defaultText: 'fast',
    help: 'How.',
  } satisfies Setting<'fast' | 'slow'>,
  key: {
    env: 'API_KEY',
    schema: z.string().min(16, 'must have at least 16 characters').optional(),
    help: 'The key.',
    secret: true,
  } satisfies Setting<string | undefined>,
  broker: {
    env: 'MQTT_BROKER',
    schema: z
      .string()
      .regex(/^mqtts?:\/\//, 'must begin with mqtt:// or mqtts://')
      .optional(),
    help: 'The broker.',
  } satisfies Setting<string | undefined>,
};

function messageOf(env: Record<string, string>): string {
  try {
    readSettings(settings, env);
  } catch (error) {
    expect(error).toBeInstanceOf(MillraceError);
    expect((error as MillraceError).code).toBe('CONFIG_INVALID');
    return (error as MillraceError).message;
  }
  return expect.unreachable('no error');
}

test('unset and empty variables take their defaults', () => {
  expect(readSettings(settings, { MODE: '', CLOUD_PORT: '' })).toEqual({ port: 8080, mode: 'fast' });
});

test('values are read in their types, and the rest of the environment is left alone', () => {
  expect(
    readSettings(settings, { CLOUD_PORT: '81', MODE: 'slow', OTHER: 'x', API_KEY: 'k'.repeat(16) }),
  ).toEqual({
    port: 81,
    mode: 'slow',
    key: 'k'.repeat(16),
  });
});

test('an error names every wrong variable, its value and what is allowed', () => {
  const message = messageOf({ CLOUD_PORT: '70000', MODE: 'medium', MQTT_BROKER: 'broker:1883' });
  for (const part of [
    'CLOUD_PORT="70000"',
    '65535',
    'MODE="medium"',
    '"fast"',
    'MQTT_BROKER="broker:1883"',
    'mqtt://',
  ]) {
    expect(message).toContain(part);
  }
});

test('a secret is never shown', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[!-~]{6,15}$/), (secret) => {
      // Ordinary words of the message may well occur in a random text of a few letters, but not one this long.
      expect(messageOf({ API_KEY: secret })).not.toContain(secret);
      expect(messageOf({ API_KEY: secret })).toContain('API_KEY');
    }),
  );
});

test('not even when its schema repeats it', () => {
  const schema = z.string().refine(() => false, { error: ({ input }) => `"${input}" is too simple` });
  const read = () =>
    readSettings({ key: { env: 'KEY', schema, help: '', secret: true } }, { KEY: 'hunter2' });
  expect(read).toThrow('KEY: "***" is too simple');
});

test('neither are credentials inside a URL', () => {
  const message = messageOf({ MQTT_BROKER: 'amqp://admin:hunter2@broker:1883' });
  expect(message).toContain('MQTT_BROKER="amqp://***@broker:1883"');
  expect(message).not.toContain('hunter2');
  expect(messageOf({ MQTT_BROKER: 'amqp://a:p@ss/w@broker' })).not.toMatch(/p@ss|ss\/w/);
});

test('a long or many-lined value does not flood the message', () => {
  const message = messageOf({ MODE: `a\nb${'x'.repeat(10_000)}` });
  expect(message.length).toBeLessThan(600);
  expect(message).not.toContain('\n');
});

test('the table for --help and the documentation has every setting', () => {
  expect(describeSettings(settings)).toEqual([
    { env: 'CLOUD_PORT', default: '8080', help: 'Where the cloud listens.' },
    { env: 'MODE', default: 'fast', help: 'How.' },
    { env: 'API_KEY', default: '', help: 'The key.' },
    { env: 'MQTT_BROKER', default: '', help: 'The broker.' },
  ]);
});
