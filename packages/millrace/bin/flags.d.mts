export function nodeFlags(command: string | undefined): string[];
export function nodeEnv(command: string | undefined, env: NodeJS.ProcessEnv): NodeJS.ProcessEnv;
export function isStartedFor(command: string | undefined): boolean;
