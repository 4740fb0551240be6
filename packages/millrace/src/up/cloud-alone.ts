import { readCloudConfig } from '@millrace/cloud/config';
import { startCloud } from '@millrace/cloud/main';
import type { Logger } from 'pino';
import type { Running } from '../running/until-stopped.ts';
import { painter, wantsColour } from '../terminal/colours.ts';
import { checkPorts, type PortToUse } from './ports.ts';
import { block, cloudRows } from './start-block.ts';

export interface StartOptions {
  env: Record<string, string | undefined>;
  log: Logger;
  stdout: NodeJS.WritableStream & { isTTY?: boolean };
}

/** The cloud program alone, for `millrace cloud`. */
export async function startCloudAlone({ env, log, stdout }: StartOptions): Promise<Running> {
  await checkPorts(cloudPorts(env));
  const cloud = await startCloud({ env, log: log.child({ program: 'cloud' }) });
  const paint = painter(wantsColour(stdout, env));
  stdout.write(block({ paint, title: 'The cloud is running.', rows: cloudRows(cloud, env), next: [] }));
  return cloud;
}

/** The ports that a cloud with these settings will listen on. */
export function cloudPorts(env: StartOptions['env']): PortToUse[] {
  const { host, port, mqttHost = host, mqttPort, mqttWsPort, brokerUrl } = readCloudConfig(env);
  const api = { variable: 'CLOUD_PORT', host, port };
  if (brokerUrl) return [api];
  return [
    api,
    { variable: 'MQTT_PORT', host: mqttHost, port: mqttPort },
    { variable: 'MQTT_WS_PORT', host: mqttHost, port: mqttWsPort },
  ];
}
