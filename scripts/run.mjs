// Runs one of the scripts of this folder under the Node that package.json pins: node scripts/run.mjs <name> [arguments]
//
// Whoever calls this may have any Node from 20 on. It installs what is missing, starts the script under
// node_modules/.bin/node, and passes signals on, so that Ctrl-C and SIGTERM reach the script itself.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const bin = join(root, 'node_modules', '.bin');
const node = join(bin, 'node');
const deno = join(root, 'node_modules', 'deno', 'deno');

const [name, ...args] = process.argv.slice(2);
const script = join(root, 'scripts', `${name}.ts`);
if (!name || !existsSync(script)) {
  const names = readdirSync(join(root, 'scripts'))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -'.ts'.length));
  fail(`usage: node scripts/run.mjs <${names.join('|')}> [arguments]`);
}

if (!installed()) {
  process.stderr.write('Installing packages (npm ci)…\n');
  await npm('ci', '--no-audit', '--no-fund', '--loglevel=error');
}
// The two programs that npm unpacks in an install script, which `ignore-scripts` skips.
if (!existsSync(node) || !existsSync(deno)) {
  await npm('rebuild', '--ignore-scripts=false', '--loglevel=error', 'node', 'deno');
  if (!existsSync(node) || !existsSync(deno)) {
    fail('npm could not unpack the packages node and deno: allow their install scripts, then run npm ci');
  }
}

const driver = pathToFileURL(join(root, 'scripts', 'local', 'driver.mjs')).href;
const [code, signal] = await run(node, [`--import=${driver}`, script, ...args], {
  // Nothing is said on the fourth channel: its `disconnect` tells the script that this process is gone, however it went.
  stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ''}` },
});
process.exit(signal ? 128 + (constants.signals[signal] ?? 0) : (code ?? 1));

/**
 * Whether node_modules holds what package-lock.json asks for. npm keeps its own note of what it put there; an entry of
 * the lockfile may be absent from it only when it is optional, as are the binaries of other platforms.
 */
function installed() {
  const note = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(note)) return false;
  const { packages: wanted } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const { packages: present } = JSON.parse(readFileSync(note, 'utf8'));
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === '' || (present[path] ? present[path].version === entry.version : entry.optional === true),
  );
}

/** npm's own output goes to stderr: stdout belongs to the script (`--json`). */
async function npm(...command) {
  const [code, signal] = await run('npm', command, { cwd: root, stdio: ['ignore', 2, 2] });
  if (signal) process.exit(128 + (constants.signals[signal] ?? 0));
  if (code !== 0) fail(`npm ${command[0]} failed`);
}

/** Runs a program to its end while signals are passed on to it. */
function run(program, words, options) {
  return new Promise((done) => {
    const child = spawn(program, words, options);
    const forwards = ['SIGINT', 'SIGTERM', 'SIGHUP'].map((signal) => [signal, () => child.kill(signal)]);
    for (const [signal, forward] of forwards) process.on(signal, forward);
    const watch = whenOrphaned(() => child.kill('SIGTERM'));
    child.on('error', (error) => fail(`cannot start ${program}: ${error.message}`));
    child.on('exit', (...outcome) => {
      for (const [signal, forward] of forwards) process.off(signal, forward);
      clearInterval(watch);
      done(outcome);
    });
  });
}

/**
 * npm passes a signal on to the shell in which it runs a script, and many a shell ends without passing it on: `kill` of npm alone
 * would leave everything running. That the shell is gone shows in the parent's number. Without npm whoever started this may leave.
 */
function whenOrphaned(stop) {
  if (process.env.npm_lifecycle_event === undefined) return undefined;
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    stop();
  }, 200);
  return watch.unref();
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
