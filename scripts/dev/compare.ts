/**
 * Compares the database that supabase/migrations gives with the one that sql/ gives: schema and grants through
 * pg-delta, rows and cron entries by reading them.
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { formatSqlStatements } from '@supabase/pg-delta/sql-format';
import postgres from 'postgres';
import { z } from 'zod';
import { bin, outputOf, root, runCommand } from './command.ts';

export interface SqlFile {
  /** From the checkout's root, with forward slashes. */
  path: string;
  text: string;
}

/** Files of rows (idempotent upserts): a schema diff doesn't carry them, so a migration takes their text as it is. */
export const isRowsFile = (file: SqlFile): boolean => file.path.endsWith('.rows.sql');

async function filesBelow(folder: string): Promise<SqlFile[]> {
  const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    },
  );
  const paths = entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.sql'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
    .sort();
  return Promise.all(paths.map(async (path) => ({ path, text: await readFile(join(root, path), 'utf8') })));
}

/** The migrations in the order in which they are applied. */
export const migrationFiles = (): Promise<SqlFile[]> => filesBelow('supabase/migrations');

/** The database's source of truth, in the order of its paths. */
export const sourceFiles = (): Promise<SqlFile[]> => filesBelow('sql');

/** A file that the server refused, with the place in it. */
export class SqlFileError extends Error {
  override name = 'SqlFileError';
}

/** Runs one file as the CLI does: all of it in one transaction. */
async function applyFile(sql: postgres.Sql, file: SqlFile): Promise<void> {
  try {
    await sql.begin((transaction) => transaction.unsafe(file.text).simple());
  } catch (error) {
    if (!(error instanceof postgres.PostgresError)) throw error;
    const line = error.position === undefined ? '' : `:${lineAt(file.text, Number(error.position))}`;
    const more = [error.detail, error.hint, error.where].filter((text) => text).join('\n  ');
    throw new SqlFileError(
      `${file.path}${line}: ${error.message} (${error.code})${more ? `\n  ${more}` : ''}`,
    );
  }
}

const lineAt = (text: string, position: number): number => text.slice(0, position - 1).split('\n').length;

/** Applies the files in order, each in a transaction of its own; stops at the first that fails with a `SqlFileError`. */
export async function applyFiles(url: string, files: readonly SqlFile[]): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    for (const file of files) await applyFile(sql, file);
  } finally {
    await sql.end();
  }
}

export interface SchemaDifference {
  /** The changes that turn the first database into the second, one statement each. */
  changes: string[];
  /** The changes as SQL, one text per transaction; `transactional` is false for one that must run outside of one. */
  segments: Segment[];
  /** Those of the changes that lose data or what holds it. When there are any and `allowDrops` is not set, there are no segments. */
  losses: string[];
}

const planFile = z.object({
  actions: z.array(
    z.object({
      sql: z.string(),
      destroys: z.array(z.looseObject({ kind: z.string() })),
      dataLoss: z.string(),
    }),
  ),
});
const holdsData = ['schema', 'table', 'column', 'sequence', 'materializedView', 'extension'];
const renderSummary = z.object({
  files: z.array(z.object({ transactional: z.boolean(), actionCount: z.number() })),
});

/**
 * The changes that turn the schema of `source` into that of `desired`. What the platform owns (auth, storage, vault, net,
 * cron, extensions, its roles) is left out by pg-delta's profile `supabase`.
 */
interface Segment {
  sql: string;
  transactional: boolean;
}

interface Statements {
  statements: string[];
  transactional: boolean;
}

/**
 * As few transactions as can be, because a migration that fails half-way should leave nothing behind. A new value of an enum can
 * only be used by a later transaction: pg-delta begins another one after each, here all of them come first, together.
 */
function joined(segments: readonly Statements[]): Segment[] {
  const isNewValue = (statement: string) => /^alter type \S+ add value /i.test(statement.trim());
  const newValues = segments.flatMap(({ statements }) => statements.filter(isNewValue));
  const groups: Statements[] = [{ statements: newValues, transactional: true }];
  for (const [index, { statements, transactional }] of segments.entries()) {
    const others = statements.filter((statement) => !isNewValue(statement));
    const last = groups.at(-1);
    if (index > 0 && last?.transactional && transactional) last.statements.push(...others);
    else groups.push({ statements: others, transactional });
  }
  return groups
    .map(({ statements, transactional }) => ({ sql: acknowledged(statements).join('\n'), transactional }))
    .filter(({ sql }) => sql !== '');
}

