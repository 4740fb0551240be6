// Puts the agent into one file, packages/millrace/dist/agent.cjs. It starts faster and takes a third less memory than
// the sources do: no compiler for their types, and none of what its dependencies load and it never uses. CommonJS,
// because as a module of today it would take 10 MB more: an import of node:http loads an HTTP client and WebSocket too.
//
//   node scripts/build.mjs [folder]     default: packages/millrace/dist
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { compiledFolder } from '../packages/millrace/bin/bundle.mjs';
import { nodeFlags } from '../packages/millrace/bin/flags.mjs';
import { node24Path, root } from './install.mjs';

// npm runs this after each installation, one without development dependencies too: then the agent runs as it is.
const { build } = await import('esbuild').catch(() => process.exit(0));

const millrace = join(root, 'packages', 'millrace');
const outfile = join(resolve(process.argv[2] ?? join(millrace, 'dist')), 'agent.cjs');
const started = performance.now();

// dockerode can speak to an engine through ssh, and to BuildKit through gRPC; fastify can compile schemas and answer
// requests that are made up; pino can log through a thread. The agent does none of that.
const unused =
  /^(ssh2|@grpc\/grpc-js|@grpc\/proto-loader|protobufjs|@fastify\/(ajv|fast-json-stringify)-compiler|light-my-request|thread-stream)$/;
// Its messages are English.
const otherLanguages = /^\.\.\/locales\/index\.js$/;

const leaveOut = {
  name: 'leave-out',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: unused }, ({ path }) => ({ path, namespace: 'unused' }));
    onResolve({ filter: otherLanguages }, ({ path, importer }) =>
      importer.includes('/node_modules/zod/') ? { path, namespace: 'unused' } : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'unused' }, () => ({ contents: 'module.exports = {}', loader: 'js' }));
    // All that pino asks of threads is whether it runs in one.
    onResolve({ filter: /^(node:)?worker_threads$/ }, ({ path, importer }) =>
      importer.includes('/node_modules/pino/') ? { path, namespace: 'main-thread' } : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'main-thread' }, () => ({
      contents: 'module.exports = { isMainThread: true }',
      loader: 'js',
    }));
  },
};

// What sources load only when they need it, and at once. The bundle may lie where there is no node_modules.
const bringAlong = {
  name: 'bring-along',
  setup({ onLoad }) {
    onLoad({ filter: /packages[\\/]agent[\\/]src[\\/].*\.ts$/ }, ({ path }) => {
      const text = readFileSync(path, 'utf8');
      const contents = text
        .replace(/createRequire\(import\.meta\.url\)\(('[^']+')\)/g, 'require($1)')
        .replace(holderUrl, `new URL('./${holderName}.cjs', import.meta.url)`);
      return { contents, loader: 'ts' };
    });
  },
};

// What runs in a process of its own lies beside the bundle, and so do…
const holderName = 'log-holder';
const holderSource = join(root, 'packages', 'agent', 'src', 'docker', 'files', 'holder', 'process.ts');
const holderUrl = "new URL('./process.ts', import.meta.url)";

// …libraries that an agent loads when something asks for them lie beside the bundle, whose text stays in memory.
const apart = ['mqtt', 'prom-client', 're2js', 'yaml'];
const loadFromBeside = {
  name: 'load-from-beside',
  setup({ onResolve }) {
    onResolve({ filter: new RegExp(`^(${apart.join('|')})$`) }, ({ path, kind }) =>
      kind === 'entry-point' ? undefined : { path: `./${path}.cjs`, external: true },
    );
  },
};

// Modules of Node's own that most agents never use, and that take up to 5 MB each: loaded by the first who does. What
// is asserted holds, so only a failure needs what can tell of it.
const rarelyUsed =
  /^(node:)?(assert|child_process|dgram|http2|https|perf_hooks|readline|tls|worker_threads)$/;
const stands = { assert: '(value, message) => { if (!value) load()(value, message); }' };
const loadWhenUsed = {
  name: 'load-when-used',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: rarelyUsed }, ({ path }) => ({
      path: path.replace(/^node:/, ''),
      namespace: 'when-used',
    }));
    onLoad({ filter: /.*/, namespace: 'when-used' }, ({ path }) => {
      const names = Object.keys(createRequire(import.meta.url)(path)).filter((name) => name !== 'default');
      const getters = names.map((name) => `get ${name}() { return load().${name}; }`);
      const load = `const load = () => process.getBuiltinModule('node:${path}');`;
      const exported = `Object.defineProperties(${stands[path] ?? '{}'}, Object.getOwnPropertyDescriptors({ ${getters.join(', ')} }))`;
      return { contents: `${load} module.exports = ${exported};`, loader: 'js' };
    });
  },
};

// What the sources know as import.meta.url.
const ownUrl = 'millraceUrl';
const banner = `const ${ownUrl} = require('node:url').pathToFileURL(__filename).href;`;

// They run from the sources.
const otherCommands = [
  'up/up',
  'up/cloud-alone',
  'cloud/commands',
  'logs/command',
  'logs/export',
  'journal/commands',
].map((path) => `*/${path}.ts`);

mkdirSync(dirname(outfile), { recursive: true });
const alike = {
  // By way of `require`, since the first `import` at run time loads Node's loader of ES modules.
  supported: { 'dynamic-import': false },
  absWorkingDir: root,
  bundle: true,
  minify: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  logLevel: 'warning',
};
const { metafile } = await build({
  ...alike,
  entryPoints: [join(millrace, 'src', 'main.ts')],
  outfile,
  define: { 'import.meta.url': ownUrl },
  external: ['*.node', ...otherCommands],
  plugins: [leaveOut, bringAlong, loadWhenUsed, loadFromBeside],
  banner: { js: banner },
  metafile: true,
});
await build({
  ...alike,
  entryPoints: Object.fromEntries(apart.map((name) => [name, name])),
  outdir: dirname(outfile),
  outExtension: { '.js': '.cjs' },
  plugins: [loadWhenUsed],
});

const { metafile: holderMetafile } = await build({
  ...alike,
  entryPoints: { [holderName]: holderSource },
  outdir: dirname(outfile),
  outExtension: { '.js': '.cjs' },
  metafile: true,
});

// What it was made of, so that a start sees when it is out of date.
const inputs = Object.keys({ ...metafile.inputs, ...holderMetafile.inputs })
  .filter((input) => !input.includes('node_modules/') && !/^(unused|when-used|main-thread):/.test(input))
  .map((input) => relative(dirname(outfile), join(root, input)));
writeFileSync(join(dirname(outfile), 'agent.inputs.json'), `${JSON.stringify(inputs, undefined, 1)}\n`);

// Compiled in advance for the project's Node; any other keeps what it compiles when it ends for the first time.
const compiled = compiledFolder(outfile);
rmSync(compiled, { recursive: true, force: true });
const compile = `require('node:module').enableCompileCache(${JSON.stringify(compiled)}); require(${JSON.stringify(outfile)})`;
if (existsSync(node24Path)) {
  // It would be kept where that says instead.
  const { NODE_COMPILE_CACHE: _, ...env } = process.env;
  execFileSync(node24Path, [...nodeFlags('agent'), '-e', compile], { env });
  // Node makes it for its own user alone, who may not be the agent's.
  for (const name of readdirSync(compiled, { recursive: true })) {
    const path = join(compiled, name);
    if (statSync(path).isFile()) chmodSync(path, 0o644);
  }
}
console.error(`built ${relative(root, outfile)} in ${Math.round(performance.now() - started)} ms`);
