import manifest from '../package.json' with { type: 'json' };

/** Of the agent. */
export const agentVersion: string = manifest.version;
