/** What db:diff, db:check, types and check share: the database of the migrations and the one of sql/, side by side. */
import postgres from 'postgres';
import {
  applyFiles,
  contents,
  isGrantToOwner,
  lineDifference,
  migrationFiles,
  schemaDifference,
  sourceFiles,
} from './compare.ts';
import type { Scratch } from './scratch.ts';

/** A database to which supabase/migrations is applied, in order. Returns its url. */
export async function migrationsDatabase(scratch: Scratch): Promise<string> {
  const url = await scratch.create('migrations');
  await applyFiles(url, await migrationFiles());
  await dropDatedPartitions(url);
  return url;
}

/**
 * A database to which sql/ is applied, in the order of its paths. Extensions are the migrations' own matter: it gets those of
 * `migrations`, the other database. Returns its url.
 */
export async function sourceDatabase(scratch: Scratch, migrations: string): Promise<string> {
  const url = await scratch.create('source');
  await createExtensionsOf(migrations, url);
  await applyFiles(url, await sourceFiles());
  await dropDatedPartitions(url);
  return url;
}

async function createExtensionsOf(from: string, to: string): Promise<void> {
  const source = postgres(from, { max: 1, onnotice: () => {} });
  const target = postgres(to, { max: 1, onnotice: () => {} });
  try {
    const statements = await source<{ statement: string }[]>`
      select pg_catalog.format('create extension if not exists %I with schema %I', e.extname, n.nspname) as statement
      from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
      order by e.oid`;
    for (const { statement } of statements) await target.unsafe(statement);
  } finally {
    await Promise.all([source.end(), target.end()]);
  }
}

/** Partitions for a day or a month come and go at run time: which of them exist depends on the date, not on a migration. */
export async function dropDatedPartitions(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await sql.unsafe(`do $$
      declare
        partition regclass;
      begin
        for partition in
          select c.oid::regclass from pg_catalog.pg_class c
          where c.relispartition and c.relkind in ('r', 'p')
            and pg_catalog.pg_get_expr(c.relpartbound, c.oid) like 'FOR VALUES FROM (''%'
        loop
          execute format('drop table if exists %s', partition);
        end loop;
      end $$`);
  } finally {
    await sql.end();
  }
}

/**
 * What still separates two databases, in readable lines; empty when they are the same. `+` is only in `desired`, `-` only in
 * `actual`.
 */
export async function differences(actual: string, desired: string): Promise<string[]> {
  const { changes } = await schemaDifference(actual, desired);
  const rows = lineDifference(await contents(actual), await contents(desired));
  // An owner's grants to itself come along with other changes; alone they are the change.
  const telling = changes.filter((change) => !isGrantToOwner(change));
  return [...(telling.length > 0 ? telling : changes).map((change) => `${change};`), ...rows];
}
