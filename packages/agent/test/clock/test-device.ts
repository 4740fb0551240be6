import { type ClockSource, DeviceClock } from '../../src/clock/device-clock.ts';

/** A device without a battery clock, and the true time, which it does not know. */
export class TestDevice implements ClockSource {
  boot = 'boot0';
  trueMs = Date.UTC(2026, 10, 20, 12);
  #bootedMs = this.trueMs;
  /** What its clock showed when it booted. */
  #offset = 0;
  #boots = 0;

  /** Boots with a clock that shows `wallMs`. */
  reboot(wallMs: number): void {
    this.boot = `boot${++this.#boots}`;
    this.#bootedMs = this.trueMs;
    this.#offset = wallMs;
  }

  pass(ms: number): void {
    this.trueMs += ms;
  }

  /** Sets the clock, to the true time unless told otherwise. */
  set(wallMs = this.trueMs): void {
    this.#offset = wallMs - this.sinceBootMs();
  }

  wallMs(): number {
    return this.#offset + this.sinceBootMs();
  }

  sinceBootMs(): number {
    return this.trueMs - this.#bootedMs;
  }

  tickMs(): number {
    return this.sinceBootMs();
  }

  clock(): DeviceClock {
    return new DeviceClock(this);
  }
}
