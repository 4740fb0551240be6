import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { deviceTopic, errorText, parseDeviceTopic } from '@millrace/wire';
import { Aedes, type AedesPublishPacket, type AuthenticateError, type Client } from 'aedes';
import type { Logger } from 'pino';
import { adminUser, type Identity, uuidPattern } from '../identity/identity.ts';
import type { Presence } from '../identity/presence.ts';
import { hashSecret } from '../identity/secrets.ts';
import type { Sessions } from '../identity/sessions.ts';
import { listen } from '../listening.ts';
import type { TargetBook } from '../targets/target-book.ts';
import { isLoopback, mayPublish, mayReceive, maySubscribe, type Principal } from './access.ts';
import { type BrokerLimits, defaultBrokerLimits } from './broker-limits.ts';
import { BrokerMemory } from './broker-memory.ts';
import { GuardedConnection } from './guarded-connection.ts';
import type { DeviceInbox } from './inbox.ts';
import { topicMatches } from './topic-filter.ts';

export interface EmbeddedBrokerOptions {
  identity: Identity;
  inbox: DeviceInbox;
  presence: Presence;
  targets: Pick<TargetBook, 'message'>;
  sessions: Sessions;
  log: Logger;
  /** Whether clients on this machine may read without credentials. */
  anonymous: 'loopback' | 'off';
  limits?: Partial<BrokerLimits>;
}

/** Counts since the start. */
export interface BrokerStats {
  clients: number;
  refusedConnections: number;
  refusedPublishes: number;
  refusedSubscriptions: number;
  /** Messages that a slow QoS 0 subscriber did not get. */
  passedOver: number;
  retainedRefused: number;
}

/**
 * The embedded MQTT broker (3.1 and 3.1.1).
 *
 * Lines that a device publishes on `device/{uuid}/logs` go to the store before the broker answers: for QoS 1 and
 * 2 aedes calls `authorizePublish` ahead of PUBACK and PUBREC, and waits for it, so it is the gate. What is
 * stored is then delivered to subscribers like any message, and confirmed on `device/{uuid}/logs/ack`.
 * aedes reads no more from a connection while one of its messages is at the gate: that is the backpressure.
 */
export class EmbeddedBroker implements AsyncDisposable {
  readonly stats: BrokerStats = {
    clients: 0,
    refusedConnections: 0,
    refusedPublishes: 0,
    refusedSubscriptions: 0,
    passedOver: 0,
    retainedRefused: 0,
  };
  readonly #options: EmbeddedBrokerOptions;
  readonly #limits: BrokerLimits;
  readonly #log: Logger;
  readonly #aedes: Aedes;
  readonly #principals = new WeakMap<Client, Principal>();
  /** Of the keys and tokens that clients brought. */
  readonly #hashes = new WeakMap<Client, string>();
  readonly #sessions = new WeakMap<Client, Disposable>();
  readonly #clients = new Set<Client>();
  readonly #behind = new WeakSet<Client>();
  readonly #server: Server;
  readonly #sockets = new Set<Duplex>();
  #ungatedBytes = 0;
  #telling: Promise<void> = Promise.resolve();
  #leaving = false;
  #closed = false;

