export function freshBundle(folder?: string): string | undefined;
