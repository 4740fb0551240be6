// Runs the agent from its bundle, and loads nothing besides: no ES module among it, of which the first takes 5 MB.
const { enableCompileCache } = require('node:module');
const { join } = require('node:path');

const dist = join(__dirname, '..', 'dist');
// Whoever looks, as `agent install` does for the unit's command, is to find what can be started.
process.argv[1] = join(__dirname, 'millrace.mjs');
enableCompileCache(join(dist, 'compiled'));
require(join(dist, 'agent.cjs')).main(process.argv);
