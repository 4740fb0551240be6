import { MillraceError } from '@millrace/wire';
import type { DeviceGroup, Query } from './ast.ts';
import { queryLimits } from './limits.ts';
import { nameTest } from './to-predicate.ts';

/** Knows which devices belong together: the records do. */
export interface DeviceGroups {
  /** The values that there are: names of fleets, or what devices have under a tag's key. */
  groupValues(group: DeviceGroup): Promise<string[]>;
  /** Uuids of the devices that have one of these values. */
  inGroup(group: DeviceGroup, values: readonly string[]): Promise<string[]>;
}

/**
 * A query in which each condition on a fleet or a tag is the set of devices that meet it at this moment. Both ways of
 * answering a query begin here: neither store nor tail knows of fleets.
 *
 * @throws MillraceError `QUERY_INVALID` when that is too many devices
 */
export async function resolveGroups(query: Query, groups: DeviceGroups | undefined): Promise<Query> {
  switch (query.kind) {
    case 'and':
    case 'or': {
      const parts: Query[] = [];
      for (const part of query.parts) parts.push(await resolveGroups(part, groups));
      return { ...query, parts };
    }
    case 'not':
      return { ...query, part: await resolveGroups(query.part, groups) };
    case 'group': {
      if (!groups) throw new MillraceError('QUERY_INVALID', 'query: fleets and tags are not known here');
      const matches = nameTest(query.test);
      const values = (await groups.groupValues(query.group)).filter(matches);
      const devices = await groups.inGroup(query.group, values);
      if (devices.length > queryLimits.maxDevices) {
        throw new MillraceError(
          'QUERY_INVALID',
          `query: ${devices.length} devices are in such fleets or have such tags; at most ${queryLimits.maxDevices} can be asked for`,
        );
      }
      return { kind: 'devices', devices: new Set(devices) };
    }
    default:
      return query;
  }
}
