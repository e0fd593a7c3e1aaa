/**
 * `npm run bench -- <name> [--json] [--quick]`: measures the engine, beside its peers where there are any, in one run on one
 * server. Prints a table; with --json the last line is one JSON object. `--quick` is smaller and shorter: to see that it
 * runs, not to quote.
 */
import { cpus } from 'node:os';
import type { Bench, BenchResult } from './bench/bench.ts';
import { main, type Outcome, UsageError } from './dev/main.ts';
import { readOptions } from './dev/options.ts';

// One file each, loaded when asked for: the peers are needed by two of them only.
const benches: Record<string, () => Promise<{ bench: Bench }>> = {
  claim: () => import('./bench/claim.ts'),
  growth: () => import('./bench/growth.ts'),
  fairness: () => import('./bench/fairness.ts'),
  idle: () => import('./bench/idle.ts'),
  bloat: () => import('./bench/bloat.ts'),
  'end-to-end': () => import('./bench/end-to-end.ts'),
  rls: () => import('./bench/rls.ts'),
};

const usage = `Usage: npm run bench -- <${Object.keys(benches).join('|')}> [--json] [--quick]`;

function machine(): string {
  const all = cpus();
  return `${all.length} × ${all[0]?.model.trim() ?? 'unknown'}`;
}

function tableOf(rows: BenchResult['rows']): string {
  const heads = Object.keys(rows[0] ?? {});
  const lines = [heads, ...rows.map((row) => heads.map((head) => String(row[head] ?? '')))];
  const widths = heads.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const isNumber = heads.map((head) => rows.every((row) => /^[-\d.,]*$/.test(String(row[head] ?? ''))));
  return lines
    .map((line) =>
      line
        .map((cell, column) =>
          isNumber[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

async function run(): Promise<Outcome> {
  const { values, positionals } = readOptions(usage, {
    allowPositionals: true,
    options: { json: { type: 'boolean' }, quick: { type: 'boolean' } },
  });
  const [name = ''] = positionals;
  const load = Object.hasOwn(benches, name) ? benches[name] : undefined;
  if (!load || positionals.length !== 1) throw new UsageError(usage);
  const { bench } = await load();
  // Progress goes to stderr: stdout is the result.
  const log = (line: string) => void process.stderr.write(`${line}\n`);
  const started = new Date();
  const result = await bench({ quick: values.quick ?? false, log });
  const missed = Object.entries(result.reach).filter(([key, { atLeast, atMost }]) => {
    const value = result.numbers[key];
    if (typeof value !== 'number') return true;
    return (atLeast !== undefined && value < atLeast) || (atMost !== undefined && value > atMost);
  });
  const verdict = Object.entries(result.reach)
    .map(([key, { atLeast, atMost }]) => {
      const wanted = atLeast === undefined ? `at most ${atMost}` : `at least ${atLeast}`;
      return `${key} = ${result.numbers[key]} (to reach: ${wanted})${missed.some(([other]) => other === key) ? '  MISSED' : ''}`;
    })
    .join('\n');
  const text = [
    `${name}${values.quick ? ' (quick: not to be quoted)' : ''}, ${started.toISOString().slice(0, 10)}, ${machine()}`,
    '',
    tableOf(result.rows),
    '',
    verdict,
    ...result.notes,
  ].join('\n');
  const json = JSON.stringify({
    bench: name,
    quick: values.quick ?? false,
    date: started.toISOString(),
    machine: machine(),
    reached: missed.length === 0,
    ...result.numbers,
  });
  // A number that is missed is a result, not a failure of the bench.
  return { ok: true, text: values.json ? `${text}\n${json}` : text };
}

if (import.meta.main) await main(run);
