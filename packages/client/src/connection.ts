import { type ErrorCode, errorCatalogue, errorText, MillraceError, type Problem } from '@millrace/wire';

/** Where the server is and what opens it. */
export interface Access {
  /** Without a slash at the end; empty in a page that the server itself gave. */
  url: string;
  token: string;
}

export interface ClientOptions extends Access {
  /** Finds the access anew when the token is no longer accepted. */
  renew?: () => Promise<Access>;
  /** By default the one that there is. */
  fetch?: typeof globalThis.fetch;
}

export interface RequestOptions {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Sent as JSON; a text as it is. */
  body?: unknown;
  contentType?: string;
  /** Instead of the client's token: a device's key, or the join key. */
  token?: string;
  /** Statuses beside those of success that are an answer, too. */
  accept?: readonly number[];
  signal?: AbortSignal;
}

/** What the server refused, with all that it said: the place of an error in a query, for one. */
export class ServerProblem extends MillraceError {
  readonly problem: Partial<Problem> & Record<string, unknown>;

  constructor(code: ErrorCode, detail: string, problem: Partial<Problem> & Record<string, unknown>) {
    super(code, detail);
    this.name = 'ServerProblem';
    this.problem = problem;
  }
}

/**
 * Requests to one server. All throw MillraceError: `SERVER_UNREACHABLE`, `TOKEN_UNUSABLE`, or what the server answered
 * ({@link ServerProblem}); and what the signal was aborted with.
 */
export class Connection {
  #access: Access;
  readonly #renew: (() => Promise<Access>) | undefined;
  readonly #fetch: typeof globalThis.fetch;

  constructor({ url, token, renew, fetch = globalThis.fetch }: ClientOptions) {
    this.#access = { url, token };
    this.#renew = renew;
    // Called as a function of ours it would be no method of the window, which browsers insist on.
    this.#fetch = (input, init) => fetch(input, init);
  }

  async json<T>(path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.request(path, options);
    try {
      return (await response.json()) as T;
    } catch (error) {
      throw this.#failure(error, options.signal);
    }
  }

  async request(path: string, options: RequestOptions = {}): Promise<Response> {
    let response = await this.#send(path, options);
    if (response.status === 401 && this.#renew && options.token === undefined) {
      const renewed = await this.#renew();
      if (renewed.token !== this.#access.token) {
        await response.body?.cancel();
        this.#access = renewed;
        response = await this.#send(path, options);
      }
    }
    if (response.ok || options.accept?.includes(response.status)) return response;
    throw await this.#refusal(response);
  }

  /** The bytes of an answer. A connection that breaks is an error, and never looks like the end. */
  async *bytes(response: Response, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const reader = response.body?.getReader();
    if (!reader) return;
    // Not every browser can iterate over a body.
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        yield value;
      }
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new MillraceError('SERVER_UNREACHABLE', `the connection broke (${reasonOf(error)})`, {
        cause: error,
      });
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  /** An answer that no server of ours gives. */
  stranger(cause?: unknown): MillraceError {
    return new MillraceError(
      'SERVER_UNREACHABLE',
      `${this.#place} answers, but not as a Millrace server does`,
      { cause },
    );
  }

  get #place(): string {
    return this.#access.url || 'this server';
  }

  async #send(
    path: string,
    { method = 'GET', body, contentType, token, signal }: RequestOptions,
  ): Promise<Response> {
    try {
      return await this.#fetch(`${this.#access.url}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token ?? this.#access.token}`,
          ...(body !== undefined && { 'content-type': contentType ?? 'application/json' }),
        },
        ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
        // A redirect would carry the token to somewhere nobody named.
        redirect: 'manual',
        ...(signal && { signal }),
      });
    } catch (error) {
      throw this.#failure(error, signal);
    }
  }

  #failure(error: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return signal.reason;
    if (error instanceof SyntaxError) return this.stranger(error);
    return new MillraceError('SERVER_UNREACHABLE', `${this.#place} (${reasonOf(error)})`, { cause: error });
  }

  async #refusal(response: Response): Promise<MillraceError> {
    let problem: Partial<Problem> & Record<string, unknown>;
    try {
      problem = (await response.json()) as typeof problem;
    } catch (error) {
      return new MillraceError('SERVER_UNREACHABLE', `${this.#place} answers ${response.status}`, {
        cause: error,
      });
    }
    if (response.status === 401) {
      return new ServerProblem('TOKEN_UNUSABLE', `${this.#place} does not accept the token`, problem);
    }
    const code = Object.keys(errorCatalogue).find((known) => known === problem.code) as ErrorCode | undefined;
    if (!code) return this.stranger();
    return new ServerProblem(
      code,
      String(problem.detail ?? `the server answers ${response.status}`),
      problem,
    );
  }
}

/** fetch hides what happened in the cause of its error. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause === undefined ? errorText(error) : ((cause as { code?: string }).code ?? errorText(cause));
}
