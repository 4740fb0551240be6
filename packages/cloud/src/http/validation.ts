import { type ErrorCode, MillraceError } from '@millrace/wire';
import type { FastifySchemaCompiler } from 'fastify';
import type { z } from 'zod';

/**
 * Checks a part of a request with its zod schema. All that is wrong is named, parameters that do not exist
 * included: a misspelt filter that were passed over would show the lines of everybody.
 */
export const validate: FastifySchemaCompiler<z.ZodType> = ({ schema, httpPart }) => {
  const code: ErrorCode = httpPart === 'body' ? 'BODY_INVALID' : 'PARAMETER_INVALID';
  return (value) => {
    const parsed = schema.safeParse(value);
    if (parsed.success) return { value: parsed.data };
    const known = 'shape' in schema ? Object.keys(schema.shape as object).join(', ') : '';
    const wrong = parsed.error.issues.map((issue) => {
      if (issue.code === 'unrecognized_keys') {
        const names = issue.keys.map((key) => `"${key}"`).join(', ');
        return `${names}: no such parameter${known ? ` (there are ${known})` : ''}`;
      }
      return `${issue.path.join('.') || 'body'}: ${issue.message}`;
    });
    return { error: new MillraceError(code, wrong.join('; ')) };
  };
};
