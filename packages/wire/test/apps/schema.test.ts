import { describe, expect, test } from 'vitest';
import { parseApp, parseCompose } from '../../src/apps/index.ts';

const image = { serviceName: 'web', imageName: 'nginx:alpine' };
const appOf = (fields: object) => ({ appId: 1001, services: [{ ...image, ...fields }] });

describe('each field that is wrong is named', () => {
  test.each([
    ['serviceId', 0],
    ['serviceName', 'a b'],
    ['imageName', 'Nginx:alpine'],
    ['imageName', undefined],
    ['command', 7],
    ['command', "sh -c 'open"],
    ['entrypoint', [1]],
    ['environment', ['NO_VALUE']],
    ['environment', { A: {} }],
    ['ports[0]', ['0:80']],
    ['ports[0]', ['8080-8090:80']],
    ['ports[1]', [80, '80/icmp']],
    ['volumes[0]', ['data:relative']],
    ['volumes[0]', ['./here:/there']],
    ['volumes[0]', ['data:/a:cached']],
    ['tmpfs[0]', ['run']],
    ['networks[0]', ['a b']],
    ['networkMode', 'container:x'],
    ['restart', 'sometimes'],
    ['restart', 'always:3'],
    ['labels', { 'io.millrace.managed-by': 'you' }],
    ['labels', { 'millrace.app-id': '5' }],
    ['devices[0]', ['ttyUSB0']],
    ['privileged', 'yes'],
    ['capAdd[0]', ['net admin']],
    ['capDrop[0]', [1]],
    ['memLimit', 'much'],
    ['memReservation', -1],
    ['cpus', 0],
    ['pidsLimit', 1.5],
    ['healthcheck.interval', { interval: 30 }],
    ['healthcheck.timeout', { timeout: '1 minute' }],
    ['healthcheck.startPeriod', { startPeriod: '-1s' }],
    ['healthcheck.retries', { retries: 0 }],
    ['healthcheck.test', { test: 1 }],
    ['healthcheck.disable', { disable: 'yes' }],
    ['healthcheck.start_period', { start_period: '1s' }],
    ['dependsOn', ['nobody']],
    ['dependsOn', { web: { condition: 'service_up' } }],
    ['dependsOn', ['web']],
    ['workingDir', 'srv'],
    ['user', 1000],
    ['hostname', '-x'],
    ['extraHosts[0]', ['cloud']],
    ['stopSignal', 'TERM'],
    ['stopGracePeriod', 10],
    ['init', 1],
    ['readOnly', 1],
    ['tty', 1],
    ['depends_on', ['web']],
  ])('services[0].%s: %j', (field, value) => {
    const name = /^\w+/.exec(field)?.[0] as string;
    expect(() => parseApp(appOf({ [name]: value }))).toThrow(`APP_INVALID: services[0].${field} `);
  });

  test.each([
    ['the app must be', 'nginx'],
    ['appId must be', { appId: '1', services: [image] }],
    ['appName must be', { appId: 1, appName: 'a/b', services: [image] }],
    ['services must be', { appId: 1 }],
    ['services is empty', { appId: 1, services: [] }],
    ['services[0] must be', { appId: 1, services: ['nginx'] }],
    ['services[1].serviceName web is there twice', { appId: 1, services: [image, image] }],
    ['other is not known', { appId: 1, services: [image], other: 1 }],
    ['services[0].networks cannot', appOf({ networks: ['a'], networkMode: 'host' })],
    ['services[0].ports cannot', appOf({ ports: [80], networkMode: 'host' })],
    [
      'services[0].dependsOn goes in a circle: web → db → web',
      {
        appId: 1,
        services: [
          { ...image, dependsOn: ['db'] },
          { ...image, serviceName: 'db', dependsOn: ['web'] },
        ],
      },
    ],
    [
      'services[0].dependsOn db has no healthcheck',
      {
        appId: 1,
        services: [
          { ...image, dependsOn: { db: { condition: 'service_healthy' } } },
          { ...image, serviceName: 'db' },
        ],
      },
    ],
  ])('%s', (reason, app) => {
    expect(() => parseApp(app)).toThrow(`APP_INVALID: ${reason}`);
  });
});

