/**
 * npm run demo: three tenants, their participants and a simulated world on a stack of its own; it shows what happens and
 * ends with a table. `--json` prints the result as the last line of stdout (the rest goes to stderr), `--keep` leaves the
 * stack running. Exits with 0 when every promise was kept, else with 1. Ctrl-C cleans up at any moment.
 */
import { createPrinter } from './demo/print.ts';
import type { Report } from './demo/report.ts';
import { play } from './demo/story.ts';
import { readOptions } from './dev/options.ts';
import { connect } from './local/database.ts';
import { assertNobodyIsHome } from './local/guest.ts';
import { type Stack, type StackInfo, startStack } from './local/stack.ts';

const usage = `Usage: npm run demo [-- [--json] [--keep]]
  --json  print the result as one line of JSON, the last one
  --keep  leave the stack running until Ctrl-C, and print its addresses`;

const flag = { type: 'boolean', default: false } as const;
const { values: options } = readOptions(usage, { options: { json: flag, keep: flag } });
const printer = createPrinter(options.json ? process.stderr : process.stdout);
const stopping = new AbortController();
const { signal } = stopping;
// Ctrl-C arrives twice: from the terminal, and from scripts/run.mjs, whose end counts as well. Where nobody reads any
// more (`npm run demo | head`), there is nobody to play for.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stopping.abort());
if (process.send) process.on('disconnect', () => stopping.abort());
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => stopping.abort());

process.exit(await main());

async function main(): Promise<number> {
  let stack: Stack | undefined;
  let code = 1;
  // What the functions log is of interest only when something went wrong.
  const tail: string[] = [];
  try {
    const databaseUrl = process.env.DATABASE_URL;
    if (databaseUrl) await assertNobodyIsHome(databaseUrl, 'the demo');
    printer.line('Starting PostgreSQL, the API, the functions and the simulated providers …', 'dim');
    stack = await startStack({
      dataDir: 'temporary',
      ...(databaseUrl ? { databaseUrl, reset: true } : {}),
      log(line) {
        if (line.startsWith('[')) tail.push(line);
        else printer.line(line, 'dim');
        if (tail.length > 20) tail.shift();
      },
    });
    signal.throwIfAborted();
    code = show(await perform(stack), tail);
    if (options.keep) {
      printer.line(addresses(stack.info));
      await untilAborted();
    }
  } catch (error) {
    if (signal.aborted) {
      code = 130;
      printer.line('Stopped.', 'dim');
    } else {
      for (const line of tail) printer.line(line, 'dim');
      printer.line(`The demo could not go on: ${explain(error)}`, 'red');
    }
  }
  try {
    await stack?.stop();
  } catch (error) {
    printer.line(`Not everything could be stopped: ${explain(error)}`, 'red');
    code = 1;
  }
  return code;
}

async function perform({ info, functions }: Stack): Promise<Report> {
  printer.line(
    `Ready: API ${info.api_url}, simulated Meta ${info.simulators.meta}. The worker is process ${functions.pid('worker')}:` +
      ' try to kill it.\n',
    'dim',
  );
  const sql = connect(info.db_url);
  try {
    return await play({ info, sql, say: printer.say, signal });
  } finally {
    await sql.end();
  }
}

/** Prints the result. Answers with the exit code. */
function show({ result, lines, broken }: Report, tail: readonly string[]): number {
  printer.line('');
  for (const line of lines) printer.line(line);
  printer.line('');
  if (broken.length === 0) printer.line(`Every promise was kept, in ${result.seconds} s.`, 'green');
  else {
    for (const line of tail) printer.line(line, 'dim');
    for (const line of broken) printer.line(`Broken: ${line}`, 'red');
  }
  if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  return broken.length === 0 ? 0 : 1;
}

function addresses(info: StackInfo): string {
  const rows = [
    ['API', info.api_url],
    ['Functions', info.functions_url],
    ['Dashboard', info.dashboard_url],
    ['Database', info.db_url],
    ['Publishable key', info.publishable_key],
    ['Secret key', info.secret_key],
    ['Cron secret', info.cron_secret],
    ...Object.entries(info.simulators).map(([name, url]) => [`Simulated ${name}`, url]),
  ];
  const lines = rows.map(([label, value]) => `  ${label?.padEnd(20)}${value}`);
  return `\nThe stack goes on until Ctrl-C.\n\n${lines.join('\n')}\n`;
}

function untilAborted(): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Why, with the cause: `fetch failed` alone helps nobody. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof AggregateError) return error.errors.map(explain).join('; ');
  return error.cause === undefined ? error.message : `${error.message} (${explain(error.cause)})`;
}
