import { problemType } from './problems.ts';

interface Response {
  description?: string;
  content?: Record<string, unknown>;
}

/**
 * Corrects what the OpenAPI document says of errors: the routes name one schema for them, and the generator takes it for
 * `application/json`. Problem documents have a type of their own (RFC 9457), for failures of the server as well.
 */
export function documentProblems<T extends object>(document: T): T {
  const { paths = {} } = document as { paths?: Record<string, Record<string, object>> };
  for (const operations of Object.values(paths)) {
    for (const operation of Object.values(operations)) {
      const { responses } = operation as { responses?: Record<string, Response> };
      const refused = responses?.['4XX'];
      const schema = refused?.content?.['application/json'];
      if (!responses || !refused || !schema) continue;
      refused.content = { [problemType]: schema };
      responses['5XX'] ??= { ...refused };
    }
  }
  return document;
}
