/**
 * npm start: a complete local Supabase with simulated providers. `--json` prints one line when it is ready, `--reset`
 * begins from an empty database. Stops on Ctrl-C and SIGTERM.
 */

import { readOptions } from './dev/options.ts';
import { type Stack, type StackInfo, startStack } from './local/stack.ts';

const usage = `Usage: npm start [-- [--json] [--reset]]
  --json   print one line of JSON with the addresses and keys when it is ready
  --reset  begin from an empty database`;

const { values } = readOptions(usage, {
  options: { json: { type: 'boolean', default: false }, reset: { type: 'boolean', default: false } },
});

const log = (line: string) => process.stderr.write(`${line}\n`);

let stopping = false;
let stack: Stack | undefined;
let starting: Promise<Stack> | undefined;

const stop = async (): Promise<never> => {
  // A signal that comes while it starts waits for the start to end, one way or the other.
  stack ??= await starting?.catch(() => undefined);
  try {
    await stack?.stop();
  } catch (error) {
    log(error instanceof Error ? error.message : String(error));
    process.exit(1);
  }
  process.exit(0);
};
const stopOnce = () => {
  if (stopping) return;
  stopping = true;
  void stop();
};
// Ctrl-C arrives twice: from the terminal, and from scripts/run.mjs, whose end counts as well.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stopOnce);
if (process.send) process.on('disconnect', stopOnce);

const began = performance.now();
starting = startStack({
  reset: values.reset,
  watch: true,
  ...(process.env.DATABASE_URL ? { databaseUrl: process.env.DATABASE_URL } : {}),
  log,
});
try {
  stack = await starting;
} catch (error) {
  if (!stopping) {
    log(error instanceof Error ? error.message : String(error));
    process.exit(1);
  }
}
if (stack && !stopping) {
  if (values.json) process.stdout.write(`${JSON.stringify(stack.info)}\n`);
  else process.stdout.write(summary(stack.info, performance.now() - began));
}

function summary(info: StackInfo, ms: number): string {
  const rows: [string, string | undefined][] = [
    ['API', info.api_url],
    ['Functions', info.functions_url],
    ['Dashboard', info.dashboard_url],
    ['Database', info.db_url],
    ['Publishable key', info.publishable_key],
    ['Secret key', info.secret_key],
    ['Cron secret', info.cron_secret],
    ...Object.entries(info.simulators).map(([name, url]): [string, string] => [`Simulated ${name}`, url]),
  ];
  const lines = rows.map(([label, value]) => `  ${label.padEnd(20)}${value}`);
  return `\nOnecron is ready (${(ms / 1000).toFixed(1)} s). Ctrl-C stops it.\n\n${lines.join('\n')}\n\n`;
}
