/** An address fit for a log: without user, password, query and fragment. */
export function displayUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, '')}`;
}

/** Takes secrets out of a text that somebody else wrote, such as a library's error message. */
export function redact(text: string, secrets: readonly (string | undefined)[]): string {
  let out = text;
  for (const secret of secrets) if (secret) out = out.replaceAll(secret, '***');
  return out;
}

/** The password of an address, as written and as meant. */
export function urlSecrets(url: URL): string[] {
  try {
    return [url.password, decodeURIComponent(url.password)];
  } catch {
    // A stray percent sign: there is no other reading of it.
    return [url.password];
  }
}
