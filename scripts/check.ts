/**
 * `npm run check`: everything that can be judged without running the program. Runs every step, shows the failures in full, and ends
 * with 1 when there is one. `npm run check -- --only "db lint"` runs the steps of that name.
 */
import { glob } from 'node:fs/promises';
import postgres from 'postgres';
import { checkDatabase } from './db-check.ts';
import { bin, type CommandResult, denoProject, outputOf, root, runCommand, supabase } from './dev/command.ts';
import { migrationsDatabase, sourceDatabase } from './dev/databases.ts';
import { explain, main, type Outcome, UsageError } from './dev/main.ts';
import { readOptions } from './dev/options.ts';
import { openScratch, type Scratch } from './dev/scratch.ts';
import { checkSurface } from './security-surface.ts';
import { checkTypes } from './types.ts';

const usage = 'Usage: npm run check [-- --only <name of a step>]';

interface Step {
  name: string;
  /** `skipped` says why the step could not be taken. */
  run: () => Promise<Outcome | { skipped: string }>;
}

const outcomeOf = (result: CommandResult): Outcome => ({ ok: result.code === 0, text: outputOf(result) });
const quiet = { NO_COLOR: '1', FORCE_COLOR: undefined };

async function command(name: string, args: string[]): Promise<Outcome> {
  return outcomeOf(await runCommand(name, args, { env: quiet }));
}

async function filesLike(pattern: string): Promise<string[]> {
  return (await Array.fromAsync(glob(pattern, { cwd: root }))).sort();
}

/** The database steps share one scratch server and the two databases on it; both are made when first asked for. */
function sharedDatabases() {
  let scratch: Promise<Scratch> | undefined;
  let actual: Promise<string> | undefined;
  let desired: Promise<string> | undefined;
  const open = () => (scratch ??= openScratch());
  const migrations = () => (actual ??= open().then(migrationsDatabase));
  return {
    migrations,
    source: () =>
      (desired ??= (async () => {
        const url = await migrations();
        return sourceDatabase(await open(), url);
      })()),
    [Symbol.asyncDispose]: async () => {
      const opened = await scratch?.catch(() => undefined);
      await opened?.[Symbol.asyncDispose]();
    },
  };
}

type Databases = ReturnType<typeof sharedDatabases>;

const steps = (databases: Databases): Step[] => [
  { name: 'format and lint', run: () => command(bin('biome'), ['ci', '--colors=off', '.']) },
  { name: 'tsc', run: () => command(bin('tsc'), ['--project', root, '--pretty', 'false']) },
  {
    name: 'deno check',
    run: async () => {
      const entrypoints = await filesLike('functions/*/index.ts');
      if (entrypoints.length === 0) return { ok: false, text: 'functions/ has no function.' };
      return command(bin('deno'), ['check', '--quiet', ...denoProject, ...entrypoints]);
    },
  },
  {
    name: 'shellcheck',
    run: async () => {
      const answer = await runCommand('shellcheck', ['--exclude=SC2317', '.ci/run'], { env: quiet });
      return answer.code === 127 ? { skipped: 'shellcheck is not installed' } : outcomeOf(answer);
    },
  },
  {
    name: 'squawk',
    run: async () => {
      const files = await filesLike('supabase/migrations/*.sql');
      if (files.length === 0) return { ok: false, text: 'There are no migrations.' };
      return command(bin('squawk'), ['--reporter', 'gcc', ...files]);
    },
  },
  {
    name: 'db:check',
    run: async () => checkDatabase(await databases.migrations(), await databases.source()),
  },
  { name: 'types', run: async () => checkTypes(await databases.migrations()) },
  { name: 'surface', run: async () => checkSurface(await databases.migrations()) },
  {
    name: 'advisors',
    run: async () => {
      const url = await databases.migrations();
      return outcomeOf(
        await supabase(
          ['db', 'advisors', `--remote=${url}`, '--type', 'all', '--level', 'warn', '--fail-on', 'warn'],
          { env: quiet },
        ),
      );
    },
  },
  {
    name: 'db lint',
    run: async () => {
      const url = process.env.LINT_DATABASE_URL;
      if (!url) {
        return {
          skipped:
            'it needs plpgsql_check: set LINT_DATABASE_URL to a migrated database of a server that has it, as .ci/run does',
        };
      }
      await provideChecker(url);
      return outcomeOf(
        await supabase(
          [
            'db',
            'lint',
            `--remote=${url}`,
            '--schema',
            'public,private,jobs',
            '--level',
            'error',
            '--fail-on',
            'error',
          ],
          { env: quiet },
        ),
      );
    },
  },
];

/** The CLI would create the extension as `postgres`, who may not: only a superuser may. */
async function provideChecker(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await sql`create extension if not exists plpgsql_check with schema extensions`;
  } finally {
    await sql.end();
  }
}

async function take(step: Step): Promise<Outcome | { skipped: string }> {
  try {
    return await step.run();
  } catch (error) {
    return { ok: false, text: explain(error) };
  }
}

/** Takes the steps one after the other and prints a line for each as it ends. */
async function check(only: string | undefined): Promise<Outcome> {
  await using databases = sharedDatabases();
  const chosen = steps(databases).filter((step) => only === undefined || step.name === only);
  if (chosen.length === 0) {
    const names = steps(databases).map((step) => step.name);
    throw new UsageError(`There is no step "${only}". There are: ${names.join(', ')}.`);
  }
  const failures: string[] = [];
  let passed = 0;
  let skipped = 0;
  for (const step of chosen) {
    const startedAt = performance.now();
    const outcome = await take(step);
    const seconds = `${((performance.now() - startedAt) / 1000).toFixed(1)} s`.padStart(8);
    const name = step.name.padEnd(16);
    if ('skipped' in outcome) {
      skipped += 1;
      process.stdout.write(`skip ${name}${seconds}  ${outcome.skipped}\n`);
    } else if (outcome.ok) {
      passed += 1;
      process.stdout.write(`ok   ${name}${seconds}\n`);
    } else {
      failures.push(step.name);
      process.stdout.write(`FAIL ${name}${seconds}\n\n${outcome.text.replace(/^/gm, '     ')}\n\n`);
    }
  }
  const summary = `Check: ${passed} steps ok, ${failures.length} failed${skipped > 0 ? `, ${skipped} skipped` : ''}.`;
  return {
    ok: failures.length === 0,
    text: failures.length > 0 ? `${summary} (${failures.join(', ')})` : summary,
  };
}

if (import.meta.main) {
  await main(async () => {
    const { values } = readOptions(usage, { options: { only: { type: 'string' } } });
    return await check(values.only);
  });
}
