import fc from 'fast-check';

/**
 * Which examples the property tests try. A run that judges a change tries the same ones each time, so that it fails
 * for the change and not by lot; `npm run test:explore` tries others, and prints the seed to try again:
 * `PROPERTY_SEED=<n> npx vitest run <file>`.
 */
const seed = process.env.PROPERTY_SEED ?? '20261120';
if (seed !== 'random') fc.configureGlobal({ seed: Number(seed) });
