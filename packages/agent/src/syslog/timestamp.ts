const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

const internet = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/;

/** ms since 1970 of a timestamp as in RFC 3339; `undefined` when it is none, or names no moment. */
export function parseInternetTime(text: string): number | undefined {
  if (!internet.test(text)) return undefined;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : Math.floor(ms);
}

const traditional =
  /^([A-Z][a-z]{2}) {1,2}(\d{1,2}) (?:(\d{4}) )?(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?: (\d{4})(?=[ :]|$))?/;

/**
 * Reads a timestamp as in RFC 3164, `Nov 20 16:04:47`, at the beginning of `text`. It is in this machine's time zone
 * and names no year: it means the one that brings it nearest to `receivedMs`, which is last year for a line of
 * December that arrives in January. Some devices add the year, before the time or behind it.
 */
export function readTraditionalTime(
  text: string,
  receivedMs: number,
): { ms: number; end: number } | undefined {
  const match = traditional.exec(text);
  if (!match) return undefined;
  const [whole, monthName = '', day, yearBefore, hour, minute, second, fraction = '', yearBehind] = match;
  const month = months.indexOf(monthName);
  const year = yearBefore ?? yearBehind;
  const present = new Date(receivedMs).getFullYear();
  const years = year === undefined ? [present - 1, present, present + 1] : [Number(year)];
  const milliseconds = Math.floor(Number(`0.${fraction || 0}`) * 1000);
  let best: number | undefined;
  for (const candidate of years) {
    const date = new Date(
      candidate,
      month,
      Number(day),
      Number(hour),
      Number(minute),
      Number(second),
      milliseconds,
    );
    // A 31st of November would become another day's.
    if (month < 0 || date.getMonth() !== month || date.getDate() !== Number(day)) continue;
    const ms = date.getTime();
    if (best === undefined || Math.abs(ms - receivedMs) < Math.abs(best - receivedMs)) best = ms;
  }
  return best === undefined ? undefined : { ms: best, end: whole.length };
}
