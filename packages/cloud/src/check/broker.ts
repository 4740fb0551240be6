import { readFile } from 'node:fs/promises';
import { errorText } from '@millrace/wire';
import mqtt from 'mqtt';
import type { CloudConfig } from '../config.ts';
import type { CheckResult } from './result.ts';

const connectTimeoutMs = 8000;

/** Whether an external broker takes us. Under a client id of its own, so that a cloud that is running is not thrown out. */
export async function checkBroker(config: CloudConfig): Promise<CheckResult[]> {
  const { brokerUrl, brokerUsername: username, brokerPassword: password, brokerCa } = config;
  const part = 'broker';
  if (brokerUrl === undefined) return [{ part, state: 'ok', detail: 'embedded' }];
  const place = URL.parse(brokerUrl)?.host ?? 'the broker';
  try {
    const ca = brokerCa === undefined ? undefined : await readFile(brokerCa);
    const options = {
      ...{ username, password, ca, reconnectPeriod: 0, connectTimeout: connectTimeoutMs },
      clientId: `millrace-check-${process.pid}`,
    };
    const client = await mqtt.connectAsync(brokerUrl, options, false);
    await client.endAsync();
    return [{ part, state: 'ok', detail: `${place} takes the connection` }];
  } catch (error) {
    return [
      {
        part,
        state: 'failed',
        detail: `${place}: ${errorText(error)}`,
        action:
          'Check CLOUD_MQTT_BROKER, CLOUD_MQTT_USERNAME, CLOUD_MQTT_PASSWORD, CLOUD_MQTT_CA and the network.',
      },
    ];
  }
}