export async function schemaDifference(
  source: string,
  desired: string,
  options: { allowDrops?: boolean } = {},
): Promise<SchemaDifference> {
  const folder = await mkdtemp(join(tmpdir(), 'onecron-diff-'));
  try {
    const plan = join(folder, 'plan.json');
    const planned = await runCommand(bin('pgdelta'), [
      'plan',
      ...['--profile', 'supabase', '--source', source, '--desired', desired, '--out', plan],
    ]);
    if (planned.code !== 0) throw new Error(`pgdelta plan failed:\n${outputOf(planned)}`);
    const { actions } = planFile.parse(JSON.parse(await readFile(plan, 'utf8')));
    const statements = actions.map((action) => readable(action.sql));
    const changes = statements.filter((statement) => !isCronEntry(statement));
    const losses = actions
      .map((action, index) => ({ ...action, statement: statements[index] ?? '' }))
      .filter(
        ({ dataLoss, destroys }) =>
          dataLoss !== 'none' || destroys.some(({ kind }) => holdsData.includes(kind)),
      )
      .map(({ statement }) => statement)
      .filter((statement) => !isCronEntry(statement));
    if (changes.length === 0 || (losses.length > 0 && !options.allowDrops))
      return { changes, losses, segments: [] };

    // pg-delta's own guard also stops at a dropped policy or a revoke; the one above has looked at what matters.
    const rendered = await runCommand(bin('pgdelta'), [
      ...['render', '--plan', plan, '--out', join(folder, 'migration.sql'), '--allow-drops'],
    ]);
    if (rendered.code !== 0) throw new Error(`pgdelta render failed:\n${outputOf(rendered)}`);
    const { files } = renderSummary.parse(JSON.parse(rendered.stdout.trim().split('\n').at(-1) ?? ''));
    const rest = [...statements];
    const segments = files.map(({ transactional, actionCount }) => ({
      statements: rest
        .splice(0, actionCount)
        .filter((statement) => !isGrantToOwner(statement) && !isCronEntry(statement)),
      transactional,
    }));
    return { changes, losses, segments: joined(segments) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * A new table has no rows and no readers, so what is added to it needs no care. squawk doesn't follow that for all of its rules:
 * those are ignored there, and only there.
 */
function acknowledged(statements: readonly string[]): string[] {
  const created = new Set<string>();
  return statements.map((statement) => {
    const [, newTable] = /^create table (\S+)/.exec(statement) ?? [];
    if (newTable !== undefined) created.add(newTable);
    const [, table = '', addition = ''] =
      /^alter table (\S+)\s+add (column|constraint)\b/.exec(statement) ?? [];
    const rules = created.has(table) ? needless[addition] : undefined;
    const noted =
      rules === undefined ? statement : statement.replace(/\n/, `\n  -- squawk-ignore ${rules}\n`);
    return `${noted};\n`;
  });
}

const needless: Record<string, string> = {
  column: 'adding-required-field, adding-field-with-default',
  constraint: 'adding-serial-primary-key-field',
};

/** Every privilege of a table in PostgreSQL 17; 15 has no `maintain`, and `all` means the same on both. */
const everyTablePrivilege =
  /\b(grant|revoke) delete, insert, maintain, references, select, trigger, truncate, update\b/;

function readable(statement: string): string {
  const [formatted = statement] = formatSqlStatements([statement], {
    keywordCase: 'lower',
    maxWidth: 110,
    alignColumns: false,
  });
  return (
    formatted
      .replace(/^(grant|revoke) [^\n]*/, (line) => line.replace(everyTablePrivilege, '$1 all'))
      // The role that runs migrations owns what they make, whatever its name is on a server of one's own.
      .replace(/^(alter default privileges) for role "postgres"/, '$1')
      .replace(/^grant\b[^;]*\sto [^;]+$/, (grant) => grant.replace(/("postgres", |, "postgres")/, ''))
  );
}

/** An owner's own privileges come with the object: spelled out they'd only be noise. */
export const isGrantToOwner = (statement: string): boolean => /^grant\b[^;]*\sto "postgres"$/.test(statement);

/** pg-delta ties a cron entry to the name of the database that it was found in: `contents` compares the entries instead. */
const isCronEntry = (statement: string): boolean => /^select\s+cron\./.test(statement);

/** What a database holds beside its schema, as lines that can be compared: reference rows and cron entries. */
export async function contents(url: string): Promise<string[]> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    // Points in time, identities and random keys differ each time that a row is written: they say nothing about a row.
    const tables = await sql<{ name: string; columns: string[] }[]>`
      select format('%I.%I', n.nspname, c.relname) as name,
        array_agg(format('%I', a.attname) order by a.attname) as columns
      from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
      where c.relkind = 'r'
        and pg_catalog.pg_get_userbyid(c.relowner) = current_user
        and n.nspname <> all (array['auth', 'cron', 'extensions', 'net', 'storage', 'supabase_migrations', 'vault'])
        and a.attidentity = '' and a.attgenerated = ''
        and a.atttypid <> 'pg_catalog.timestamptz'::pg_catalog.regtype
        and coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') !~ '(nextval|gen_random_uuid|uuidv7|random)[(]'
      group by n.nspname, c.relname
      order by 1`;
    const lines: string[] = [];
    for (const { name, columns } of tables) {
      const rows = await sql<{ row: string }[]>`
        select pg_catalog.to_jsonb(r)::text as row
        from (select ${sql.unsafe(columns.join(', '))} from ${sql.unsafe(name)}) r
        order by 1`;
      lines.push(...rows.map(({ row }) => `${name} ${row}`));
    }
    const [cron] = await sql`select pg_catalog.to_regclass('cron.job') is not null as exists`;
    if (cron?.exists) {
      const entries = await sql<{ entry: string }[]>`
        select pg_catalog.jsonb_build_object('name', j.jobname, 'schedule', j.schedule, 'command', j.command, 'active', j.active)::text
          as entry
        from cron.job j
        order by 1`;
      lines.push(...entries.map(({ entry }) => `cron.job ${entry}`));
    }
    return lines;
  } finally {
    await sql.end();
  }
}

/** Lines that only one of the two has: `-` the first, `+` the second. */
export function lineDifference(first: readonly string[], second: readonly string[]): string[] {
  const minus = without(first, second).map((line) => `- ${line}`);
  const plus = without(second, first).map((line) => `+ ${line}`);
  return [...minus, ...plus];
}

function without(lines: readonly string[], others: readonly string[]): string[] {
  const rest = [...others];
  return lines.filter((line) => {
    const at = rest.indexOf(line);
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
}
