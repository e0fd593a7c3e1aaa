/** Brings up what is attacked: the local stack with the migrations as they are, or with sql/ as it stands. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { applyFiles, migrationFiles, sourceFiles } from '../../scripts/dev/compare.ts';
import { connect, createDatabase } from '../../scripts/local/database.ts';
import { startStack } from '../../scripts/local/stack.ts';
import type { Server } from './world.ts';

export interface ServerOptions {
  /** Run the Edge Functions and the simulators as well (default true). */
  functions?: boolean;
  /** `migrations` is what a project gets, `sql` the source of truth before it has been made into a migration. */
  from?: 'migrations' | 'sql';
}

export interface RunningServer extends Server {
  stop(): Promise<void>;
}

const migrationsOfExtensions = /_extensions\.sql$/;

export async function startServer(options: ServerOptions = {}): Promise<RunningServer> {
  const functions = options.functions ?? true;
  const from = options.from ?? 'migrations';
  const logs: string[] = [];
  const stack = await startStack({
    dataDir: 'temporary',
    seed: false,
    // The ticks of the attacks are the attacks' own: nothing moves between a look at the victim's rows and the next.
    cron: false,
    migrate: from === 'migrations',
    functions,
    simulators: functions,
    log: (line) => logs.push(line),
  });
  try {
    const { info, database } = stack;
    if (from === 'sql') {
      const extensions = (await migrationFiles()).filter(({ path }) => migrationsOfExtensions.test(path));
      await applyFiles(database.url, [...extensions, ...(await sourceFiles())]);
    }
    await apiKnows(info.api_url, info.secret_key, 'tenants');
    return {
      apiUrl: info.api_url,
      functionsUrl: functions ? info.functions_url : undefined,
      publishableKey: info.publishable_key,
      secretKey: info.secret_key,
      jwtSecret: database.keys.jwtSecret,
      cronSecret: info.cron_secret,
      databasePassword: database.keys.databasePassword,
      adminUrl: stack.adminUrl,
      ownerUrl: database.url,
      authenticatorUrl: database.urlOf('authenticator'),
      logs,
      serverLog: await logOf(stack.adminUrl),
      emptyDatabase: async (name) => {
        const made = await createDatabase(database, name);
        return { url: made.url, drop: () => made.stop() };
      },
      simulators: info.simulators,
      stop: () => stack.stop(),
    };
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

/** Waits until the Data API has read the schema. */
export async function apiKnows(apiUrl: string, key: string, table: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const response = await fetch(`${apiUrl}/rest/v1/${table}?limit=0`, { headers: { apikey: key } });
    const text = await response.text();
    if (response.ok) return;
    if (Date.now() > deadline)
      throw new Error(`the Data API does not know ${table}: ${response.status} ${text}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The log of our own server lies beside its data. */
async function logOf(adminUrl: string): Promise<string | undefined> {
  const sql = connect(adminUrl);
  try {
    const [row] = await sql<{ data_directory: string }[]>`show data_directory`;
    const file = join(dirname(row?.data_directory ?? ''), 'postgres.log');
    return existsSync(file) ? file : undefined;
  } finally {
    await sql.end();
  }
}
