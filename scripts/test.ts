/**
 * `npm test`: every test, SQL and TypeScript, closing with one line `N passed, N failed`.
 * `npm test -- <part of a path> …` runs the files that match; `--leg sql` or `--leg ts` one of the two kinds.
 * With DATABASE_URL the SQL tests run on that server, in a database that they empty if only a stack of ours filled it.
 */
import { glob, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bin, isStopping, root, runCommand } from './dev/command.ts';
import { explain, main, type Outcome, UsageError } from './dev/main.ts';
import { readOptions } from './dev/options.ts';
import { add, closingLine, type Tally, tallyOf } from './dev/tally.ts';

const usage = 'Usage: npm test [-- [--leg sql|ts] [part of a path] …]';

async function runTypeScript(files: string[]): Promise<Tally> {
  const folder = await mkdtemp(join(tmpdir(), 'onecron-vitest-'));
  try {
    const report = join(folder, 'report.json');
    const { code } = await runCommand(
      bin('vitest'),
      ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...files],
      {
        onOutput: (text) => process.stdout.write(text),
        // The output goes through a pipe: Vitest can't see by itself whether somebody reads it in colour.
        env: process.stdout.isTTY ? { FORCE_COLOR: '1' } : { NO_COLOR: '1', FORCE_COLOR: undefined },
        timeoutMs: 1_200_000,
      },
    );
    const text = await readFile(report, 'utf8').catch(() => undefined);
    const tally = text === undefined ? { passed: 0, failed: 1, skipped: 0 } : tallyOf(JSON.parse(text));
    // An error outside of every test (an unhandled rejection, a worker that died) shows in the exit code alone.
    return code !== 0 && tally.failed === 0 ? { ...tally, failed: 1 } : tally;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function runSql(files: string[]): Promise<Tally> {
  // Loaded here: a fault in the local stack fails these tests, and the others still run.
  const { startStack } = await import('./local/stack.ts');
  const { assertNobodyIsHome } = await import('./local/guest.ts');
  const { runSqlTests } = await import('./test-sql.ts');
  const dataDir = await mkdtemp(join(tmpdir(), 'onecron-test-'));
  const log = (line: string) => void process.stdout.write(`${line}\n`);
  const databaseUrl = process.env.DATABASE_URL;
  try {
    if (databaseUrl) await assertNobodyIsHome(databaseUrl, 'the tests');
    const stack = await startStack({
      // The tests make their own tenants.
      seed: false,
      dataDir,
      functions: false,
      simulators: false,
      // The demo leaves its tenants on a server of somebody's, and the tests want the same names.
      ...(databaseUrl ? { databaseUrl, reset: true, log } : {}),
    });
    try {
      const { passed, failed, skipped } = await runSqlTests({
        url: stack.adminUrl,
        files,
        log,
        stop: isStopping,
      });
      return { passed, failed, skipped };
    } finally {
      await stack.stop();
    }
  } catch (error) {
    if (error instanceof Error && error.name === 'ServerRefused') throw new UsageError(error.message);
    throw error;
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function filesLike(pattern: string, filters: string[]): Promise<string[]> {
  const files = (await Array.fromAsync(glob(pattern, { cwd: root }))).map((path) =>
    path.replaceAll('\\', '/'),
  );
  return files.filter((path) => filters.length === 0 || filters.some((part) => path.includes(part))).sort();
}

/** Runs a kind of tests. What stops it before it could count is a failure, never silence. */
async function leg(title: string, files: string[], run: (files: string[]) => Promise<Tally>): Promise<Tally> {
  if (files.length === 0 || isStopping()) return { passed: 0, failed: 0, skipped: 0 };
  process.stdout.write(`\n${title}: ${files.length} files\n`);
  try {
    return await run(files);
  } catch (error) {
    process.stdout.write(`\n${title} could not run: ${explain(error)}\n`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

async function test(legs: string[], filters: string[]): Promise<Outcome> {
  const sql = legs.includes('sql') ? await filesLike('tests/sql/**/*.test.sql', filters) : [];
  const ts = legs.includes('ts') ? await filesLike('tests/**/*.test.ts', filters) : [];
  const tally = add(await leg('SQL tests', sql, runSql), await leg('TypeScript tests', ts, runTypeScript));
  if (tally.passed + tally.failed === 0) {
    process.stdout.write(
      `\nNo test was executed${filters.length > 0 ? ` for: ${filters.join(' ')}` : ''}. That counts as a failure.\n`,
    );
    return { ok: false, text: closingLine(tally) };
  }
  return { ok: tally.failed === 0, text: `\n${closingLine(tally)}` };
}

if (import.meta.main) {
  await main(async () => {
    const { values, positionals } = readOptions(usage, {
      allowPositionals: true,
      options: { leg: { type: 'string' } },
    });
    if (values.leg !== undefined && !['sql', 'ts'].includes(values.leg)) throw new UsageError(usage);
    return await test(values.leg === undefined ? ['sql', 'ts'] : [values.leg], positionals);
  });
}
