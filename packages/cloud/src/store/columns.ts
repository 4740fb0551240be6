import { MillraceError } from '@millrace/wire';
import { fieldShownSql } from '../query/fields.ts';
import { queryLimits } from '../query/limits.ts';

/** Longest value that is told apart when lines are counted by value; in characters. */
const maxValueChars = 256;

/**
 * A field by its name in the query language, as a value to count by: text, or NULL for a line that has none.
 *
 * @throws MillraceError `PARAMETER_INVALID` for a name that cannot be counted by
 */
export function columnSql(name: string): string {
  switch (name) {
    case 'level':
      return 'toNullable(toString(level))';
    case 'stream':
      return `toNullable(if(is_stderr, 'stderr', 'stdout'))`;
    case 'device':
      return 'toNullable(device)';
    case 'service':
    case 'app':
    case 'container':
      return `nullIf(toString(${name}), '')`;
    case 'message':
      return `toNullable(substringUTF8(message, 1, ${maxValueChars}))`;
  }
  const path = name.startsWith('fields.') ? name.slice('fields.'.length) : name;
  if (
    path === '' ||
    path.length > queryLimits.maxFieldLength ||
    path.split('.').length > queryLimits.maxFieldDepth
  ) {
    throw new MillraceError('PARAMETER_INVALID', `"${name.slice(0, 40)}" is not the name of a field`);
  }
  return `substringUTF8(${fieldShownSql(path)}, 1, ${maxValueChars})`;
}
