import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cloudSettings, readCloudConfig } from '@millrace/cloud';
import { expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { replicatedSchema } from '../packages/cloud/src/store/cluster/ddl.ts';
import { migrations } from '../packages/cloud/src/store/migrations/index.ts';
import { repository } from './support/programs.ts';

const deploy = (path: string) => join(repository, 'deploy', path);
const known = new Set<string>(Object.values(cloudSettings).map(({ env }) => env));

/** Throws for a setting that is none, or has a value that the program would refuse. */
function checkSettings(env: Record<string, string>): void {
  expect(Object.keys(env).filter((name) => !known.has(name))).toEqual([]);
  expect(readCloudConfig(env)).toMatchObject({ clickhouseCluster: 'fleet', brokerShare: 'clouds' });
}

interface Compose {
  services: Record<
    string,
    { image: string; environment?: Record<string, string>; volumes?: string[]; depends_on?: string[] }
  >;
  volumes: Record<string, unknown>;
}

test('the compose file holds together, and the cloud takes its settings', async () => {
  const text = (await readFile(deploy('compose.yaml'), 'utf8')).replaceAll(
    /\$\{(\w+):\?\}/g,
    'a-secret-of-16-characters',
  );
  const { services, volumes } = parse(text, { merge: true }) as Compose;
  const clouds = Object.entries(services).filter(([, { image }]) => image === 'millrace-cloud');
  expect(clouds).toHaveLength(2);
  for (const [name, { environment = {} }] of clouds) {
    checkSettings(environment);
    expect(environment.CLOUD_PEER_URL).toBe(`http://${name}:8080`);
  }
  for (const { volumes: mounts = [], depends_on: needed = [] } of Object.values(services)) {
    for (const service of needed) expect(Object.keys(services)).toContain(service);
    for (const mount of mounts) {
      const [source = ''] = mount.split(':');
      if (source.startsWith('./')) await access(deploy(source));
      else expect(Object.keys(volumes)).toContain(source);
    }
  }
  const cluster = await readFile(deploy('clickhouse/cluster.xml'), 'utf8');
  for (const [, host = ''] of cluster.matchAll(/<host>(.*?)<\/host>/g))
    expect(Object.keys(services)).toContain(host);
  const balanced = await readFile(deploy('nginx.conf'), 'utf8');
  for (const [name] of clouds) expect(balanced).toContain(`server ${name}:8080`);
});

interface Manifest {
  kind: string;
  metadata: { name: string };
  spec: {
    serviceName?: string;
    selector?: Record<string, unknown>;
    template?: {
      metadata: { labels: Record<string, string> };
      spec: { containers: { env: { name: string; value?: string; valueFrom?: object }[] }[] };
    };
  };
}

test('the Kubernetes manifests hold together, and the cloud takes their settings', async () => {
  const documents = parseAllDocuments(await readFile(deploy('kubernetes/millrace.yaml'), 'utf8'));
  expect(documents.flatMap(({ errors }) => errors)).toEqual([]);
  const manifests = documents.map((document) => document.toJS() as Manifest);
  expect(manifests.map(({ kind }) => kind)).toEqual([
    'Service',
    'Service',
    'StatefulSet',
    'PodDisruptionBudget',
  ]);
  const set = manifests.find(({ kind }) => kind === 'StatefulSet');
  const template = set?.spec.template;
  const services = manifests.filter(({ kind }) => kind === 'Service');
  expect(services.map(({ metadata }) => metadata.name)).toContain(set?.spec.serviceName);
  for (const { spec } of services) expect(spec.selector).toEqual(template?.metadata.labels);
  const secrets: Record<string, string> = {
    CLICKHOUSE_URL: 'http://millrace:secret@clickhouse-1:8123',
    DATABASE_URL: 'postgres://millrace:secret@postgres:5432/millrace',
    JOIN_KEY: 'a-join-key',
    ADMIN_TOKEN: 'a-token-of-16-characters',
  };
  const env: Record<string, string> = {};
  for (const { name, value } of template?.spec.containers[0]?.env ?? []) {
    // Only there to be named in another.
    if (name !== 'POD_NAME')
      env[name] = value?.replace('$(POD_NAME)', 'millrace-cloud-0') ?? secrets[name] ?? '';
  }
  checkSettings(env);
  expect(env.CLOUD_PEER_URL).toBe(`http://millrace-cloud-0.${set?.spec.serviceName}:8080`);
});

// `npm test -- tests/deploy.test.ts --update=all` writes the file anew.
test('the tables of replicated shards are written down as the program makes them', async () => {
  const statements = replicatedSchema(migrations.flatMap((step) => step.statements));
  const text = `-- What the cloud makes by itself on each server of a cluster whose shards have replicas; for reading.\n\n${statements.map((sql) => `${sql};\n`).join('\n')}`;
  await expect(text).toMatchFileSnapshot('../deploy/clickhouse/replicated.sql');
});
