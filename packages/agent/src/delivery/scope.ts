import type { Feed } from '../logging/types.ts';
import { aborted, withDeadline } from './pause.ts';
import type { SendWindow } from './send-window.ts';

export interface DeliveryScopeOptions {
  /** The backend is asked to stop. */
  stop: AbortSignal;
  /** The connection is gone. */
  closed: AbortSignal;
  window: SendWindow;
  /** Set when the feed is memory: it is emptied before the end, where a journal keeps what is left. */
  memory: Feed | undefined;
  /** How long the end may take after `stop`, in ms. */
  drainMs: number;
}

/**
 * The two signals that the delivery over one connection obeys:
 *
 *   read   no more lines are to be read: the connection is gone, `stop` (with memory: once it is empty), or
 *          {@link stopReading}
 *   over   nothing more can be sent or awaited: the connection is gone, or the time to stop is up
 */
export class DeliveryScope implements AsyncDisposable {
  readonly read: AbortSignal;
  readonly over: AbortSignal;
  readonly #read = new AbortController();
  readonly #over = new AbortController();
  readonly #stack = new DisposableStack();
  readonly #draining: Promise<void>;

  constructor(options: DeliveryScopeOptions) {
    const never = Number.POSITIVE_INFINITY;
    this.over = this.#stack.use(withDeadline([options.closed, this.#over.signal], never)).signal;
    this.read = this.#stack.use(withDeadline([this.over, this.#read.signal], never)).signal;
    this.#draining = this.#drain(options);
  }

  stopReading(): void {
    this.#read.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#draining;
    this.#stack.dispose();
  }

  async #drain({ stop, window, memory, drainMs }: DeliveryScopeOptions): Promise<void> {
    using stopped = withDeadline([stop, this.over], Number.POSITIVE_INFINITY);
    await aborted(stopped.signal);
    using deadline = withDeadline(this.over, drainMs);
    while (memory && memory.lag().lines > 0 && !deadline.signal.aborted) {
      await window.changed(deadline.signal);
    }
    this.#read.abort();
    await aborted(deadline.signal);
    this.#over.abort();
  }
}
