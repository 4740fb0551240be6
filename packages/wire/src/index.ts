export * from './batch.ts';
export * from './config.ts';
export * from './errors.ts';
export * from './levels.ts';
export * from './limits.ts';
export * from './message.ts';
export * from './text.ts';
export * from './topics.ts';
