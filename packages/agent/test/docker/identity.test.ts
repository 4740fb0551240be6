import { expect, test } from 'vitest';
import { connectEngine } from '../../src/docker/engine.ts';
import { ownContainerId } from '../../src/docker/own-container.ts';
import { isLeftAlone, serviceOf } from '../../src/docker/services.ts';

const id = 'ab'.repeat(32);
const other = 'cd'.repeat(32);

test('a service is named by our labels, then balena, then Compose, then the container', () => {
  const name = 'shop-web-1';
  expect(serviceOf({ id, name, labels: {} })).toEqual({
    source: { type: 'container', name },
    serviceName: name,
    containerId: id,
    isSystem: false,
  });
  const compose = { 'com.docker.compose.service': 'web', 'com.docker.compose.project': 'shop' };
  expect(serviceOf({ id, name, labels: compose })).toMatchObject({ serviceName: 'web', appId: 'shop' });
  const balena = {
    ...compose,
    'io.balena.service-name': 'front',
    'io.balena.service-id': '77',
    'io.balena.app-id': '1500',
  };
  expect(serviceOf({ id, name, labels: balena })).toMatchObject({
    serviceName: 'front',
    serviceId: 77,
    appId: 1500,
  });
  const own = {
    ...balena,
    'millrace.service-name': 'shop front',
    'millrace.service-id': '1',
    'millrace.app-id': '1001',
  };
  const service = serviceOf({ id, name, labels: own });
  expect(service).toMatchObject({ serviceName: 'shop front', serviceId: 1, appId: 1001 });
  expect(service.source).toEqual({ type: 'container', name: 'shop front' });
});

test('ids that are no numbers stay text or are left out', () => {
  const labels = { 'millrace.service-id': 'x1', 'millrace.app-id': '007', 'millrace.service-name': '  ' };
  const service = serviceOf({ id, name: '', labels });
  expect(service.serviceId).toBeUndefined();
  expect(service.appId).toBe('007');
  expect(service.serviceName).toBe(id.slice(0, 12));
});

test('the label millrace.logs=off leaves a container alone', () => {
  expect(isLeftAlone({ id, name: 'a', labels: { 'millrace.logs': 'off' } })).toBe(true);
  expect(isLeftAlone({ id, name: 'a', labels: { 'millrace.logs': 'on' } })).toBe(false);
  expect(isLeftAlone({ id, name: 'a', labels: {} })).toBe(false);
});

test('our own container is found by its mounts, its cgroup or its hostname', () => {
  const none = { mountInfo: '', cgroup: '0::/', hostname: 'pi' };
  expect(ownContainerId(none)).toBeUndefined();
  const mountInfo = [
    `720 700 8:1 /var/lib/docker/containers/${id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw`,
    '721 700 8:1 / / rw - overlay overlay rw',
  ].join('\n');
  expect(ownContainerId({ ...none, mountInfo })).toBe(id);
  expect(ownContainerId({ ...none, cgroup: `12:pids:/docker/${other}/docker/${id}\n` })).toBe(id);
  expect(ownContainerId({ ...none, cgroup: `0::/system.slice/docker-${id}.scope` })).toBe(id);
  expect(ownContainerId({ ...none, hostname: id.slice(0, 12) })).toBe(id.slice(0, 12));
});

test('a machine that runs containers is not taken for one of them', () => {
  const mountInfo = `90 20 0:50 / /var/lib/docker/containers/${id}/mounts/shm rw - tmpfs shm rw\n`;
  const overlay = `91 20 0:51 / /var/lib/docker/overlay2/${other}/merged rw - overlay overlay rw\n`;
  expect(
    ownContainerId({ mountInfo: mountInfo + overlay, cgroup: '0::/init.scope', hostname: 'pi' }),
  ).toBeUndefined();
});

test('DOCKER_HOST says where the engine is', () => {
  const modemOf = (host?: string) => connectEngine({ env: { DOCKER_HOST: host } }).modem;
  expect(modemOf()).toMatchObject({ socketPath: '/var/run/docker.sock' });
  expect(modemOf('unix:///tmp/x.sock')).toMatchObject({ socketPath: '/tmp/x.sock' });
  expect(modemOf('tcp://10.0.0.5:2375')).toMatchObject({ host: '10.0.0.5', port: '2375', protocol: 'http' });
  expect(modemOf('tcp://10.0.0.5')).toMatchObject({ port: '2375' });
  expect(modemOf('tcp://10.0.0.5:2376')).toMatchObject({ protocol: 'https' });
  for (const wrong of ['nonsense', 'ftp://x', 'tcp://']) {
    expect(() => modemOf(wrong)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  }
});
