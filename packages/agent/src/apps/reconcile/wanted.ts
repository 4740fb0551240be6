import { keepsRunning, parseApp } from '@millrace/wire/apps';
import { configOf } from '../engine/create-body.ts';
import type { AppRecord } from '../target/store.ts';
import { imagesOf, keptName, type WantedApp } from './plan.ts';

/** Whether the release before is in the place of the one that was asked for. */
export function isRolledBack({ outcome, good }: AppRecord): boolean {
  return outcome === 'failed' && good !== undefined;
}

/** The release that shall be there now. */
export function releaseInPlace(record: AppRecord): number {
  return isRolledBack(record) && record.good ? record.good.release : record.release;
}

/**
 * What a record means at this moment.
 *
 * @throws MillraceError `APP_INVALID` when it was saved by a program that knew more
 */
export function wantedOf(record: AppRecord): WantedApp {
  const { good, outcome, stopped } = record;
  const { release, app: given } = outcome === 'failed' && good ? good : record;
  const app = parseApp(given);
  const isPending = outcome === 'pending';
  return {
    app,
    release,
    configs: new Map(app.services.map((service) => [service.serviceName, configOf(service)])),
    stopped: new Set(stopped),
    kept: new Set(isPending && good ? keptOf(good.app) : []),
    isPending,
  };
}

/**
 * The images of a record that its containers are made from or may have to be: those of the release in place and, while
 * it is not known whether that is any good, of the one to go back to.
 *
 * @throws MillraceError `APP_INVALID` when it was saved by a program that knew more
 */
export function imagesNeeded(record: AppRecord): string[] {
  if (record.removing) return [];
  const { app, isPending } = wantedOf(record);
  const before = isPending && record.good ? imagesOf(parseApp(record.good.app)) : [];
  return [...imagesOf(app), ...before];
}

/**
 * One that is not started again once it has ended would, stopped, look as if it had done its work: it is made anew
 * when it is needed again.
 */
function keptOf(given: unknown): string[] {
  return parseApp(given)
    .services.filter(keepsRunning)
    .map((service) => keptName(service.serviceName, configOf(service)));
}
