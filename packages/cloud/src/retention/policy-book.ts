import { errorText, type Level, levels } from '@millrace/wire';
import type { Logger } from 'pino';
import type { PolicyRecord } from '../records/policies.ts';
import { type DaysByLevel, type Retention, retentionPlan } from '../store/retention-plan.ts';

/** What the book needs of the records. */
export interface PolicySource {
  policies: { list(): Promise<PolicyRecord[]> };
  devices: { fleetOfEach(): Promise<Map<string, string>> };
}

export interface PolicyBookOptions {
  records: PolicySource;
  log: Logger;
  /** For lines that no policy speaks of. */
  defaultDays: number;
  /** For devices that no policy speaks of; none when left out. */
  defaultQuotaBytes?: number;
  /** How often policies are read again: other processes change them too. Default 10 s. */
  refreshMs?: number;
}

/** Devices whose policies are kept worked out; a device past that is worked out each time that it is new. */
const maxDevices = 50_000;

/** What holds for all lines of a device. */
interface DeviceTerms {
  retention: Retention;
  quotaBytes: number | undefined;
}

/**
 * The policies, worked out per device. Of those that are for a line the most specific counts: one that names the device
 * before one that names its fleet before one that names neither; among these one that names the service, and then one
 * that names the level. Retention and quota are looked for each by itself.
 *
 * A change holds for what arrives after it: at once here, in other processes as soon as they look again.
 */
export class PolicyBook implements AsyncDisposable {
  readonly #options: PolicyBookOptions;
  readonly #devices = new Map<string, DeviceTerms>();
  #policies: readonly PolicyRecord[] = [];
  #fleets: ReadonlyMap<string, string> = new Map();
  #timer: NodeJS.Timeout | undefined;
  #refreshing: Promise<void> | undefined;
  #known = '';
  #closed = false;

  private constructor(options: PolicyBookOptions) {
    this.#options = options;
  }

  /** @throws when the records cannot be read */
  static async open(options: PolicyBookOptions): Promise<PolicyBook> {
    const book = new PolicyBook(options);
    await book.refresh();
    book.#watch();
    return book;
  }

  /** How long lines of a device are kept. */
  retention(device: string): Retention {
    return this.#termsOf(device).retention;
  }

  /** What a device may send in a day, in bytes of messages; `undefined` for any amount. */
  quotaBytes(device: string): number | undefined {
    return this.#termsOf(device).quotaBytes;
  }

  /** Whether there is any quota. */
  get hasQuotas(): boolean {
    return (
      this.#options.defaultQuotaBytes !== undefined ||
      this.#policies.some(({ dailyQuotaBytes }) => dailyQuotaBytes !== null)
    );
  }

  /** Reads the policies now. */
  async refresh(): Promise<void> {
    // A change that is to hold from now on may have come behind the reading that is going on.
    await this.#refreshing?.catch(() => undefined);
    this.#refreshing = this.#read();
    await this.#refreshing;
  }

  async #read(): Promise<void> {
    const { records } = this.#options;
    const policies = await records.policies.list();
    const namesFleets = policies.some(({ fleet }) => fleet !== null);
    const fleets = namesFleets ? await records.devices.fleetOfEach() : new Map<string, string>();
    const known = JSON.stringify([policies, [...fleets]]);
    if (known === this.#known) return;
    this.#known = known;
    this.#policies = policies;
    this.#fleets = fleets;
    this.#devices.clear();
  }

  #watch(): void {
    let complained = false;
    const look = async () => {
      try {
        await this.refresh();
        complained = false;
      } catch (error) {
        if (!complained) {
          this.#options.log.warn(
            { reason: errorText(error) },
            'policies cannot be read; those read last hold',
          );
        }
        complained = true;
      }
      if (!this.#closed) this.#timer = setTimeout(look, this.#options.refreshMs ?? 10_000);
    };
    this.#timer = setTimeout(look, this.#options.refreshMs ?? 10_000);
  }

  #termsOf(device: string): DeviceTerms {
    const known = this.#devices.get(device);
    if (known) return known;
    const terms = this.#workOut(device);
    if (this.#devices.size >= maxDevices) this.#devices.clear();
    this.#devices.set(device, terms);
    return terms;
  }

  #workOut(device: string): DeviceTerms {
    const { defaultDays, defaultQuotaBytes } = this.#options;
    const fleet = this.#fleets.get(device) ?? null;
    // The most specific first.
    const applying = this.#policies
      .filter((policy) => policy.device === null || policy.device === device)
      .filter((policy) => policy.fleet === null || policy.fleet === fleet)
      .sort((a, b) => specificity(b) - specificity(a));
    const daysOf = (service: string | null, level: Level) =>
      applying.find(
        (policy) =>
          policy.retentionDays !== null &&
          (policy.service === null || policy.service === service) &&
          (policy.level === null || policy.level === level),
      )?.retentionDays ?? defaultDays;
    const byLevel = (service: string | null) =>
      Object.fromEntries(levels.map((level) => [level, daysOf(service, level)])) as DaysByLevel;
    const services = new Set(
      applying.flatMap(({ service, retentionDays }) => (retentionDays === null ? [] : (service ?? []))),
    );
    const quota = applying.find(({ dailyQuotaBytes }) => dailyQuotaBytes !== null)?.dailyQuotaBytes;
    return {
      retention: retentionPlan(byLevel(null), new Map([...services].map((name) => [name, byLevel(name)]))),
      quotaBytes: quota ?? defaultQuotaBytes,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#refreshing?.catch(() => undefined);
  }
}

function specificity({ device, fleet, service, level }: PolicyRecord): number {
  return (
    (device === null ? 0 : 8) +
    (fleet === null ? 0 : 4) +
    (service === null ? 0 : 2) +
    (level === null ? 0 : 1)
  );
}
