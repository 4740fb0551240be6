import { resolve } from 'node:path';
import { agentSettings } from '@millrace/agent/config';
import { loadIdentity } from '@millrace/agent/device/identity';
import { type Agent, startAgent } from '@millrace/agent/main';
import { cloudSettings } from '@millrace/cloud/config';
import { type Cloud, startCloud } from '@millrace/cloud/main';
import { readSettings } from '@millrace/wire';
import type { Running } from '../running/until-stopped.ts';
import { painter, wantsColour } from '../terminal/colours.ts';
import { cloudPorts, type StartOptions } from './cloud-alone.ts';
import { checkPorts, type PortToUse } from './ports.ts';
import { block, cloudRows, type Row } from './start-block.ts';

/** Everything in one process, for `millrace up`: the cloud, and the agent of this machine pointed at it. */
export async function startUp({ env, log, stdout }: StartOptions): Promise<Running> {
  // All of it first, so that a wrong value of the agent is told before the cloud has started.
  readSettings({ ...cloudSettings, ...agentSettings }, env);
  await checkPorts([...cloudPorts(env), ...agentPorts(env)]);
  const cloud = await startCloud({ env, log: log.child({ program: 'cloud' }) });
  let agent: Agent;
  try {
    agent = await startAgent({ env: await agentEnv(env, cloud), log: log.child({ program: 'agent' }) });
  } catch (error) {
    await cloud.stop();
    throw error;
  }
  const paint = painter(wantsColour(stdout, env));
  const rows = [...cloudRows(cloud, env), ...agentRows(agent)];
  stdout.write(block({ paint, title: 'Millrace is running.', rows, next: nextSteps(env, cloud, agent) }));
  return {
    async stop() {
      // The agent first: what it still holds goes to the cloud, which is there to take it.
      await agent.stop();
      await cloud.stop();
    },
  };
}

/**
 * The agent's environment: what the user set, and else the cloud beside it, reached on this machine. To its broker the
 * agent comes as the device it is, since nobody else may say whether a device is online.
 */
async function agentEnv(env: StartOptions['env'], cloud: Cloud): Promise<StartOptions['env']> {
  const own = { ...env };
  if (!env.CLOUD_ENDPOINT) {
    own.CLOUD_ENDPOINT = cloud.url;
    own.JOIN_KEY = cloud.joinKey;
  }
  if (!env.MQTT_BROKER && cloud.mqttPort !== undefined) {
    own.MQTT_BROKER = `mqtt://${mqttHost(env, cloud)}:${cloud.mqttPort}`;
    if (!env.MQTT_USERNAME) {
      const { uuid, apiKey } = loadIdentity(cloud.dataDir, { uuid: env.DEVICE_UUID || undefined });
      own.MQTT_USERNAME = uuid;
      own.MQTT_PASSWORD = env.CLOUD_API_KEY || apiKey;
      await register(cloud, uuid, own.MQTT_PASSWORD);
    }
  }
  return own;
}

/** Where this machine reaches the embedded broker, which may listen on another address than the API. */
function mqttHost(env: StartOptions['env'], cloud: Cloud): string {
  const own = env.MQTT_HOST;
  if (!own) return new URL(cloud.url).hostname;
  return own === '0.0.0.0' || own === '::' ? '127.0.0.1' : own.includes(':') ? `[${own}]` : own;
}

/** Makes the device known before it connects: the broker would refuse a stranger, and be tried again much later. */
async function register(cloud: Cloud, uuid: string, apiKey: string): Promise<void> {
  const response = await fetch(`${cloud.url}/device/register`, {
    method: 'POST',
    headers: { authorization: `Bearer ${cloud.joinKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ uuid, api_key: apiKey }),
  });
  // The agent registers too, and says then what is wrong.
  await response.body?.cancel();
}

function agentPorts(env: StartOptions['env']): PortToUse[] {
  const { deviceApiHost: host, deviceApiPort, apiPort } = readSettings(agentSettings, env);
  return [
    { variable: 'DEVICE_API_PORT', host, port: deviceApiPort },
    { variable: 'API_PORT', host, port: apiPort },
  ];
}

function agentRows(agent: Agent): Row[] {
  return [
    ['Device API', `${agent.deviceApiUrl}/v1/logs`],
    ['Device', agent.uuid],
    ['Docker', dockerState(agent)],
    ...Object.entries(agent.state.sources).map(([name, state]): Row => [name, sourceState(state)]),
  ];
}

function sourceState({ connected, detail, error }: Agent['state']['sources'][string]): string {
  if (error !== undefined) return error;
  return `${connected ? 'reading' : 'nothing to read'}${detail === undefined ? '' : `: ${detail}`}`;
}

function dockerState(agent: Agent): string {
  const { connected, containers } = agent.state.docker;
  if (!connected)
    return "not found; trying again until it is there, and shipping the agent's own log meanwhile";
  return `attached to ${containers} ${containers === 1 ? 'container' : 'containers'}, and to each that starts`;
}

function nextSteps(env: StartOptions['env'], cloud: Cloud, agent: Agent): string[] {
  const settings = [
    env.DATA_DIR && `DATA_DIR=${resolve(env.DATA_DIR)}`,
    cloud.httpPort !== 8080 && `CLOUD_PORT=${cloud.httpPort}`,
  ].filter(Boolean);
  const port = cloud.mqttPort === 1883 ? '' : ` -p ${cloud.mqttPort}`;
  const hello = `docker run --rm --name hello busybox sh -c 'for i in 1 2 3; do echo hello $i; sleep 1; done'`;
  return [
    [...settings, 'npx millrace logs -f'].join(' '),
    ...(agent.state.docker.connected ? [hello] : []),
    ...(cloud.mqttPort === undefined ? [] : [`mosquitto_sub${port} -t 'container-manager/logs/#' -v`]),
    `curl '${agent.deviceApiUrl}/v1/logs?limit=5'`,
  ];
}
