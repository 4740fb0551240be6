/**
 * Local time to the millisecond: `14:03:09.120`, with the date before it when that is asked for or the day is
 * not `todayMs`'s.
 */
export function localTime(timestampMs: number, todayMs?: number): string {
  const date = new Date(timestampMs);
  const two = (value: number) => String(value).padStart(2, '0');
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const ms = String(date.getMilliseconds()).padStart(3, '0');
  if (todayMs !== undefined && date.toDateString() === new Date(todayMs).toDateString())
    return `${time}.${ms}`;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}.${ms}`;
}
