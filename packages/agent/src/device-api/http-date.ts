const days = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/**
 * A time of the years 0 to 9999 as HTTP's headers have it (RFC 9110, section 5.6.7).
 *
 * `toUTCString()` says the same, but for each text of a time, `toISOString()` too, V8 looks up how the local time zone is
 * called: 1 MB of tables and code that a process does not get rid of again.
 */
export function httpDate(time: Date): string {
  const date = [
    two(time.getUTCDate()),
    months[time.getUTCMonth()],
    String(time.getUTCFullYear()).padStart(4, '0'),
  ];
  const clock = [time.getUTCHours(), time.getUTCMinutes(), time.getUTCSeconds()].map(two);
  return `${days[time.getUTCDay()]}, ${date.join(' ')} ${clock.join(':')} GMT`;
}

function two(number: number): string {
  return String(number).padStart(2, '0');
}
