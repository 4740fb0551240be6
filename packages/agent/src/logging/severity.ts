import type { Level } from '@millrace/wire';

/** Syslog's severities: 0 emergency, 1 alert, 2 critical, 3 error, 4 warning, 5 notice, 6 info, 7 debug. */
export function severityLevel(severity: number): Level {
  if (severity <= 3) return 'error';
  if (severity === 4) return 'warn';
  return severity >= 7 ? 'debug' : 'info';
}
