export type { DeviceGroup, Query } from './ast.ts';
export { everyLine } from './ast.ts';
export { type DeviceGroups, resolveGroups } from './groups.ts';
export { parseQuery } from './parse.ts';
export { QueryError } from './query-error.ts';
export { devicesSql, mayRead, type Scope, scopeSql, unlimited } from './scope.ts';
export { queryPredicate } from './to-predicate.ts';
export { containsSql, querySql } from './to-sql.ts';
