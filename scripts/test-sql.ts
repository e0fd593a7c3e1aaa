/**
 * Runs pgTAP files. A file is plain SQL without psql commands; it runs as the connection's user on a connection of its
 * own, in a transaction that is rolled back, so that files see nothing of each other. tests/sql/helpers.sql runs first in
 * each of these transactions.
 *
 *   node scripts/test-sql.ts --url postgres://… [file …]        without files: tests/sql/**\/*.test.sql
 */
import { glob, readFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import postgres from 'postgres';

export interface SqlTestOptions {
  /** A superuser's connection, so that a file may `set role` to whom it likes. */
  url: string;
  files: string[];
  /** Gets one line per file and the details of what failed. */
  log: (line: string) => void;
  /** Asked before each file: true when somebody told the run to end. */
  stop?: () => boolean;
}

export interface SqlTestFailure {
  file: string;
  /** The test's name, or `plan` or `died` for a file that failed as a whole. */
  test: string;
  details: string;
}

export interface SqlTestResult {
  passed: number;
  failed: number;
  skipped: number;
  failures: SqlTestFailure[];
}

const root = resolve(import.meta.dirname, '..');
const helpers = 'tests/sql/helpers.sql';

/** Runs the files one after another. Never throws for a failing file: a file that dies is one failure more. */
export async function runSqlTests({ url, files, log, stop }: SqlTestOptions): Promise<SqlTestResult> {
  const total: SqlTestResult = { passed: 0, failed: 0, skipped: 0, failures: [] };
  await providePgtap(url);
  for (const file of files) {
    if (stop?.()) break;
    const name = relative(root, resolve(root, file));
    const started = performance.now();
    const result = await runFile(url, resolve(root, file), name);
    const ms = Math.round(performance.now() - started);
    const skipped = result.skipped > 0 ? `, ${result.skipped} skipped` : '';
    log(`${result.failed === 0 ? 'ok    ' : 'FAILED'} ${name} (${result.passed} passed${skipped}, ${ms} ms)`);
    for (const { test, details } of result.failures) log(indent(`not ok: ${test}\n${indent(details)}`));
    total.passed += result.passed;
    total.failed += result.failed;
    total.skipped += result.skipped;
    total.failures.push(...result.failures);
  }
  return total;
}

/** Sees to it that pgTAP is where `supabase test db` creates it. */
async function providePgtap(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, fetch_types: false, onnotice: () => {} });
  try {
    const [row] = await sql<[{ at: string | null; schema: string | null }]>`
      select (select extnamespace::regnamespace::text from pg_extension where extname = 'pgtap') as at,
        to_regnamespace('extensions')::text as schema`;
    if (row.at === null) await sql.unsafe(`create extension pgtap schema ${row.schema ?? 'public'}`);
    // In public its functions would count as ours.
    else if (row.at === 'public' && row.schema)
      await sql.unsafe('alter extension pgtap set schema extensions');
  } finally {
    await sql.end({ timeout: 1 });
  }
}

async function runFile(url: string, path: string, name: string): Promise<SqlTestResult> {
  const lines: string[] = [];
  const sql = postgres(url, {
    max: 1,
    prepare: false,
    fetch_types: false,
    connection: { application_name: 'test-sql' },
    onnotice: () => {},
  });
  let death: string | undefined;
  try {
    const text = await readFile(path, 'utf8');
    // pgTAP may live in schema extensions, which a server of somebody's has not on its search path
    await sql.unsafe(`set search_path = ${await searchPath(sql)}; begin`).simple();
    await sql.unsafe(await readFile(join(root, helpers), 'utf8')).simple();
    for (const statement of statements(text)) {
      if (/^(begin|start transaction)\b/i.test(statement.sql)) continue;
      if (/^(rollback|commit|end)\s*$/i.test(statement.sql)) continue;
      try {
        lines.push(...tapLines(await sql.unsafe(statement.sql).simple()));
      } catch (error) {
        throw new Error(`line ${statement.line}: ${describe(error)}`);
      }
    }
  } catch (error) {
    death = error instanceof Error ? error.message : String(error);
  } finally {
    await sql.end({ timeout: 0 }).catch(() => {});
  }
  return judge(name, lines, death);
}

async function searchPath(sql: postgres.Sql): Promise<string> {
  const [row] = await sql<[{ path: string }]>`
    select concat_ws(
      ', ', nullif(current_setting('search_path'), ''),
      (select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
       where e.extname = 'pgtap' and n.nspname <> all (current_schemas(true)))
    ) as path`;
  return row.path;
}

/** TAP is what the columns of the results say, one line each; diagnostics come with their line breaks. */
function tapLines(result: unknown): string[] {
  const results: unknown[] = Array.isArray(result) && !('command' in result) ? result : [result];
  return results
    .filter((rows): rows is Array<Record<string, unknown>> => Array.isArray(rows))
    .flatMap((rows) => rows.flatMap((row) => Object.values(row)))
    .filter((value): value is string => typeof value === 'string')
    .flatMap((value) => value.split('\n'));
}

