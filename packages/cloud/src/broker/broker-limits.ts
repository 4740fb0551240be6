/** Bounds of the embedded broker. */
export interface BrokerLimits {
  /** Largest MQTT packet: a payload of 1 MiB and its topic. */
  maxPacketBytes: number;
  /** Largest CONNECT, which a stranger may send. */
  maxConnectBytes: number;
  /** Open connections, WebSocket ones included. */
  maxConnections: number;
  /** What one subscriber may be behind before it is passed over (QoS 0) or disconnected (QoS 1, 2). */
  maxBehindBytes: number;
  /** QoS 0 lines waiting for the store, over all devices; beyond it their senders are slowed down. */
  maxUngatedBytes: number;
  maxRetained: number;
  maxRetainedBytes: number;
  /** Filters that one client may hold. */
  maxSubscriptions: number;
  /** How long a stranger may take to send CONNECT. */
  connectTimeoutMs: number;
}

export const defaultBrokerLimits: BrokerLimits = {
  maxPacketBytes: 1024 * 1024 + 64 * 1024,
  maxConnectBytes: 64 * 1024,
  maxConnections: 20_000,
  maxBehindBytes: 2 * 1024 * 1024,
  maxUngatedBytes: 16 * 1024 * 1024,
  maxRetained: 20_000,
  maxRetainedBytes: 64 * 1024 * 1024,
  maxSubscriptions: 1000,
  connectTimeoutMs: 10_000,
};