  private constructor(options: EmbeddedBrokerOptions) {
    this.#options = options;
    this.#limits = { ...defaultBrokerLimits, ...options.limits };
    this.#log = options.log;
    const { maxRetained, maxRetainedBytes, connectTimeoutMs } = this.#limits;
    this.#aedes = new Aedes({
      persistence: new BrokerMemory({
        maxRetained,
        maxRetainedBytes,
        onRetainedRefused: (topic) => {
          if (this.stats.retainedRefused++ === 0) {
            this.#log.warn({ topic }, 'no room for more retained messages: they are delivered but not kept');
          }
        },
      }),
      connectTimeout: connectTimeoutMs,
      // A watcher that is behind is passed over long before its stream is full; this is for one that is stuck.
      drainTimeout: 10_000,
      // Packets that a client sends right behind CONNECT, without waiting for the answer.
      queueLimit: 1000,
      // A client's id gets its owner's name in front, see #preConnect.
      maxClientsIdLength: 65_535,
      preConnect: (client, packet, done) => {
        // Sessions are not kept (see BrokerMemory), so each connection starts a clean one.
        packet.clean = true;
        // Or a device could throw out another by connecting under its client id.
        if (packet.clientId) packet.clientId = `${packet.username || 'anonymous'}:${packet.clientId}`;
        done(client.conn instanceof GuardedConnection ? null : new Error('unguarded connection'), true);
      },
      authenticate: (client, username, password, done) => {
        this.#authenticate(client, username, password).then(
          (principal) => {
            this.#principals.set(client, principal);
            done(null, true);
          },
          (error: AuthenticateError) => {
            this.stats.refusedConnections++;
            const device = username && uuidPattern.test(username) ? username : undefined;
            this.#log.warn({ device, reason: error.message }, 'an MQTT connection was refused');
            done(error, false);
          },
        );
      },
      authorizePublish: (client, packet, done) =>
        this.#authorizePublish(client, packet as AedesPublishPacket, done),
      authorizeSubscribe: (client, subscription, done) => {
        const principal = this.#principals.get(client);
        const { topic } = subscription;
        const held = Object.keys(subscriptionsOf(client)).length;
        if (principal && maySubscribe(principal, topic) && held < this.#limits.maxSubscriptions) {
          done(null, subscription);
          return;
        }
        this.stats.refusedSubscriptions++;
        this.#log.warn({ client: client.id, filter: topic }, 'an MQTT subscription was refused');
        // Answered with 128 in the SUBACK.
        done(null, null);
      },
      authorizeForward: (client, packet) =>
        mayReceive(this.#principals.get(client), packet.topic) && this.#mayForward(client, packet)
          ? packet
          : null,
    });
    this.#aedes.on('client', (client) => {
      this.stats.clients++;
      this.#clients.add(client);
      this.#hold(client);
    });
    this.#aedes.on('subscribe', (subscriptions, client) => this.#tellTarget(client, subscriptions));
    this.#aedes.on('clientDisconnect', (client) => {
      this.stats.clients--;
      this.#clients.delete(client);
      this.#sessions.get(client)?.[Symbol.dispose]();
    });
    this.#aedes.on('clientError', (client, error) =>
      this.#log.debug({ client: client.id, error: errorText(error) }, 'an MQTT connection failed'),
    );
    this.#aedes.on('connectionError', (_client, error) =>
      this.#log.debug({ error: errorText(error) }, 'an MQTT connection failed before it was one'),
    );
    this.#server = createServer({ keepAlive: true, keepAliveInitialDelay: 60_000, noDelay: true }, (socket) =>
      this.accept(socket, { address: socket.remoteAddress ?? '', direct: true }),
    );
  }

  static async open(options: EmbeddedBrokerOptions): Promise<EmbeddedBroker> {
    const broker = new EmbeddedBroker(options);
    await broker.#aedes.listen();
    return broker;
  }

  /**
   * Starts to listen for plain TCP connections, and returns the port.
   *
   * @throws MillraceError `PORT_TAKEN`
   */
  listen(host: string, port: number): Promise<number> {
    return listen(this.#server, { host, port, variable: 'MQTT_PORT' });
  }

  /** Takes over a connection: a socket, or the stream of a WebSocket. */
  accept(inner: Duplex, peer: { address: string; direct: boolean }): void {
    const { maxConnections, maxPacketBytes, maxConnectBytes, maxBehindBytes } = this.#limits;
    // Errors are reported by the guard; this one is for connections that never get a guard.
    inner.on('error', (error) => this.#log.debug({ error: errorText(error) }, 'an MQTT peer went away'));
    if (this.#closed || this.#sockets.size >= maxConnections) {
      this.stats.refusedConnections++;
      inner.destroy();
      return;
    }
    this.#sockets.add(inner);
    inner.once('close', () => this.#sockets.delete(inner));
    const connection = new GuardedConnection({
      inner,
      ...peer,
      maxPacketBytes,
      maxConnectBytes,
      // Over what `#mayForward` lets wait, so that no write of ours is ever told to hold on.
      maxWaitingBytes: maxBehindBytes + 2 * maxPacketBytes,
    });
    this.#aedes.handle(connection);
  }

  /** Until what it was opened with opens nothing any more. */
  #hold(client: Client): void {
    const principal = this.#principals.get(client);
    const hash = this.#hashes.get(client);
    if (!principal || hash === undefined || principal.kind === 'anonymous') return;
    const { sessions } = this.#options;
    const end = () => void client.conn.destroy();
    const session =
      principal.kind === 'device'
        ? sessions.ofDevice(principal.uuid, hash, end)
        : sessions.ofToken(hash, end);
    this.#sessions.set(client, session);
  }

  /**
   * Tells those devices that are connected of their targets. Nothing is retained: a device that subscribes is told as
   * if it were, and the targets of a large fleet need no memory here.
   */
  async targetsChanged(devices: readonly string[]): Promise<void> {
    const connected = new Set<string>();
    for (const client of this.#clients) {
      const principal = this.#principals.get(client);
      if (principal?.kind === 'device') connected.add(principal.uuid);
      // Whoever watches all of them.
      if (principal?.kind === 'admin') for (const device of devices) connected.add(device);
    }
    for (const device of devices) {
      if (!connected.has(device)) continue;
      await this.#withTarget(device, (payload) => this.publish(deviceTopic(device, 'target'), payload, 1));
    }
  }

  #tellTarget(client: Client, subscriptions: readonly { topic: string }[]): void {
    const principal = this.#principals.get(client);
    if (principal?.kind !== 'device') return;
    const topic = deviceTopic(principal.uuid, 'target');
    if (!subscriptions.some((subscription) => topicMatches(subscription.topic, topic))) return;
    this.#withTarget(principal.uuid, (payload) => {
      if (payload === '' || !this.#clients.has(client)) return;
      const packet = { cmd: 'publish', topic, payload, qos: 1, retain: true, dup: false } as const;
      client.publish(packet as never, (error) => {
        if (error) this.#log.debug({ client: client.id, error: errorText(error) }, 'a target was not sent');
      });
    });
  }

  /** One after another, so that an older target never goes out behind a newer one. */
  #withTarget(device: string, send: (payload: string) => void): Promise<void> {
    this.#telling = this.#telling.then(async () => {
      if (this.#closed) return;
      try {
        send(await this.#options.targets.message(device));
      } catch (error) {
        this.#log.warn({ device, error: errorText(error) }, 'a device was not told of its target');
      }
    });
    return this.#telling;
  }

  /** Publishes as the cloud itself. */
  publish(topic: string, payload: string, qos: 0 | 1 = 0): void {
    if (this.#closed) return;
    this.#aedes.publish(
      { cmd: 'publish', topic, payload, qos, retain: false, dup: false },
      (error?: Error | null) => {
        if (error) this.#log.warn({ topic, error: errorText(error) }, 'a message could not be published');
      },
    );
  }

  async #authenticate(
    client: Client,
    username: string | undefined,
    password: Buffer | undefined,
  ): Promise<Principal> {
    const { identity, anonymous } = this.#options;
    const connection = client.conn as GuardedConnection;
    if (!username) {
      const isLocal = connection.direct && isLoopback(connection.address);
      if (anonymous === 'loopback' && isLocal) return { kind: 'anonymous' };
      throw refusal(5, 'no user name');
    }
    const secret = password?.toString('utf8');
    let known: boolean;
    try {
      known =
        username === adminUser ? await identity.isAdmin(secret) : await identity.isDevice(username, secret);
    } catch (error) {
      throw refusal(3, `credentials cannot be checked: ${errorText(error)}`);
    }
    if (!known) throw refusal(4, 'wrong user name or password');
    this.#hashes.set(client, hashSecret(secret ?? ''));
    return username === adminUser ? { kind: 'admin' } : { kind: 'device', uuid: username };
  }

  #authorizePublish(
    client: Client | null,
    packet: AedesPublishPacket,
    done: (error?: Error | null) => void,
  ): void {
    const principal = client ? this.#principals.get(client) : undefined;
    const { topic } = packet;
    if (!principal || !mayPublish(principal, topic)) {
      this.stats.refusedPublishes++;
      this.#log.warn({ client: client?.id, topic }, 'an MQTT publish was refused');
      // aedes closes the connection: MQTT 3.1.1 has no other way to say no.
      done(new Error(`not allowed to publish on ${topic}`));
      return;
    }
    const own = principal.kind === 'device' ? parseDeviceTopic(topic) : undefined;
    if (own?.channel === 'logs') this.#gate(own.uuid, packet, done);
    else {
      if (own?.channel === 'status') this.#options.presence.status(own.uuid, toBuffer(packet.payload));
      done();
    }
  }

  #gate(uuid: string, packet: AedesPublishPacket, done: (error?: Error | null) => void): void {
    if (this.#leaving) {
      // It closes the connection, and the device comes again with what has no answer.
      done(new Error('the cloud is stopping'));
      return;
    }
    const payload = toBuffer(packet.payload);
    const stored = this.#options.inbox.logs(uuid, payload, packet.dup).then((acks) => {
      for (const ack of acks) this.publish(deviceTopic(uuid, 'logs/ack'), ack);
    });
    const failed = (error: unknown) => {
      this.#log.warn({ device: uuid, error: errorText(error) }, 'lines were not stored and not confirmed');
      return error instanceof Error ? error : new Error(String(error));
    };
    const isUngated = packet.qos === 0 && this.#ungatedBytes + payload.length <= this.#limits.maxUngatedBytes;
    if (!isUngated) {
      stored.then(
        () => done(),
        (error) => done(failed(error)),
      );
      return;
    }
    this.#ungatedBytes += payload.length;
    stored.catch(failed).finally(() => {
      this.#ungatedBytes -= payload.length;
    });
    done();
  }

  /** Keeps a watcher that does not keep up from holding up those who publish. */
  #mayForward(client: Client, packet: AedesPublishPacket): boolean {
    const connection = client.conn as GuardedConnection;
    if (connection.writableLength <= this.#limits.maxBehindBytes) {
      this.#behind.delete(client);
      return true;
    }
    this.stats.passedOver++;
    if (packet.qos > 0 && subscribedAbove0(client, packet.topic)) {
      this.#log.warn(
        { client: client.id },
        'an MQTT subscriber reads too slowly for QoS 1 and is disconnected',
      );
      connection.destroy(new Error('subscriber too slow'));
    } else if (!this.#behind.has(client)) {
      this.#behind.add(client);
      this.#log.warn({ client: client.id }, 'an MQTT subscriber reads too slowly and misses messages');
    }
    return false;
  }

  /** Takes no more lines. What was taken is answered when it is committed. */
  leave(): void {
    this.#leaving = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    if (!this.#server.listening) this.#server.unref();
    await new Promise<void>((resolve) => this.#aedes.close(resolve));
    for (const socket of this.#sockets) (socket as Socket).destroy();
    await stopped;
  }
}

/** aedes does not type them. */
function subscriptionsOf(client: Client): Record<string, { qos: number }> {
  return (client as unknown as { subscriptions: Record<string, { qos: number }> }).subscriptions;
}

/** Whether a message of QoS 1 or 2 would reach the client as such. */
function subscribedAbove0(client: Client, topic: string): boolean {
  return Object.entries(subscriptionsOf(client)).some(
    ([filter, { qos }]) => qos > 0 && topicMatches(filter, topic),
  );
}

function refusal(returnCode: number, message: string): AuthenticateError {
  return Object.assign(new Error(message), { returnCode });
}

function toBuffer(payload: string | Buffer): Buffer {
  return typeof payload === 'string' ? Buffer.from(payload) : payload;
}
