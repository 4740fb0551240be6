/**
 * Whether a topic matches a subscription's filter (MQTT 3.1.1, 4.7): `+` is one level, a last `#` is any number,
 * its parent included, and neither matches a first level that starts with `$`.
 */
export function topicMatches(filter: string, topic: string): boolean {
  const wanted = filter.split('/');
  const levels = topic.split('/');
  if (topic.startsWith('$') && (wanted[0] === '#' || wanted[0] === '+')) return false;
  for (const [i, part] of wanted.entries()) {
    if (part === '#') return true;
    if (i >= levels.length || (part !== '+' && part !== levels[i])) return false;
  }
  return wanted.length === levels.length;
}
