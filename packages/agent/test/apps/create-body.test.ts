import { parseApp } from '@millrace/wire/apps';
import { describe, expect, test } from 'vitest';
import { configOf, createBody } from '../../src/apps/engine/create-body.ts';

const image = { serviceName: 'web', imageName: 'nginx:alpine' };
const appOf = (fields: object) => ({ appId: 1001, services: [{ ...image, ...fields }] });

function bodyOf(fields: object): Record<string, unknown> & { HostConfig: Record<string, unknown> } {
  const [service] = parseApp(appOf(fields)).services;
  if (!service) throw new Error('no service');
  const labels = { appId: 1001, service: 'web', release: 1, config: configOf(service), dependsOn: [] };
  return JSON.parse(JSON.stringify(createBody(service, labels, 'me')));
}

describe('each field becomes what the engine understands', () => {
  test.each([
    [{ command: 'sh -c "echo \'a b\' \\"c\\""' }, { Cmd: ['sh', '-c', 'echo \'a b\' "c"'] }],
    [{ entrypoint: ['/bin/app', '-v'] }, { Entrypoint: ['/bin/app', '-v'] }],
    [{ environment: { A: 1, B: true, C: 'x=y' } }, { Env: ['A=1', 'B=true', 'C=x=y'] }],
    [{ environment: ['A=1=2'] }, { Env: ['A=1=2'] }],
    [
      { labels: { 'millrace.level': 'warn' } },
      { Labels: expect.objectContaining({ 'millrace.level': 'warn' }) },
    ],
    [{ serviceId: 7 }, { Labels: expect.objectContaining({ 'millrace.service-id': '7' }) }],
    [{ workingDir: '/srv' }, { WorkingDir: '/srv' }],
    [{ user: '1000:1000' }, { User: '1000:1000' }],
    [{ hostname: 'till-1' }, { Hostname: 'till-1' }],
    [{ stopSignal: 'SIGINT' }, { StopSignal: 'SIGINT' }],
    [{ stopGracePeriod: '1m30s' }, { StopTimeout: 90 }],
    [{ tty: true }, { Tty: true }],
    [
      { healthcheck: { test: 'wget -q x', interval: '500ms', timeout: '2s', startPeriod: '1m', retries: 2 } },
      {
        Healthcheck: {
          Test: ['CMD-SHELL', 'wget -q x'],
          ...{ Interval: 5e8, Timeout: 2e9, StartPeriod: 6e10, Retries: 2 },
        },
      },
    ],
    [{ healthcheck: { disable: true } }, { Healthcheck: { Test: ['NONE'] } }],
    [{ volumes: ['/cache'] }, { Volumes: { '/cache': {} } }],
    [{ imageName: 'localhost:5000/shop' }, { Image: 'localhost:5000/shop:latest' }],
  ])('%j', (fields, body) => {
    expect(bodyOf(fields)).toMatchObject(body);
  });

  test.each([
    [
      { ports: [80, '127.0.0.1:8080:81/udp', '[::1]:9000:82'] },
      {
        PortBindings: {
          '80/tcp': [{ HostIp: '', HostPort: '' }],
          '81/udp': [{ HostIp: '127.0.0.1', HostPort: '8080' }],
          '82/tcp': [{ HostIp: '::1', HostPort: '9000' }],
        },
      },
    ],
    [{ volumes: ['data:/a', '/etc/x:/b:ro'] }, { Binds: ['1001_data:/a', '/etc/x:/b:ro'] }],
    [{ tmpfs: ['/run'] }, { Tmpfs: { '/run': '' } }],
    [{ networks: ['back'] }, { NetworkMode: '1001_back' }],
    [{}, { NetworkMode: '1001_default', RestartPolicy: { Name: 'unless-stopped' } }],
    [{ networkMode: 'host' }, { NetworkMode: 'host' }],
    [{ restart: 'always' }, { RestartPolicy: { Name: 'unless-stopped' } }],
    [{ restart: 'on-failure:4' }, { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 4 } }],
    [{ restart: 'no' }, { RestartPolicy: { Name: 'no', MaximumRetryCount: 0 } }],
    [
      { devices: ['/dev/ttyUSB0:/dev/modem:rw', '/dev/i2c-1'] },
      {
        Devices: [
          { PathOnHost: '/dev/ttyUSB0', PathInContainer: '/dev/modem', CgroupPermissions: 'rw' },
          { PathOnHost: '/dev/i2c-1', PathInContainer: '/dev/i2c-1', CgroupPermissions: 'rwm' },
        ],
      },
    ],
    [{ privileged: true }, { Privileged: true }],
    [
      { capAdd: ['NET_ADMIN'], capDrop: ['ALL'] },
      { CapAdd: ['NET_ADMIN'], CapDrop: ['ALL'] },
    ],
    [
      { memLimit: '1.5g', memReservation: 1024 },
      { Memory: 1.5 * 1024 ** 3, MemoryReservation: 1024 },
    ],
    [
      { cpus: '0.5', pidsLimit: 50 },
      { NanoCpus: 5e8, PidsLimit: 50 },
    ],
    [{ extraHosts: ['cloud:10.0.0.1'] }, { ExtraHosts: ['cloud:10.0.0.1'] }],
    [
      { init: true, readOnly: true },
      { Init: true, ReadonlyRootfs: true },
    ],
  ])('%j', (fields, hostConfig) => {
    expect(bodyOf(fields).HostConfig).toMatchObject(hostConfig);
  });
});

test('a fingerprint follows what a container is made from, and not the order of its keys or of its start', () => {
  const of = (fields: object) => configOf(parseApp(appOf(fields)).services[0] as never);
  expect(of({ environment: { A: '1', B: '2' } })).toBe(of({ environment: ['B=2', 'A=1'] }));
  expect(of({ cpus: '0.5' })).toBe(of({ cpus: 0.5 }));
  expect(of({ environment: { A: '1' } })).not.toBe(of({ environment: { A: '2' } }));
});
