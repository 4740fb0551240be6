import { resolve } from 'node:path';
import type { Paint } from '../terminal/colours.ts';

export type Row = [label: string, text: string];

export interface Block {
  paint: Paint;
  title: string;
  rows: Row[];
  /** Commands to try next. */
  next: string[];
}

/** What a start prints once everything is ready: where things are, and what to do with them. */
export function block({ paint, title, rows, next }: Block): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  const lines = ['', paint('bold', title), ''];
  for (const [label, text] of rows) lines.push(`  ${paint('dim', label.padEnd(width))}  ${text}`);
  if (next.length > 0) {
    lines.push('', 'Try next, in another terminal:', '');
    for (const command of next) lines.push(`  ${paint('cyan', command)}`);
  }
  lines.push('', 'Ctrl-C stops it.', '');
  return `${lines.join('\n')}\n`;
}

/** What of a running cloud people need to know. */
export interface CloudPlaces {
  url: string;
  /** None when an external broker is used. */
  mqttPort?: number;
  wsPort?: number;
  /** Only at the start that made it. */
  adminToken?: string;
}

export function cloudRows(cloud: CloudPlaces, env: Record<string, string | undefined>): Row[] {
  const rows: Row[] = [['Cloud API', `${cloud.url}  (OpenAPI: ${cloud.url}/api/v1/openapi.json)`]];
  if (cloud.mqttPort === undefined) rows.push(['MQTT', 'external broker (CLOUD_MQTT_BROKER)']);
  else rows.push(['MQTT', `mqtt://127.0.0.1:${cloud.mqttPort}`]);
  if (cloud.wsPort !== undefined) rows.push(['WebSocket', `ws://127.0.0.1:${cloud.wsPort}`]);
  rows.push(['Data', resolve(env.DATA_DIR || './data')]);
  if (cloud.adminToken) rows.push(['Admin token', `${cloud.adminToken}  (shown this once: keep it)`]);
  return rows;
}
