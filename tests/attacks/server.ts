/** Brings up what is attacked: the local stack with the migrations as they are, or with sql/ as it stands. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { applyFiles, migrationFiles, type SqlFile, sourceFiles } from '../../scripts/dev/compare.ts';
import { startApi } from '../../scripts/local/api.ts';
import { readConfig, root } from '../../scripts/local/config.ts';
import { connect, createDatabase, type Database, startDatabase } from '../../scripts/local/database.ts';
import { startGateway } from '../../scripts/local/gateway.ts';
import { startStack } from '../../scripts/local/stack.ts';
import { buildScene, type Scene, type Server } from './world.ts';

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
    if (from === 'sql') await applyFiles(database.url, await sourceOfTruth());
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
      authUrl: database.urlOf('supabase_auth_admin'),
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

export interface Copies extends AsyncDisposable {
  scene: Scene;
  /** A superuser's url of what the copies are made from. */
  templateUrl: string;
  /** Another copy of the database with the scene in it, at first without an API: `start` brings that up. */
  open(): Promise<{ server: Server; start(): Promise<void>; close(): Promise<void> }>;
}

/** A server with the scene in one database, of which copies are made in a moment: what is broken in one, no other has. */
export async function openCopies(options: { from: 'migrations' | 'sql' }): Promise<Copies> {
  const database = await startDatabase();
  try {
    const template = await createDatabase(database, 'attack_template');
    const files = options.from === 'migrations' ? await migrationFiles() : await sourceOfTruth();
    await applyFiles(template.url, files);
    const first = serverOf(database, 'attack_template');
    const api = await serve(first);
    const scene = await buildScene(first).finally(() => api.stop());
    let count = 0;
    return {
      scene,
      templateUrl: template.adminUrl,
      open: async () => {
        const name = `attack_${++count}`;
        await asAdmin(database, `create database ${name} template attack_template`);
        // A copy does not take the settings of the database along.
        await asAdmin(database, `alter database ${name} set search_path to "$user", public, extensions`);
        await asAdmin(database, `alter database ${name} owner to "${database.owner}"`);
        const server = serverOf(database, name);
        let running: { stop(): Promise<void> } | undefined;
        return {
          server,
          start: async () => {
            running = await serve(server);
          },
          close: async () => {
            await running?.stop();
            await asAdmin(database, `drop database if exists ${name} with (force)`);
          },
        };
      },
      [Symbol.asyncDispose]: () => database.stop(),
    };
  } catch (error) {
    await database.stop();
    throw error;
  }
}

/** The server of one database. Its API has an address once it is served. */
function serverOf(database: Database, name: string): Server {
  const urlOf = (url: string): string => {
    const changed = new URL(url);
    changed.pathname = `/${name}`;
    return changed.href;
  };
  const { keys } = database;
  return {
    apiUrl: '',
    functionsUrl: undefined,
    publishableKey: keys.publishableKey,
    secretKey: keys.secretKey,
    jwtSecret: keys.jwtSecret,
    cronSecret: keys.cronSecret,
    databasePassword: keys.databasePassword,
    adminUrl: urlOf(database.adminUrl),
    ownerUrl: urlOf(database.url),
    authenticatorUrl: urlOf(database.urlOf('authenticator')),
    authUrl: urlOf(database.urlOf('supabase_auth_admin')),
    simulators: {},
    logs: [],
    serverLog: undefined,
    emptyDatabase: undefined,
  };
}

/** Serves Data API and Auth over the server's database, in this process. */
async function serve(server: Server): Promise<{ stop(): Promise<void> }> {
  const config = readConfig();
  const gateway = await startGateway();
  try {
    server.apiUrl = gateway.url;
    const api = await startApi({
      authenticatorUrl: server.authenticatorUrl,
      authUrl: server.authUrl,
      ownerUrl: server.ownerUrl,
      schemas: config.api.schemas,
      maxRows: config.api.max_rows,
      jwtSecret: server.jwtSecret,
      jwtExpirySeconds: config.auth.jwtExpirySeconds,
      publishableKey: server.publishableKey,
      secretKey: server.secretKey,
      apiUrl: gateway.url,
      log: (line) => server.logs.push(line),
    });
    gateway.open({
      rest: api.rest,
      auth: api.auth,
      enterFunction: () => 'unknown',
      dashboardDir: join(root, 'dashboard'),
    });
    return {
      stop: async () => {
        await gateway.stop();
        await api.stop();
      },
    };
  } catch (error) {
    await gateway.stop();
    throw error;
  }
}

async function asAdmin(database: Database, statement: string): Promise<void> {
  const sql = connect(database.adminUrl);
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}

async function sourceOfTruth(): Promise<SqlFile[]> {
  const extensions = (await migrationFiles()).filter(({ path }) => migrationsOfExtensions.test(path));
  return [...extensions, ...(await sourceFiles())];
}
