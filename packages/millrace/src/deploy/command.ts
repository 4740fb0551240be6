import { setTimeout as pause } from 'node:timers/promises';
import type { Deployed, MillraceClient } from '@millrace/client';
import { type AppChange, MillraceError } from '@millrace/wire';
import { type Found, findDeviceOrFleet } from '../devices/find.ts';
import { type LogsContext, noticesOn, openClient } from '../logs/connect.ts';
import { painter, wantsColour } from '../terminal/colours.ts';
import { harmless } from '../terminal/harmless.ts';
import { readDeployment } from './file.ts';
import { type Outcome, type ProgressSeen, progressOfDevice, progressOfFleet } from './outcome.ts';
import { progressPrinter } from './printer.ts';

/** The command line of `millrace deploy`, as text. */
export interface DeployOptions {
  app?: string;
  batch?: string;
  maxFailures?: string;
  patience?: string;
  retry?: boolean;
  replace?: boolean;
  dryRun?: boolean;
  wait: boolean;
  timeout?: string;
  json?: boolean;
  url?: string;
}

export interface DeployContext extends LogsContext {
  stdin: NodeJS.ReadableStream;
  /** Default 1000: between two looks at the progress. */
  lookMs?: number;
  /** Default a minute: for so long the cloud may give no answer, as while it is restarted. */
  awayMs?: number;
}

const unitMs: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Deploys, and watches until it is through. Returns whether it went well: also when nobody wanted to watch.
 *
 * @throws MillraceError `PARAMETER_INVALID`, `APP_INVALID`, and as `openClient`
 */
export async function deploy(
  { to, file }: { to: string; file: string },
  options: DeployOptions,
  context: DeployContext,
): Promise<boolean> {
  const { stdout, env, signal, stdin } = context;
  // What is wrong here is told before anybody is asked.
  const pace = paceOf(options);
  const timeoutMs = options.timeout === undefined ? undefined : timeOf('--timeout', options.timeout);
  const deployment = await readDeployment(file, options.app, stdin);
  const notice = noticesOn(context);
  const client = await openClient(options.url, notice, context);
  const found = await findDeviceOrFleet(client, to, { fleets: true, signal });
  if (found.kind === 'device' && Object.keys(pace).length > 0) {
    throw new MillraceError(
      'PARAMETER_INVALID',
      `${to} is a device: --batch, --max-failures and --patience are for fleets`,
    );
  }
  const { retry, dryRun } = options;
  const request = { ...deployment, ...pace, ...(retry && { retry }), ...(dryRun && { dryRun }) };
  const how = { mode: options.replace ? ('replace' as const) : ('merge' as const), signal };
  const deployed =
    found.kind === 'device'
      ? await client.targets.deployToDevice(found.device.uuid, request, how)
      : await client.targets.deployToFleet(found.fleet.name, request, how);
  if (options.json) stdout.write(`${JSON.stringify(deployed)}\n`);
  else stdout.write(changesText(found, deployed, painter(wantsColour(stdout, env))));
  if (dryRun || !options.wait) return true;
  const watched =
    timeoutMs === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const outcome = await watch({ client, found, deployed, signal: watched, options, context });
  if (outcome) return outcome.isGood;
  notice(
    signal.aborted
      ? 'no longer watching; the deployment goes on'
      : `not through after ${options.timeout}; the deployment goes on`,
  );
  return false;
}

interface Watching {
  client: MillraceClient;
  found: Found;
  deployed: Deployed;
  signal: AbortSignal;
  options: DeployOptions;
  context: DeployContext;
}

/**
 * Looks until it is through; `undefined` when nobody wants to wait any longer. A cloud that is restarted meanwhile goes
 * on with the deployment, so its watcher does as well.
 *
 * @throws MillraceError what the cloud refused, or why it has given no answer for `awayMs`
 */
