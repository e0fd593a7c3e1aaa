/**
 * Being a guest on somebody's server (DATABASE_URL): the demo and the tests begin from an empty database, so they make sure
 * that they empty none that anybody misses.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './config.ts';
import { connect, cronEntry, ServerRefused } from './database.ts';

/** Ends of addresses that no real person has (RFC 2606). */
const madeUp = '(^|[@.])(test|example|invalid|localhost|example\\.(com|net|org))$';

/**
 * Throws, with what to do, when a stack uses the database, or when it holds real people, or tables or entries of pg_cron that are not ours.
 * Changes nothing. A database that no stack prepared is not judged here: `startDatabase` takes it only when it is empty.
 *
 * @param guest who wants to empty it, as the error says it: `the demo`, `the tests`
 */
export async function assertNobodyIsHome(databaseUrl: string, guest: string): Promise<void> {
  if (!URL.canParse(databaseUrl)) throw new ServerRefused('DATABASE_URL is not a url like postgresql://…');
  const sql = connect(databaseUrl);
  try {
    const [home] = await sql<{ busy: boolean; users: boolean }[]>`
      select to_regclass('auth.users') is not null as users,
        exists (
          select from pg_catalog.pg_stat_activity a
          where a.datname = current_database() and a.usename in ('authenticator', 'supabase_auth_admin')
        ) as busy`;
    if (home?.busy)
      throw new ServerRefused('Another stack uses the database of DATABASE_URL now. Stop it first.');
    if (!home?.users) return;
    const refuse = (holds: string) => {
      throw new ServerRefused(
        `The database of DATABASE_URL holds ${holds}, and ${guest} would empty it. Nothing in it was changed. ` +
          'Use another database, or empty this one: npm start -- --reset',
      );
    };
    // Somebody without an address, who signed in by phone or as a guest, may be anybody.
    const [real] = await sql`select from auth.users u where coalesce(u.email, '') !~* ${madeUp} limit 1`;
    if (real) refuse('people who are not made up');
    const foreign = await tablesOfOthers(sql);
    if (foreign !== undefined) refuse(`${foreign}, which no migration of this checkout made`);
    const entry = await cronEntry(sql);
    if (entry !== undefined) refuse(entry);
  } finally {
    await sql.end();
  }
}

/** The name of one table or view that is neither an extension's, nor Auth's, nor made by a migration. */
async function tablesOfOthers(sql: ReturnType<typeof connect>): Promise<string | undefined> {
  const directory = join(root, 'supabase', 'migrations');
  const migrations = readdirSync(directory)
    .map((file) => readFileSync(join(directory, file), 'utf8').toLowerCase().replaceAll('"', ''))
    .join('\n');
  const tables = await sql<{ name: string }[]>`
    select format('%s.%s', n.nspname, c.relname) as name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
      and n.nspname not like 'pg\\_%' and n.nspname not in ('information_schema', 'auth', 'supabase_migrations')
      and not exists (
        select from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
      )
    order by name`;
  const made = new Set(migrations.match(/\b[a-z_][\w$]*\.[a-z_][\w$]*/g));
  return tables.find(({ name }) => !made.has(name))?.name;
}
