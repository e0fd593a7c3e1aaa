// The demo on somebody's own server (DATABASE_URL): it begins from an empty database, so it makes sure that it empties
// none that anybody misses.
import { connect } from '../local/database.ts';

/** Ends of addresses that no real person has (RFC 2606). */
const madeUp = '(^|[@.])(test|example|invalid|localhost|example\\.(com|net|org))$';

/** Throws, with what to do, when the database is in use or holds real people. Changes nothing. */
export async function assertNobodyIsHome(databaseUrl: string): Promise<void> {
  if (!URL.canParse(databaseUrl)) throw new Error('DATABASE_URL is not a url like postgresql://…');
  const sql = connect(databaseUrl);
  try {
    const [home] = await sql<{ busy: boolean; users: boolean }[]>`
      select to_regclass('auth.users') is not null as users,
        exists (
          select from pg_catalog.pg_stat_activity a
          where a.datname = current_database() and a.usename in ('authenticator', 'supabase_auth_admin')
        ) as busy`;
    if (home?.busy) throw new Error('Another stack uses the database of DATABASE_URL now. Stop it first.');
    if (!home?.users) return;
    const [real] = await sql`select from auth.users u where u.email !~* ${madeUp} limit 1`;
    if (real) {
      throw new Error(
        'The database of DATABASE_URL holds people who are not made up, and the demo would empty it. Use another database, ' +
          'or empty this one: npm start -- --reset',
      );
    }
  } finally {
    await sql.end();
  }
}
