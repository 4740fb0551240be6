import { MillraceError } from '@millrace/wire';
import { type Logger, pino } from 'pino';
import type { BackoffOptions } from '../../delivery/backoff.ts';
import { displayUrl } from '../../delivery/secrets.ts';
import { MemoryFeed, type MemoryFeedOptions } from '../memory-feed.ts';
import type { Feed } from '../types.ts';

export interface CloudLogBackendOptions {
  /** `https://` (or `http://`) address of the cloud; a path is kept in front of ours. */
  cloudEndpoint: string;
  deviceUuid: string;
  /** The device's key. */
  apiKey: string;
  /** Default `gzip`. */
  compression?: 'gzip' | 'none';

  /** Where lines are read from. Without it `log()` fills a bounded buffer in memory. */
  feed?: Feed;
  /** Bounds of that buffer. */
  memory?: MemoryFeedOptions;
  /** Certificates as PEM, where the system's are not enough. */
  tls?: { ca?: string | Buffer; cert?: string | Buffer; key?: string | Buffer; rejectUnauthorized?: boolean };
  /** Without an acknowledgement for this long something is wrong with the way there. Default 15 000. */
  ackTimeoutMs?: number;
  /** An idle stream gets a blank line this often, so that no proxy on the way takes it for dead. Default 25 000. */
  heartbeatMs?: number;
  /** A stream is ended and opened anew after about this long. Default 3 600 000. */
  reopenMs?: number;
  /** Short requests are given up for another try at streaming after this long. Default 600 000. */
  streamRetryMs?: number;
  /** Most that is under way without an acknowledgement. Default 4 MiB of encoded lines and 50 000 lines. */
  maxUnackedBytes?: number;
  maxUnackedLines?: number;
  /** Most encoded bytes in a short request. Default 1 MiB. */
  maxRequestBytes?: number;
  /** Pauses between attempts. Default 500 to 60 000 ms, and 60 000 after a refusal. */
  backoff?: BackoffOptions & { refusedMs?: number };
  /** Default: JSON lines on standard output. */
  log?: Logger;
  /** Told of the version of the device's target, when the cloud names one among its acknowledgements. */
  onTarget?: ((version: string) => void) | undefined;
  /** Told of every change of `connected` or `mode`. */
  onStateChange?: (state: CloudBackendState) => void;
}

export interface CloudBackendState {
  connected: boolean;
  /** One long request with acknowledgements, or short requests one after another. */
  mode: 'stream' | 'short';
  requests: number;
  /** Lines sent, repetitions included, and their encoded bytes. */
  lines: number;
  bytes: number;
  /** Bytes of request bodies, compressed. */
  wireBytes: number;
  /** Lines that the cloud refused for good. */
  refused: number;
  /** Lines that are not confirmed, and lines that a full buffer has shed. */
  lag: number;
  lost: number;
  lastError: string | undefined;
}

/** Options with their defaults, checked. */
export interface CloudSettings {
  url: URL;
  /** For logs: `https://host/path`, without our own part. */
  shownUrl: string;
  headers: Record<string, string>;
  compression: 'gzip' | 'none';
  feed: Feed;
  /** Set when the feed is our own: what `log()` fills. */
  memory: MemoryFeed | undefined;
  tls: NonNullable<CloudLogBackendOptions['tls']>;
  secrets: string[];
  ackTimeoutMs: number;
  heartbeatMs: number;
  reopenMs: number;
  streamRetryMs: number;
  maxUnackedBytes: number;
  maxUnackedLines: number;
  maxRequestBytes: number;
  backoff: BackoffOptions;
  refusedMs: number;
  onTarget: ((version: string) => void) | undefined;
  log: Logger;
}

/** @throws MillraceError `OPTION_INVALID`, naming the option and what is allowed */
export function readCloudOptions(options: CloudLogBackendOptions): CloudSettings {
  const endpoint = cloudEndpoint(options.cloudEndpoint);
  const { deviceUuid, apiKey } = options;
  if (typeof deviceUuid !== 'string' || deviceUuid === '')
    invalid('deviceUuid must be a text that is not empty');
  // Anything else could not be sent in a header. The key itself is never repeated.
  if (typeof apiKey !== 'string' || !/^[\x21-\x7e]+$/.test(apiKey)) {
    invalid('apiKey must be a text of printable ASCII characters without spaces');
  }
  const compression = options.compression ?? 'gzip';
  if (compression !== 'gzip' && compression !== 'none') {
    invalid(`compression must be one of gzip, none, not ${String(compression)}`);
  }
  const log = options.log ?? pino({ name: 'cloud-log-backend' });
  if (endpoint.protocol === 'http:' && !isLoopback(endpoint.hostname)) {
    log.warn(
      { cloudEndpoint: displayUrl(endpoint) },
      'log lines and the key travel unencrypted: use https://',
    );
  }
  const url = new URL(endpoint);
  url.pathname = `${endpoint.pathname.replace(/\/+$/, '')}/device/v2/${encodeURIComponent(deviceUuid)}/log-stream`;
  const memory = options.feed ? undefined : new MemoryFeed(options.memory);
  const hour = 3_600_000;
  return {
    url,
    shownUrl: displayUrl(endpoint),
    headers: {
      'Content-Type': 'application/x-ndjson',
      ...(compression === 'gzip' && { 'Content-Encoding': 'gzip' }),
      Authorization: `Bearer ${apiKey}`,
      'Millrace-Acks': 'stream, short',
    },
    compression,
    feed: options.feed ?? (memory as MemoryFeed),
    memory,
    tls: options.tls ?? {},
    secrets: [apiKey],
    ackTimeoutMs: whole('ackTimeoutMs', options.ackTimeoutMs ?? 15_000, 1, hour),
    heartbeatMs: whole('heartbeatMs', options.heartbeatMs ?? 25_000, 1, hour),
    reopenMs: whole('reopenMs', options.reopenMs ?? hour, 1, 24 * hour),
    streamRetryMs: whole('streamRetryMs', options.streamRetryMs ?? 600_000, 1, 24 * hour),
    maxUnackedBytes: whole('maxUnackedBytes', options.maxUnackedBytes ?? 4 * 1024 * 1024, 1, 2 ** 30),
    maxUnackedLines: whole('maxUnackedLines', options.maxUnackedLines ?? 50_000, 1, 2 ** 30),
    maxRequestBytes: whole('maxRequestBytes', options.maxRequestBytes ?? 1024 * 1024, 1, 2 ** 30),
    backoff: options.backoff ?? {},
    refusedMs: options.backoff?.refusedMs ?? 60_000,
    onTarget: options.onTarget,
    log,
  };
}

function cloudEndpoint(text: unknown): URL {
  const url = typeof text === 'string' ? URL.parse(text) : null;
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    invalid('cloudEndpoint must look like https://cloud.example.com (or http://)');
  }
  if (url.username || url.password || url.search || url.hash) {
    invalid('cloudEndpoint must not hold a user, password, query or fragment: the key belongs into apiKey');
  }
  return url;
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\./.test(hostname);
}

function whole(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    invalid(`${name} must be a whole number from ${min} to ${max}, not ${String(value)}`);
  }
  return value;
}

function invalid(detail: string): never {
  throw new MillraceError('OPTION_INVALID', detail);
}
