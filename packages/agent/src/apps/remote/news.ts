import { errorText } from '@millrace/wire';
import type { Logger } from 'pino';
import type { TargetFollower } from './follower.ts';

export interface TargetNewsOptions {
  /** Documents that come over MQTT count, and not only that there is a new one. */
  trustsMqtt: boolean;
  /** `undefined` when no cloud may say what runs here, and before there is one to tell. */
  follower: () => TargetFollower | undefined;
  log: Logger;
}

/** What the connections to a cloud hear of the device's target, on its way to the follower. */
export class TargetNews {
  readonly #options: TargetNewsOptions;

  constructor(options: TargetNewsOptions) {
    this.#options = options;
  }

  /** There is this version. */
  hear(version: string): void {
    this.#options.follower()?.hear(version);
  }

  /** A message on the device's target topic. An empty one says that there is no target, and so nothing. */
  take(payload: Buffer): void {
    if (payload.length === 0) return;
    this.#take(payload).catch((error: unknown) => {
      this.#options.log.error({ error: errorText(error) }, 'a message with a target cannot be read');
    });
  }

  async #take(payload: Buffer): Promise<void> {
    const { follower, trustsMqtt, log } = this.#options;
    // Loaded here, since most devices never get such a message.
    const { decodeTargetMessage } = await import('@millrace/wire/apps');
    const message = decodeTargetMessage(payload.toString('utf8'));
    const target = follower();
    if (!message || !target) return;
    if (!trustsMqtt) target.hear(message.version);
    else if (message.state !== undefined) target.offer(message.version, message.state);
    else if (target.canAsk) target.hear(message.version);
    else
      log.warn(
        { version: message.version },
        'the target is too large for MQTT, and there is no CLOUD_ENDPOINT',
      );
  }
}
