import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { errorText, MillraceError } from '@millrace/wire';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';

const run = promisify(execFile);
const commands = { reboot: ['systemctl', 'reboot'], shutdown: ['systemctl', 'poweroff'] } as const;

/** Lets the device be rebooted and shut down by whoever may call, if the settings say so. */
export function powerRoutes({ isEnabled, log }: { isEnabled: boolean; log: Logger }) {
  return async (app: FastifyInstance): Promise<void> => {
    // A body says nothing here, whatever it is called.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', { parseAs: 'string' }, (_request, _body, done) => done(null, undefined));
    for (const action of ['reboot', 'shutdown'] as const) {
      app.post(`/v1/${action}`, async (_request, reply) => {
        if (!isEnabled) throw new MillraceError('FORBIDDEN', `${action} is not enabled (DEVICE_POWER)`);
        const [command, ...args] = commands[action];
        log.warn(`The device is to ${action === 'reboot' ? 'reboot' : 'shut down'}: somebody asked for it`);
        try {
          await run(command, args);
        } catch (cause) {
          const said = (cause as { stderr?: string }).stderr?.trim() || errorText(cause);
          throw new MillraceError('POWER_FAILED', `${command}: ${said}`, { cause });
        }
        return reply.code(202).send({ action });
      });
    }
  };
}