async function watch(watching: Watching): Promise<Outcome | undefined> {
  const { signal, options, context } = watching;
  const { stdout, env, lookMs = 1000, awayMs = 60_000 } = context;
  const printer = progressPrinter(stdout, { env, isJson: options.json === true });
  const notice = noticesOn(context);
  let answeredMs = performance.now();
  let isAway = false;
  try {
    for (;;) {
      const startedMs = performance.now();
      let seen: ProgressSeen;
      try {
        seen = await look(watching);
      } catch (error) {
        const mayPass = error instanceof MillraceError && error.status >= 500;
        if (signal.aborted || !mayPass) throw error;
        if (performance.now() - answeredMs > awayMs) {
          throw new MillraceError(error.code, `${error.detail}; the deployment goes on without a watcher`, {
            cause: error,
          });
        }
        if (!isAway) notice(`${error.detail}; the deployment goes on, looking again`);
        isAway = true;
        await pause(lookMs, undefined, { signal });
        continue;
      }
      if (isAway) notice('connected again');
      isAway = false;
      answeredMs = performance.now();
      printer.show(seen);
      if (seen.outcome) {
        printer.end(seen.outcome);
        return seen.outcome;
      }
      // How a large fleet is takes the cloud some time to tell.
      await pause(Math.max(lookMs, 4 * (performance.now() - startedMs)), undefined, { signal });
    }
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

async function look({ client, found, deployed, signal }: Watching): Promise<ProgressSeen> {
  if (found.kind === 'fleet') {
    return progressOfFleet(await client.targets.ofFleet(found.fleet.name, { limit: 1000 }, { signal }));
  }
  const apps = new Set(deployed.changes.map(({ appId }) => appId));
  return progressOfDevice(await client.targets.ofDevice(found.device.uuid, { signal }), apps);
}

function paceOf({ batch, maxFailures, patience }: DeployOptions) {
  if (batch !== undefined && !/^(?:[1-9]\d{0,5}|(?:[1-9]\d?|100)%)$/.test(batch)) {
    throw wrong('--batch', batch, 'a number of devices such as 5, or a share such as 25%');
  }
  if (maxFailures !== undefined && !/^\d{1,6}$/.test(maxFailures)) {
    throw wrong('--max-failures', maxFailures, 'a number of devices from 0');
  }
  return {
    ...(batch !== undefined && { batch }),
    ...(maxFailures !== undefined && { maxFailures: Number(maxFailures) }),
    ...(patience !== undefined && {
      patienceMinutes: Math.max(1, Math.round(timeOf('--patience', patience) / 60_000)),
    }),
  };
}

function timeOf(option: string, given: string): number {
  const [, number, unit = ''] = /^(\d{1,6})([smhd])$/.exec(given) ?? [];
  const ms = Number(number) * (unitMs[unit] ?? Number.NaN);
  if (ms > 0 && ms <= 7 * 86_400_000) return ms;
  throw wrong(option, given, 'a time such as 90s, 10m or 2h, up to 7d');
}

function wrong(option: string, given: string, wanted: string): MillraceError {
  return new MillraceError('PARAMETER_INVALID', `${option} ${given}: must be ${wanted}`);
}

const signs: Record<AppChange['change'], string> = {
  added: '+ added',
  changed: '~ changed',
  retried: '~ tried again',
  same: '= as it was',
  removed: '- removed',
};

function changesText(
  found: Found,
  { changed, dryRun, changes }: Deployed,
  paint: ReturnType<typeof painter>,
): string {
  const whom =
    found.kind === 'device'
      ? `device ${found.device.name ?? found.device.uuid}`
      : `fleet ${found.fleet.name}`;
  const head = dryRun
    ? `Would change on ${whom}:`
    : changed
      ? `Deploying to ${whom}:`
      : `Nothing new for ${whom}:`;
  const rows = changes.map(({ appId, appName, change }) => {
    const colour = change === 'removed' ? 'red' : change === 'same' ? 'dim' : 'green';
    return `  ${paint(colour, signs[change])}  ${harmless(appName ?? String(appId))} (${appId})`;
  });
  return `${[harmless(head), ...rows].join('\n')}\n`;
}