const composeFile = `
name: shop
services:
  web:
    image: nginx:alpine
    ports: ["8080:80"]
    depends_on: { db: { condition: service_healthy } }
    environment: [PRICE=5$$]
    deploy: { resources: { limits: { memory: 64m, cpus: "0.5", pids: 20 } } }
    healthcheck: { test: [CMD, "true"], start_period: 5s }
    x-note: kept out
  db:
    image: postgres:17
    volumes: [data:/var/lib/postgresql/data]
    healthcheck: { test: pg_isready }
    restart: no
volumes:
  data:
`;

describe('a compose file', () => {
  test('is the same app as its JSON', async () => {
    const { given, app } = await parseCompose(composeFile, 1001);
    expect(app).toEqual(
      parseApp({
        appId: 1001,
        appName: 'shop',
        services: [
          {
            serviceName: 'web',
            imageName: 'nginx:alpine',
            ports: ['8080:80'],
            dependsOn: { db: { condition: 'service_healthy' } },
            environment: { PRICE: '5$' },
            ...{ memLimit: '64m', cpus: 0.5, pidsLimit: 20 },
            healthcheck: { test: ['CMD', 'true'], startPeriod: '5s' },
          },
          {
            serviceName: 'db',
            imageName: 'postgres:17',
            volumes: ['data:/var/lib/postgresql/data'],
            healthcheck: { test: 'pg_isready' },
            restart: 'no',
          },
        ],
      }),
    );
    // What is kept is read again after each restart.
    expect(parseApp(JSON.parse(JSON.stringify(given)))).toEqual(app);
  });

  test.each([
    ['services: [', 'line 1: '],
    ['just text', 'the file must be a mapping'],
    ['services: [a]', 'services must be a mapping'],
    ['services: {web: nginx}', 'services.web must be a mapping'],
    ['secrets: {}\nservices: {}', 'secrets is not supported'],
    ['services: {web: {build: .}}', 'services.web.build is not supported'],
    ['services: {web: {image: a, constructor: 1}}', 'services.web.constructor is not supported'],
    ['services: {web: {image: "a:$TAG"}}', 'services.web.image holds a variable'],
    ['services: {web: {image: a, command: [echo, $HOME]}}', 'services.web.command[1] holds a variable'],
    ['services: {web: {image: a, cap_add: [x]}}', 'services.web.cap_add[0] must be a capability'],
    [
      'services: {web: {image: a, healthcheck: {start_period: 5}}}',
      'services.web.healthcheck.start_period must be a time',
    ],
    ['services: {web: {image: a, ports: [{target: 80}]}}', 'services.web.ports[0] must be a port'],
    ['services: {web: {}}', 'services.web.image must be'],
    ['services: {"a b": {image: a}}', 'services.a b must be 1 to 63'],
    ['name: "a b"\nservices: {web: {image: a}}', 'name must be 1 to 63'],
    ['services: {web: {image: a, deploy: {replicas: 2}}}', 'services.web.deploy.replicas is not supported'],
    ['services: {web: {image: a}}\nvolumes: {d: {driver: nfs}}', 'volumes.d.driver is not supported'],
    ['services: {web: {image: a}}\nnetworks: {n: {internal: true}}', 'networks.n.internal is not supported'],
  ])('%j is refused: %s', async (text, reason) => {
    await expect(parseCompose(text, 1)).rejects.toThrow(`APP_INVALID: ${reason}`);
  });

  test('whose aliases grow beyond reason is refused', async () => {
    const rows = Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(9)}]`);
    const text = `x-a0: &a0 [x]\n${rows.map((row) => `x-${row}`).join('\n')}\nservices: {}`;
    await expect(parseCompose(text, 1)).rejects.toThrow('APP_INVALID');
  });
});
