import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect } from 'vitest';

interface Media {
  schema?: object;
}
interface Operation {
  summary?: string;
  tags?: string[];
  responses: Record<string, { description?: string; content?: Record<string, Media> }>;
  parameters?: { name: string; in: string; description?: string }[];
}

/** The OpenAPI document of a cloud, and which of its operations were seen to answer as it says. */
export class Described {
  readonly paths: Record<string, Record<string, Operation>>;
  readonly seen = new Set<string>();
  readonly #ajv = new Ajv2020({ strict: false });

  constructor(document: unknown) {
    const { openapi, paths } = document as { openapi: string; paths: Described['paths'] };
    expect(openapi).toBe('3.1.0');
    this.paths = paths;
  }

  get operations(): { name: string; operation: Operation }[] {
    return Object.entries(this.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        name: `${method.toUpperCase()} ${path}`,
        operation,
      })),
    );
  }

  /** A fetch that checks every answer against the document. */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    const response = await globalThis.fetch(input, init);
    const method = (init?.method ?? 'GET').toLowerCase();
    const { pathname } = new URL(String(input));
    // The document itself is not in it.
    if (pathname === '/api/v1/openapi.json') return response;
    const path = this.#pathOf(pathname, method);
    const name = `${method.toUpperCase()} ${path}`;
    const { responses = {} } = this.paths[path]?.[method] ?? {};
    const answer = responses[response.status] ?? responses[`${Math.floor(response.status / 100)}XX`];
    if (!answer) throw new Error(`${name}: nothing is said about ${response.status}`);
    if (response.ok) this.seen.add(name);
    const type = response.headers.get('content-type')?.split(';', 1)[0] ?? '';
    if (!answer.content) {
      expect(response.headers.get('content-length') ?? '0', name).toBe('0');
      return response;
    }
    // A problem is described as JSON, of which it is a kind.
    const schema = (answer.content[type] ?? (response.ok ? undefined : answer.content['application/json']))
      ?.schema;
    if (!schema) throw new Error(`${name}: nothing is said about an answer in ${type}`);
    if (!/^application\/(problem\+)?json$/.test(type)) return response;
    const text = await response.text();
    if (!this.#ajv.validate(schema, JSON.parse(text))) {
      throw new Error(`${name} answers what its schema does not have: ${this.#ajv.errorsText()}`);
    }
    return new Response(text, response);
  };

  #pathOf(pathname: string, method: string): string {
    const fits = (path: string) =>
      this.paths[path]?.[method] !== undefined &&
      new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}$`).test(pathname);
    // Without parameters first: those are the closest.
    const path = Object.keys(this.paths)
      .sort((a, b) => Number(a.includes('{')) - Number(b.includes('{')))
      .find(fits);
    if (!path) throw new Error(`${method} ${pathname} is not in the document`);
    return path;
  }
}
