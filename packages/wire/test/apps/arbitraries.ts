import fc from 'fast-check';

const texts = fc.string({ maxLength: 20 }).filter((text) => !text.includes('\0'));
const names = fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,10}$/);
const paths = fc.stringMatching(/^\/[a-z]{1,8}$/);
const variables = fc.stringMatching(/^[A-Z_]{1,10}$/);
const durations = fc.constantFrom('500ms', '30s', '1m30s', '1.5h', '7us');
const numbers = fc.integer({ min: 1, max: 65_535 });

/** Values as a user may write them: each field in all of its forms. */
const fields = {
  serviceId: fc.integer({ min: 1 }),
  command: fc.oneof(fc.constant('sh -c "echo \'$HOME\'"'), fc.array(texts, { maxLength: 3 })),
  entrypoint: fc.array(texts, { maxLength: 3 }),
  environment: fc.oneof(
    fc.dictionary(variables, fc.oneof(texts, fc.integer(), fc.boolean(), fc.constant(null)), {
      noNullPrototype: true,
    }),
    fc.array(
      fc.tuple(variables, texts).map((pair) => pair.join('=')),
      { maxLength: 3 },
    ),
  ),
  labels: fc.dictionary(variables, texts, { noNullPrototype: true }),
  ports: fc.array(
    fc.oneof(
      numbers,
      numbers.map((port) => `127.0.0.1:${port}:80/udp`),
    ),
    { maxLength: 3 },
  ),
  volumes: fc.array(
    fc.oneof(
      paths,
      fc.tuple(names, paths).map(([name, path]) => `${name}:${path}:ro`),
    ),
    { maxLength: 3 },
  ),
  tmpfs: fc.array(paths, { maxLength: 2 }),
  networks: fc.array(names, { maxLength: 2 }),
  restart: fc.constantFrom('no', false, 'always', 'unless-stopped', 'on-failure:3'),
  devices: fc.constant(['/dev/ttyUSB0:/dev/modem:rw']),
  privileged: fc.boolean(),
  capAdd: fc.constant(['NET_ADMIN']),
  capDrop: fc.constant(['ALL']),
  memLimit: fc.constantFrom('256m', 1024, '1.5g'),
  memReservation: fc.constant('1m'),
  cpus: fc.constantFrom('0.5', 2),
  pidsLimit: fc.integer({ min: 1, max: 1000 }),
  healthcheck: fc.record(
    {
      test: fc.oneof(texts, fc.array(texts, { maxLength: 2 })),
      interval: durations,
      timeout: durations,
      startPeriod: durations,
      retries: fc.integer({ min: 1, max: 9 }),
    },
    { requiredKeys: [] },
  ),
  workingDir: paths,
  user: fc.constant('1000:1000'),
  hostname: fc.constant('till'),
  extraHosts: fc.constant(['cloud:10.0.0.1']),
  stopSignal: fc.constant('SIGINT'),
  stopGracePeriod: durations,
  init: fc.boolean(),
  readOnly: fc.boolean(),
  tty: fc.boolean(),
};

const services = fc.record(
  {
    serviceName: names,
    imageName: fc.constantFrom('nginx', 'nginx:alpine', 'localhost:5000/a/b:1'),
    ...fields,
  },
  { requiredKeys: ['serviceName', 'imageName'] },
);

/** Apps as the app API takes them. */
export const givenApps = fc
  .record(
    {
      appId: fc.integer({ min: 1 }),
      appName: names,
      services: fc.uniqueArray(services, { selector: (s) => s.serviceName, minLength: 1, maxLength: 3 }),
    },
    { requiredKeys: ['appId', 'services'] },
  )
  .map((app) => {
    const [first, second] = app.services;
    if (!first || !second) return app;
    // One of them waits for another.
    const dependsOn = second.restart === 'no' ? [second.serviceName] : { [second.serviceName]: {} };
    return { ...app, services: [{ ...first, dependsOn }, ...app.services.slice(1)] };
  });
