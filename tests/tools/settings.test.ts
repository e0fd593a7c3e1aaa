/** What a server given by DATABASE_URL is told to change, so that its real extensions work. */
import { describe, expect, test } from 'vitest';
import { missingSettings } from '../../scripts/local/database.ts';

const all = ['pg_cron', 'pg_net', 'supabase_vault', 'pgtap'];
const ready = {
  preload: 'pg_stat_statements, pg_cron, $libdir/pg_net,supabase_vault',
  cronDatabase: 'app',
  netDatabase: 'app',
};

describe('a server with real extensions', () => {
  test('that runs them in this database is taken as it is', () => {
    expect(missingSettings(all, ready, 'app')).toEqual([]);
  });

  test('that runs them in another database is told of both', () => {
    expect(missingSettings(all, ready, 'other')).toEqual([
      "cron.database_name = 'other'",
      "pg_net.database_name = 'other'",
    ]);
  });

  test('whose libraries are not loaded is told to load them beside those that are', () => {
    const server = { preload: 'pg_stat_statements', cronDatabase: null, netDatabase: null };
    expect(missingSettings(all, server, 'postgres')).toEqual([
      "shared_preload_libraries = 'pg_stat_statements,pg_cron,pg_net,supabase_vault'",
      "cron.database_name = 'postgres'",
    ]);
    expect(missingSettings(all, { ...server, preload: '' }, 'app')).toEqual([
      "shared_preload_libraries = 'pg_cron,pg_net,supabase_vault'",
      "cron.database_name = 'app'",
      "pg_net.database_name = 'app'",
    ]);
  });

  test('is asked nothing about what it only has a stand-in for', () => {
    expect(missingSettings(['pgtap'], { preload: '', cronDatabase: null, netDatabase: null }, 'app')).toEqual(
      [],
    );
    expect(missingSettings(['pg_cron'], { ...ready, netDatabase: 'other' }, 'app')).toEqual([]);
  });
});
