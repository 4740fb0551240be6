import {
  type AuditEntry,
  type BalenaLog,
  type Context,
  type Device,
  type DeviceStateReport,
  type Facets,
  type Gap,
  type Health,
  type Histogram,
  type LogInput,
  type LogPage,
  type Patterns,
  type Registration,
  type ReportedState,
  type StateChange,
  type StoredLine,
  statePath,
} from '@millrace/wire';
import { type ClientOptions, Connection, type RequestOptions } from './connection.ts';
import {
  type ContextQuery,
  type DeviceChanges,
  type DeviceLogsQuery,
  type DevicesQuery,
  type ExportQuery,
  type FacetsQuery,
  type HistogramQuery,
  type LineFilter,
  type PatternsQuery,
  parameters,
  type SearchQuery,
} from './queries.ts';
import { type AuditQuery, auditEntries, Fleets, pagesOf, SavedSearches, Tokens } from './records.ts';
import { Policies, StoreApi } from './store.ts';
import { type ExportFile, exportFile, objectsOf, type TailEvent, tailEvents } from './streams.ts';
import { Targets } from './targets.ts';

interface Signalled {
  signal?: AbortSignal;
}

/**
 * The API of a cloud. Every method throws MillraceError: `SERVER_UNREACHABLE`, `TOKEN_UNUSABLE`, or what the server
 * answered, a `ServerProblem`; and, once its signal is aborted, the reason of that.
 *
 *   const cloud = new MillraceClient({ url: 'https://logs.example.com', token });
 *   for await (const line of cloud.lines({ query: 'level:error', since: '1h' })) console.log(line.message);
 */
export class MillraceClient {
  readonly fleets: Fleets;
  readonly tokens: Tokens;
  readonly searches: SavedSearches;
  readonly policies: Policies;
  readonly store: StoreApi;
  readonly targets: Targets;
  readonly #connection: Connection;