function judge(file: string, lines: string[], death: string | undefined): SqlTestResult {
  const result: SqlTestResult = { passed: 0, failed: 0, skipped: 0, failures: [] };
  const fail = (test: string, details: string) => {
    result.failed += 1;
    result.failures.push({ file, test, details });
  };
  let planned: number | undefined;
  let seen = 0;
  let current: SqlTestFailure | undefined;
  for (const line of lines) {
    const plan = /^1\.\.(\d+)(?:\s+#\s*skip\b.*)?$/i.exec(line);
    if (plan) {
      planned = Number(plan[1]);
      continue;
    }
    const test = /^(not )?ok\b\s*(\d+)?\s*-?\s*(.*?)(?:\s*#\s*(todo|skip)\b(.*))?$/i.exec(line);
    if (test) {
      seen += 1;
      current = undefined;
      const [, not, , title = '', directive = ''] = test;
      if (directive.toLowerCase() === 'skip') result.skipped += 1;
      else if (not && directive.toLowerCase() !== 'todo') {
        fail(title || `test ${seen}`, '');
        current = result.failures.at(-1);
      } else result.passed += 1;
    } else if (current && line.startsWith('#') && !/^# Failed test/.test(line)) {
      current.details += `${current.details ? '\n' : ''}${line.replace(/^#\s?/, '')}`;
    }
  }
  if (death !== undefined) fail('died', death);
  else if (planned === undefined)
    fail('plan', 'the file has no plan: call plan(n) or no_plan() and finish()');
  else if (planned !== seen) fail('plan', `planned ${planned} tests but ran ${seen}`);
  return result;
}

/** Splits SQL at the semicolons that end statements: not those in quotes, dollar quotes, comments or `begin atomic`. */
export function* statements(text: string): Generator<{ sql: string; line: number }> {
  const token =
    /--[^\n]*|\/\*|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$([A-Za-z_]\w*)?\$|\b(?:begin\s+atomic|case|end)\b|;|[A-Za-z_][\w$]*/giy;
  let start = 0;
  let at = 0;
  /** Inside a body of `begin atomic … end`. */
  let depth = 0;
  const lineOf = (index: number) => text.slice(0, index).split('\n').length;
  const statement = (end: number) => {
    const raw = text.slice(start, end);
    const lead = /^(?:\s+|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)*/.exec(raw)?.[0].length ?? 0;
    return { sql: raw.slice(lead).trim(), line: lineOf(start + lead) };
  };
  while (at < text.length) {
    token.lastIndex = at;
    const match = token.exec(text);
    if (!match) {
      at += 1;
      continue;
    }
    const word = match[0];
    at = token.lastIndex;
    if (word === '/*') at = endOfComment(text, at);
    else if (/^\$.*\$$/.test(word)) {
      const close = text.indexOf(word, at);
      at = close < 0 ? text.length : close + word.length;
    } else if (word.startsWith("'") && /\be$/i.test(text.slice(start, match.index)))
      at = endOfEscape(text, match.index);
    else if (/^begin\s/i.test(word)) depth += 1;
    else if (depth > 0 && /^case$/i.test(word)) depth += 1;
    else if (depth > 0 && /^end$/i.test(word)) depth -= 1;
    else if (word === ';' && depth === 0) {
      const found = statement(match.index);
      if (found.sql) yield found;
      start = at;
    }
  }
  const rest = statement(text.length);
  if (rest.sql) yield rest;
}

/** Comments nest in SQL. */
function endOfComment(text: string, from: number): number {
  let depth = 1;
  let at = from;
  while (at < text.length && depth > 0) {
    if (text.startsWith('/*', at)) {
      depth += 1;
      at += 2;
    } else if (text.startsWith('*/', at)) {
      depth -= 1;
      at += 2;
    } else at += 1;
  }
  return at;
}

/** An `e'…'` string also has backslashes. */
function endOfEscape(text: string, quote: number): number {
  const body = /'(?:[^'\\]|\\[\s\S]|'')*'/y;
  body.lastIndex = quote;
  return body.exec(text) ? body.lastIndex : text.length;
}

function describe(error: unknown): string {
  if (!(error instanceof postgres.PostgresError))
    return error instanceof Error ? error.message : String(error);
  return [
    `${error.severity} ${error.code}: ${error.message}`,
    error.detail && `DETAIL: ${error.detail}`,
    error.hint && `HINT: ${error.hint}`,
    error.where && `CONTEXT: ${error.where}`,
  ]
    .filter(Boolean)
    .join('\n');
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '       ');
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { url: { type: 'string' } },
  });
  const url = values.url ?? process.env.DATABASE_URL;
  if (url) {
    const files =
      positionals.length > 0
        ? positionals
        : (await Array.fromAsync(glob('tests/sql/**/*.test.sql', { cwd: root }))).sort();
    const result = await runSqlTests({ url, files, log: (line) => console.log(line) });
    const skipped = result.skipped > 0 ? `, ${result.skipped} skipped` : '';
    console.log(`\n${result.passed} passed, ${result.failed} failed${skipped}`);
    process.exitCode = result.failed === 0 && result.passed > 0 ? 0 : 1;
  } else {
    console.error('usage: node scripts/test-sql.ts --url postgres://… [file …]');
    process.exitCode = 2;
  }
}
