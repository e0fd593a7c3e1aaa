/**
 * `npm run faults`: does to the engine all that can happen to it (killed workers, lost doorbells, a database that falls, …), keeps
 * the books from three records after each (the database's tables, the provider's log, the workers' log), and closes with
 * `N passed, N failed`. `--seed <n>` repeats a run, `--only 23,38` runs single ones, `--json` prints one JSON line last.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { type Fault, inject, openWorld, type Result } from '../tests/faults/harness.ts';
import { faults } from '../tests/faults/list.ts';
import { bin, runCommand } from './dev/command.ts';
import { main, type Outcome, UsageError } from './dev/main.ts';
import { readOptions } from './dev/options.ts';
import { closingLine } from './dev/tally.ts';

const usage = 'Usage: npm run faults [-- [--seed <n>] [--only <number>,…] [--json]]';

const marks = { passed: 'ok  ', failed: 'FAIL', 'not applicable': ' –  ' } as const;

const report = z.object({
  testResults: z.array(
    z.object({
      name: z.string(),
      assertionResults: z.array(
        z.object({ fullName: z.string(), status: z.string(), failureMessages: z.array(z.string()) }),
      ),
    }),
  ),
});

interface Ran {
  file: string;
  name: string;
  status: string;
  why: string;
}

/** Runs the tests that faults name and that live elsewhere, all in one go, with the same seed. */
async function runElsewhere(chosen: readonly Fault[], seed: number): Promise<Ran[]> {
  const wanted = chosen.flatMap((fault) => fault.elsewhere ?? []);
  if (wanted.length === 0) return [];
  const folder = await mkdtemp(join(tmpdir(), 'onecron-faults-'));
  try {
    const file = join(folder, 'report.json');
    const pattern = [
      ...new Set(wanted.map(({ test }) => test.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'))),
    ].join('|');
    await runCommand(
      bin('vitest'),
      [
        'run',
        '--reporter=json',
        `--outputFile=${file}`,
        '-t',
        pattern,
        ...new Set(wanted.map((each) => each.file)),
      ],
      { onOutput: () => {}, env: { ENGINE_SEED: String(seed), NO_COLOR: '1' }, timeoutMs: 1_200_000 },
    );
    return report.parse(JSON.parse(await readFile(file, 'utf8'))).testResults.flatMap((result) =>
      result.assertionResults.map((test) => ({
        file: result.name.replaceAll('\\', '/'),
        name: test.fullName,
        status: test.status,
        why: test.failureMessages.join('\n').slice(0, 500),
      })),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What the tests elsewhere say about a fault. A test that was named and did not run is a finding. */
function findingsElsewhere(fault: Fault, ran: readonly Ran[]): string[] {
  return (fault.elsewhere ?? []).flatMap(({ file, test }) => {
    const own = ran.filter((each) => each.file.endsWith(file) && each.name.includes(test));
    const counted = own.filter(({ status }) => status === 'passed' || status === 'failed');
    if (counted.length === 0) return [`${file}: "${test}" did not run`];
    return counted
      .filter(({ status }) => status === 'failed')
      .map(({ name, why }) => `${file}: ${name}: ${why}`);
  });
}

function show({ fault, outcome, findings, ms }: Result): void {
  const rest = outcome === 'not applicable' ? `: ${fault.because}` : `  ${(ms / 1000).toFixed(1)} s`;
  process.stdout.write(`${marks[outcome]} ${String(fault.number).padStart(2)}  ${fault.name}${rest}\n`);
  for (const finding of findings) process.stdout.write(`         ${finding}\n`);
}

async function run(options: { seed: number; only: number[] | undefined; json: boolean }): Promise<Outcome> {
  const startedAt = performance.now();
  const { seed, only } = options;
  const chosen = faults.filter((fault) => only === undefined || only.includes(fault.number));
  if (chosen.length === 0) throw new UsageError(usage);
  process.stdout.write(`Seed ${seed} (repeat with --seed ${seed})\n`);
  const ran = await runElsewhere(chosen, seed);
  const results: Result[] = [];
  const world = await openWorld();
  try {
    for (const fault of chosen) {
      const result = await inject(world, fault, seed);
      const more = findingsElsewhere(fault, ran);
      if (more.length > 0) {
        result.findings.push(...more);
        result.outcome = 'failed';
      }
      results.push(result);
      show(result);
    }
  } finally {
    await world.stop();
  }
  const count = (outcome: Result['outcome']) => results.filter((each) => each.outcome === outcome).length;
  const [passed, failed] = [count('passed'), count('failed')];
  const seconds = Math.round((performance.now() - startedAt) / 1000);
  const json = JSON.stringify({
    seed,
    passed,
    failed,
    not_applicable: count('not applicable'),
    seconds,
    faults: results.map(({ fault, outcome, findings }) => ({
      number: fault.number,
      name: fault.name,
      outcome,
      ...(findings.length > 0 ? { findings } : {}),
      ...(fault.because === undefined ? {} : { because: fault.because }),
    })),
  });
  const text = `\nSeed ${seed}, ${seconds} s, ${count('not applicable')} do not apply here.\n${closingLine({ passed, failed, skipped: 0 })}`;
  return { ok: failed === 0 && passed > 0, text: options.json ? `${text}\n${json}` : text };
}

if (import.meta.main) {
  await main(async () => {
    const { values } = readOptions(usage, {
      options: {
        seed: { type: 'string' },
        only: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
    const only = values.only?.split(',').map(Number);
    if (!Number.isSafeInteger(seed) || only?.some((number) => !Number.isSafeInteger(number)))
      throw new UsageError(usage);
    return await run({ seed, only, json: values.json });
  });
}