  constructor(options: ClientOptions) {
    this.#connection = new Connection(options);
    this.fleets = new Fleets(this.#connection);
    this.tokens = new Tokens(this.#connection);
    this.searches = new SavedSearches(this.#connection);
    this.policies = new Policies(this.#connection);
    this.store = new StoreApi(this.#connection);
    this.targets = new Targets(this.#connection);
  }

  /** A page of lines. */
  search(query: SearchQuery = {}, { signal }: Signalled = {}): Promise<LogPage> {
    return this.#connection.json(`/api/v1/logs${parameters(query)}`, { signal });
  }

  /** All lines of a search, page by page. For many, {@link exportLines} is faster. */
  async *lines(query: SearchQuery = {}, options: Signalled = {}): AsyncGenerator<StoredLine> {
    let { cursor } = query;
    do {
      const page = await this.search({ limit: 1000, ...query, cursor }, options);
      yield* page.logs;
      cursor = page.cursor;
    } while (cursor !== undefined);
  }

  histogram(query: HistogramQuery = {}, { signal }: Signalled = {}): Promise<Histogram> {
    return this.#connection.json(`/api/v1/logs/histogram${parameters(query)}`, { signal });
  }

  facets(query: FacetsQuery = {}, { signal }: Signalled = {}): Promise<Facets> {
    return this.#connection.json(`/api/v1/logs/facets${parameters(query)}`, { signal });
  }

  context(query: ContextQuery, { signal }: Signalled = {}): Promise<Context> {
    return this.#connection.json(`/api/v1/logs/context${parameters(query)}`, { signal });
  }

  patterns(query: PatternsQuery = {}, { signal }: Signalled = {}): Promise<Patterns> {
    return this.#connection.json(`/api/v1/patterns${parameters(query)}`, { signal });
  }

  /**
   * Opens a tail: once this resolves, every matching line that arrives at the server comes out of the iterable. It ends
   * when the server ends it, and throws when the connection breaks.
   */
  async tail(filter: LineFilter = {}, { signal }: Signalled = {}): Promise<AsyncGenerator<TailEvent>> {
    const response = await this.#connection.request(`/api/v1/logs/tail${parameters(filter)}`, { signal });
    if (!response.headers.get('content-type')?.startsWith('text/event-stream'))
      throw this.#connection.stranger();
    return tailEvents(this.#connection, response, signal);
  }

  /** All lines of a query as a file. */
  async export(query: ExportQuery = {}, { signal }: Signalled = {}): Promise<ExportFile> {
    const response = await this.#connection.request(`/api/v1/export${parameters(query)}`, { signal });
    return exportFile(this.#connection, response, signal);
  }

  /** All lines of a query, however many. */
  async *exportLines(
    query: Omit<ExportQuery, 'format' | 'formulas'> = {},
    options: Signalled = {},
  ): AsyncGenerator<StoredLine> {
    const { bytes } = await this.export({ ...query, format: 'ndjson' }, options);
    yield* objectsOf<StoredLine>(this.#connection, bytes);
  }

  /** Every device that has registered or sent, by uuid. */
  devices(query: DevicesQuery = {}, { signal }: Signalled = {}): AsyncGenerator<Device> {
    return pagesOf(this.#connection, '/api/v1/devices', { name: 'devices', query, signal });
  }

  device(uuid: string, { signal }: Signalled = {}): Promise<Device> {
    return this.#connection.json(deviceAt(uuid), { signal });
  }

  /** Names a device, puts it into a fleet, tags it; what is left out stays. */
  changeDevice(uuid: string, body: DeviceChanges, { signal }: Signalled = {}): Promise<Device> {
    return this.#connection.json(deviceAt(uuid), { method: 'PATCH', body, signal });
  }

  /** What a device reports of itself. */
  deviceState(uuid: string, { signal }: Signalled = {}): Promise<ReportedState> {
    return this.#connection.json(`${deviceAt(uuid)}/state`, { signal });
  }

  /** How that changed, the newest first. */
  stateHistory(uuid: string, { signal }: Signalled = {}): AsyncGenerator<StateChange> {
    return pagesOf(this.#connection, `${deviceAt(uuid)}/state/history`, { name: 'changes', signal });
  }

  /** Reports as a device: what is left out is as it was, `null` takes away. */
  async reportState(
    uuid: string,
    report: DeviceStateReport,
    { deviceKey, signal }: Signalled & { deviceKey: string },
  ): Promise<void> {
    await this.#connection.request(statePath, {
      method: 'PATCH',
      body: { [uuid]: report },
      token: deviceKey,
      signal,
    });
  }

  /** Gives a device another key, and ends what it has open. */
  newDeviceKey(uuid: string, { signal }: Signalled = {}): Promise<Registration> {
    return this.#connection.json(`${deviceAt(uuid)}/key`, { method: 'POST', signal });
  }

  /** Forgets a device and its key; its lines stay until they expire. */
  async removeDevice(uuid: string, { signal }: Signalled = {}): Promise<void> {
    await this.#connection.request(deviceAt(uuid), { method: 'DELETE', signal });
  }

  /** What is missing of a device's lines. */
  async gaps(uuid: string, { signal }: Signalled = {}): Promise<Gap[]> {
    return (await this.#connection.json<{ gaps: Gap[] }>(`${deviceAt(uuid)}/gaps`, { signal })).gaps;
  }

  /** Who did what, the newest first. */
  audit(query: AuditQuery = {}, options: Signalled = {}): AsyncGenerator<AuditEntry> {
    return auditEntries(this.#connection, query, options);
  }

  /** A device's newest lines as balena's API shows them, oldest first. */
  deviceLogs(uuid: string, query: DeviceLogsQuery = {}, { signal }: Signalled = {}): Promise<BalenaLog[]> {
    return this.#connection.json(`/device/v2/${encodeURIComponent(uuid)}/logs${parameters(query)}`, {
      signal,
    });
  }

  /** The same, and then what arrives. */
  async followDeviceLogs(
    uuid: string,
    query: DeviceLogsQuery = {},
    { signal }: Signalled = {},
  ): Promise<AsyncGenerator<BalenaLog>> {
    const path = `/device/v2/${encodeURIComponent(uuid)}/logs${parameters({ ...query, stream: 1 })}`;
    const response = await this.#connection.request(path, { signal });
    return objectsOf<BalenaLog>(this.#connection, this.#connection.bytes(response, signal));
  }

  /** Registers a device; without a key it is given one. */
  register(
    device: { uuid: string; apiKey?: string; name?: string },
    { joinKey, signal }: Signalled & { joinKey: string },
  ): Promise<Registration> {
    const { uuid, apiKey, name } = device;
    const body = { uuid, api_key: apiKey, name };
    return this.#connection.json('/device/register', { method: 'POST', body, token: joinKey, signal });
  }

  /** Sends lines as a device. Resolves once they are stored. */
  async send(
    uuid: string,
    lines: readonly LogInput[],
    { deviceKey, signal }: Signalled & { deviceKey: string },
  ): Promise<void> {
    await this.#connection.request(`/device/v2/${encodeURIComponent(uuid)}/log-stream`, {
      method: 'POST',
      body: lines.map((line) => `${JSON.stringify(line)}\n`).join(''),
      contentType: 'application/x-ndjson',
      token: deviceKey,
      signal,
    });
  }

  /** Whether everything works; also when not. */
  health({ signal }: Signalled = {}): Promise<Health> {
    return this.#connection.json('/healthz', { signal, accept: [503] });
  }

  /** Figures for Prometheus, as text. */
  async metrics({ signal }: Signalled = {}): Promise<string> {
    return (await this.#connection.request('/metrics', { signal })).text();
  }

  /** The OpenAPI document. */
  openApi({ signal }: Signalled = {}): Promise<Record<string, unknown>> {
    return this.#connection.json('/api/v1/openapi.json', { signal });
  }

  /** Any other address of the API, whose answer is JSON. */
  request<T>(path: string, options: RequestOptions = {}): Promise<T> {
    return this.#connection.json(path, options);
  }
}

function deviceAt(uuid: string): string {
  return `/api/v1/devices/${encodeURIComponent(uuid)}`;
}
