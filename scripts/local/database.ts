import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import postgres from 'postgres';
import { createAuthTables } from './api.ts';
import { removeCluster, startCluster, sweepThrowAways, throwAwayPrefix } from './cluster.ts';
import { root } from './config.ts';
import { type Keys, makeDataDir, readKeys, sessionName } from './env.ts';
import { installStandIns } from './extensions/install.ts';
import { type Guard, startGuard } from './guard.ts';

/** What the server of DATABASE_URL is, has or lacks, so that it is not used; says what to do. */
export class ServerRefused extends Error {
  override name = 'ServerRefused';
}

export interface Database {
  /** As the superuser: for preparing and for the stand-ins' workers, never for migrations or the API. */
  adminUrl: string;
  /** As the owner, `postgres` on our own server: not a superuser, as on the platform. Migrations run as this role. */
  url: string;
  owner: string;
  keys: Keys;
  /** Which of the extensions this server only has a stand-in for. */
  standIns: StandIn[];
  /** The url of another role of this database, e.g. `authenticator`. */
  urlOf(role: string): string;
  /** Stops our own server. A server given by DATABASE_URL goes on, with its entries of pg_cron at rest. */
  stop(): Promise<void>;
}

export interface DatabaseOptions {
  /** Keeps its data there. Without it the database is thrown away when it stops. */
  dataDir?: string | undefined;
  /** Begin from an empty database. */
  reset?: boolean | undefined;
  /** A superuser's url of an empty PostgreSQL 15 or newer, used instead of a server of our own. */
  databaseUrl?: string | undefined;
  preferredPort?: number | undefined;
  /** Whether data must survive a crash of the machine (default: when `dataDir` is given). */
  durable?: boolean | undefined;
  log?: ((line: string) => void) | undefined;
  guard?: Guard | undefined;
}

const standInNames = ['pg_cron', 'pg_net', 'supabase_vault', 'pgtap'] as const;
export type StandIn = (typeof standInNames)[number];

/** Starts (or connects to) a database and prepares it like Supabase's, without migrations and without any API. */
export async function startDatabase(options: DatabaseOptions = {}): Promise<Database> {
  const log = options.log ?? (() => {});
  const throwAway = options.dataDir === undefined;
  if (throwAway) sweepThrowAways();
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), throwAwayPrefix));
  makeDataDir(dataDir);
  const keys = readKeys(dataDir);
  const cleanUp = () => {
    if (throwAway) rmSync(dataDir, { recursive: true, force: true });
  };
  try {
    if (options.databaseUrl) {
      const database = await prepare(options.databaseUrl, { keys, reset: options.reset ?? false, log });
      await wakeCron(database);
      const stop = async () => {
        // A server that is gone has nothing that ticks.
        await restCron(database, log).catch((error: unknown) => {
          log(`pg_cron of DATABASE_URL goes on: ${error instanceof Error ? error.message : String(error)}`);
        });
        cleanUp();
      };
      return { ...database, stop };
    }
    if (options.reset) await removeCluster(dataDir, log);
    const guard = options.guard ?? startGuard();
    if (throwAway) guard.discard(dataDir);
    const cluster = await startCluster({
      dataDir,
      password: keys.databasePassword,
      preferredPort: options.preferredPort,
      durable: options.durable ?? !throwAway,
      guard,
      log,
    });
    const stop = async () => {
      await cluster.stop();
      if (!options.guard) await guard.close();
      cleanUp();
    };
    try {
      const adminUrl = databaseUrl(`127.0.0.1:${cluster.port}`, 'supabase_admin', keys, 'postgres');
      const database = await prepare(adminUrl, { keys, extensionDir: cluster.extensionDir, log });
      return { ...database, stop };
    } catch (error) {
      await stop();
      throw error;
    }
  } catch (error) {
    cleanUp();
    throw error;
  }
}

/** Makes another empty database beside this one, prepared in the same way, and answers with it. `stop` drops it. */
export async function createDatabase(database: Database, name: string): Promise<Database> {
  if (!/^[a-z][a-z0-9_]{0,62}$/.test(name)) throw new Error(`"${name}" is no plain name for a database`);
  const admin = connect(database.adminUrl);
  try {
    await admin.unsafe(`create database ${quote(name)} template template0`);
  } finally {
    await admin.end();
  }
  const adminUrl = new URL(database.adminUrl);
  adminUrl.pathname = `/${name}`;
  const prepared = await prepare(adminUrl.href, {
    keys: database.keys,
    knownStandIns: database.standIns,
    owner: database.owner,
  });
  return {
    ...prepared,
    stop: async () => {
      const again = connect(database.adminUrl);
      try {
        await again.unsafe(`drop database if exists ${quote(name)} with (force)`);
      } finally {
        await again.end();
      }
    },
  };
}

export interface PrepareOptions {
  keys: Keys;
  reset?: boolean;
  /** Our own server's directory of extensions, which takes all stand-ins. Elsewhere the server is asked. */
  extensionDir?: string;
  /** The stand-ins are installed already. */
  knownStandIns?: StandIn[];
  owner?: string;
  log?: (line: string) => void;
}

/**
 * Makes a database look like a fresh Supabase project: roles, schemas, their grants, the extensions that are there from
 * the start, the tables of Auth. Does nothing to a database that it prepared before.
 */
export async function prepare(adminUrl: string, options: PrepareOptions): Promise<Omit<Database, 'stop'>> {
  const { keys, log = () => {} } = options;
  const sql = connect(adminUrl);
  try {
    const [server] = await sql<{ name: string; superuser: boolean; version: number; role: string }[]>`
      select current_database() as name, r.rolsuper as superuser, r.rolname as role,
        current_setting('server_version_num')::int as version
      from pg_catalog.pg_roles r where r.rolname = current_user`;
    if (!server?.superuser) {
      throw new ServerRefused(`DATABASE_URL must be a superuser's: "${server?.role}" is none`);
    }
    if (server.version < 150_000) throw new ServerRefused('DATABASE_URL must be of PostgreSQL 15 or newer');

    const own = options.extensionDir !== undefined || options.knownStandIns !== undefined;
    const ours = await isPrepared(sql);
    if (options.reset) await empty(sql, ours, server.name);
    else if (!own && ours === undefined) await assertEmpty(sql, server.name);

    const standIns =
      options.knownStandIns ??
      (options.extensionDir
        ? await installAll(options.extensionDir)
        : await installLacking(sql, server.name, log));
    const owner = options.owner ?? (await ownerRole(sql));
    // Roles belong to the whole server. On one that others may share, the password comes from its own url, so that two
    // stacks on it agree.
    const password = own
      ? keys.databasePassword
      : createHash('sha256').update(serverIdentity(adminUrl)).digest('hex');
    const urlOf = (role: string) => {
      const url = new URL(adminUrl);
      url.username = role;
      url.password = password;
      return url.href;
    };

    const text = preparation(owner, server.name, password);
    const stamp = createHash('sha256').update(text).digest('hex').slice(0, 16);
    if (ours !== stamp || options.reset) {
      await sql.unsafe(text);
      // As the superuser, since Auth's role may create nothing but tables of its own; then handed over.
      await createAuthTables(adminUrl);
      await sql.unsafe(afterAuth(owner));
      await extensions(sql, owner, standIns, server.name, log);
      await sql.unsafe(`alter database ${quote(server.name)} set onecron.prepared = '${stamp}'`);
    }
    return { adminUrl, url: urlOf(owner), owner, keys, standIns, urlOf };
  } finally {
    await sql.end();
  }
}

/** The stamp of the preparation this database got, undefined when it got none. */
async function isPrepared(sql: postgres.Sql): Promise<string | undefined> {
  const [row] = await sql<{ stamp: string | null }[]>`
    select (
      select split_part(setting, '=', 2) from pg_catalog.pg_db_role_setting s, unnest(s.setconfig) as setting
      where s.setdatabase = d.oid and s.setrole = 0 and setting like 'onecron.prepared=%'
    ) as stamp
    from pg_catalog.pg_database d where d.datname = current_database()`;
  return row?.stamp ?? undefined;
}

async function userSchemas(sql: postgres.Sql): Promise<string[]> {
  const rows = await sql<{ nspname: string }[]>`
    select nspname from pg_catalog.pg_namespace
    where nspname not like 'pg\\_%' and nspname <> 'information_schema'`;
  return rows.map((row) => row.nspname);
}

/** An entry of pg_cron that is not ours, in words. They go with the extension, also those for other databases. */
export async function cronEntry(sql: postgres.Sql): Promise<string | undefined> {
  const [cron] = await sql`select where to_regclass('cron.job') is not null`;
  if (!cron) return undefined;
  const [entry] = await sql<{ name: string }[]>`
    select coalesce(j.jobname, j.jobid::text) as name from cron.job j where j.jobname is distinct from 'onecron' limit 1`;
  return entry && `the entry "${entry.name}" of pg_cron`;
}

async function assertEmpty(sql: postgres.Sql, name: string): Promise<void> {
  // What extensions brought is nobody's work, and indexes go with their tables.
  const [row] = await sql<{ found: string | null }[]>`
    select min(format('%I.%I', n.nspname, c.relname)) as found
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
      and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      and not exists (
        select from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
      )`;
  const found = row?.found ?? (await cronEntry(sql));
  if (found) {
    throw new ServerRefused(
      `DATABASE_URL must be an empty database: "${name}" holds ${found}. Nothing in it was changed.`,
    );
  }
}

/** Empties a database of somebody's server, but only one that we prepared. */
async function empty(sql: postgres.Sql, stamp: string | undefined, name: string): Promise<void> {
  if (stamp === undefined) return assertEmpty(sql, name);
  for (const extension of standInNames) await sql.unsafe(`drop extension if exists ${extension} cascade`);
  for (const schema of await userSchemas(sql)) await sql.unsafe(`drop schema ${quote(schema)} cascade`);
  await sql.unsafe(`
    create schema public authorization pg_database_owner;
    grant usage on schema public to public;
    alter database ${quote(name)} reset onecron.prepared;
    alter database ${quote(name)} reset onecron.resting;
  `);
}

/**
 * Switches the entries of a real pg_cron off, which goes on when the stack stops: every tick would ring for a worker that is
 * not there. Notes which, for `wakeCron`. Leaves them on while another stack uses the database.
 */
async function restCron(
  { adminUrl, standIns }: Omit<Database, 'stop'>,
  log: (line: string) => void,
): Promise<void> {
  if (standIns.includes('pg_cron')) return;
  const sql = connect(adminUrl);
  try {
    const [there] = await sql`select where to_regclass('cron.job') is not null`;
    if (!there) return;
    if (await isUsed(sql)) {
      log('Another stack uses the database: pg_cron goes on there.');
      return;
    }
    await sql.unsafe(`
      do $$
      declare
        entry bigint;
        resting bigint[];
      begin
        for entry in select j.jobid from cron.job j where j.active and j.database = current_database() loop
          perform cron.alter_job(entry, active := false);
          resting := resting || entry;
        end loop;
        if resting is not null then
          execute format('alter database %I set onecron.resting = %L', current_database(), array_to_string(resting, ' '));
        end if;
      end $$`);
  } finally {
    await sql.end();
  }
}

/** Switches the entries on again that the last stack left at rest. */
async function wakeCron({ adminUrl, standIns }: Omit<Database, 'stop'>): Promise<void> {
  if (standIns.includes('pg_cron')) return;
  // A new connection has the setting as it stands now.
  const sql = connect(adminUrl);
  try {
    await sql.unsafe(`
      do $$
      declare
        resting bigint[] := string_to_array(current_setting('onecron.resting', true), ' ');
        entry bigint;
      begin
        for entry in select j.jobid from cron.job j where j.jobid = any (resting) and not j.active loop
          perform cron.alter_job(entry, active := true);
        end loop;
        execute format('alter database %I reset onecron.resting', current_database());
      end $$`);
  } finally {
    await sql.end();
  }
}

/**
 * Whether another stack's API is connected; one that has just stopped gets a moment to go. What is left of our own, which was cut off in
 * the middle of a request, goes with this process.
 */
async function isUsed(sql: postgres.Sql): Promise<boolean> {
  for (let left = 20; ; left -= 1) {
    const [session] = await sql`
      select from pg_catalog.pg_stat_activity a
      where a.datname = current_database() and a.usename in ('authenticator', 'supabase_auth_admin')
        and a.application_name <> ${sessionName} limit 1`;
    if (!session) return false;
    if (left === 0) return true;
    await delay(100);
  }
}

async function installAll(directory: string): Promise<StandIn[]> {
  await installStandIns(directory, [...standInNames]);
  return [...standInNames];
}

/** Adds to somebody's server what it lacks, or says what its owner has to do. */
async function installLacking(
  sql: postgres.Sql,
  name: string,
  log: (line: string) => void,
): Promise<StandIn[]> {
  const offered = await sql<{ name: string; comment: string; version: string }[]>`
    select name, comment, default_version as version
    from pg_catalog.pg_available_extensions where name = any (${[...standInNames]}) order by name`;
  const theirs = offered.filter(({ comment }) => !/stand-in/i.test(comment));
  const real = theirs.map((each) => each.name);
  const lacking = standInNames.filter((each) => !real.includes(each));
  const listed = (names: string[]) => names.filter((each) => !each.startsWith('pgtap')).join(', ') || 'none';
  log(
    `Real extensions of the server: ${listed(theirs.map((each) => `${each.name} ${each.version}`))}. Stand-ins: ${listed([...lacking])}.`,
  );
  await assertRuns(sql, real, name);
  if (lacking.length > 0) {
    const [share] = await sql<{ setting: string }[]>`
      select setting from pg_catalog.pg_config where name = 'SHAREDIR'`;
    const directory = join(share?.setting ?? '', 'extension');
    try {
      accessSync(directory, constants.W_OK);
    } catch {
      // Those of an earlier start by somebody with more rights will do.
      const missing = lacking.filter((each) => !offered.some((offer) => offer.name === each));
      if (missing.length === 0) return [...lacking];
      throw new ServerRefused(
        `The server of DATABASE_URL lacks ${missing.join(', ')}, and ${directory} cannot be written from here. ` +
          'Install these extensions on the server, or start once as a user who may write there, on the server itself.',
      );
    }
    await installStandIns(directory, [...lacking]);
  }
  return [...lacking];
}

/** What a server says about the extensions that work only where the server loads them at its start. */
export interface LoadedExtensions {
  /** `shared_preload_libraries` */
  preload: string;
  /** `cron.database_name` and `pg_net.database_name`; null while the library is not loaded. */
  cronDatabase: string | null;
  netDatabase: string | null;
}

/**
 * What has to be changed in postgresql.conf so that those of these real extensions work in database `name`, line by line. Each of
 * them needs its library loaded; pg_cron and pg_net serve one database of a server.
 */
export function missingSettings(real: readonly string[], server: LoadedExtensions, name: string): string[] {
  const loaded = server.preload.split(',').map((each) => each.trim().split('/').at(-1) ?? '');
  const load = real.filter((each) => each !== 'pgtap' && !loaded.includes(each));
  const preload = [...server.preload.split(',').map((each) => each.trim()), ...load].filter(Boolean);
  return [
    ...(load.length > 0 ? [`shared_preload_libraries = '${preload.join(',')}'`] : []),
    ...(real.includes('pg_cron') && server.cronDatabase !== name ? [`cron.database_name = '${name}'`] : []),
    // Without it, it is `postgres`.
    ...(real.includes('pg_net') && (server.netDatabase ?? 'postgres') !== name
      ? [`pg_net.database_name = '${name}'`]
      : []),
  ];
}

async function assertRuns(sql: postgres.Sql, real: readonly string[], name: string): Promise<void> {
  const [server] = await sql<LoadedExtensions[]>`
    select current_setting('shared_preload_libraries') as preload,
      current_setting('cron.database_name', true) as "cronDatabase",
      current_setting('pg_net.database_name', true) as "netDatabase"`;
  if (!server) return;
  const missing = missingSettings(real, server, name);
  if (missing.length === 0) return;
  const other = [server.cronDatabase, server.netDatabase].find((each) => each !== null && each !== name);
  const names = real.filter((each) => each !== 'pgtap').join(', ');
  throw new ServerRefused(
    `The server of DATABASE_URL offers ${names}, but does not run all of it in "${name}". In its postgresql.conf set ` +
      `${missing.join(' and ')}, and restart it${other === undefined ? '.' : `; or use its database "${other}".`}`,
  );
}

/** `postgres`, unless that name is a superuser's, which migrations must not have: then `onecron`. */
async function ownerRole(sql: postgres.Sql): Promise<string> {
  const [taken] = await sql`select from pg_catalog.pg_roles where rolname = 'postgres' and rolsuper`;
  return taken ? 'onecron' : 'postgres';
}

/** The extensions that a hosted project has from the start, and the real ones that only a superuser may create. */
async function extensions(
  sql: postgres.Sql,
  owner: string,
  standIns: StandIn[],
  name: string,
  log: (line: string) => void,
): Promise<void> {
  await sql.unsafe('create extension if not exists supabase_vault cascade');
  await sql.unsafe(vaultGrants(owner));
  // The platform lets `postgres` create these two itself, as our stand-ins do, so the migrations create them. Where they
  // are real, or where the owner has another name than the grants of the stand-ins expect, they are made here.
  if (!standIns.includes('pg_cron') || owner !== 'postgres') {
    await sql.unsafe('create extension if not exists pg_cron');
    await sql.unsafe(cronGrants(owner));
    if (!standIns.includes('pg_cron')) await warnAboutCron(sql, owner, name, log);
  }
  if (!standIns.includes('pg_net') || owner !== 'postgres') {
    await sql.unsafe('create extension if not exists pg_net with schema extensions');
  }
}

async function warnAboutCron(
  sql: postgres.Sql,
  owner: string,
  name: string,
  log: (line: string) => void,
): Promise<void> {
  const [setting] = await sql<{ workers: string | null; host: string | null }[]>`
    select current_setting('cron.use_background_workers', true) as workers, current_setting('cron.host', true) as host`;
  if (setting?.workers === 'on') return;
  const { host, port } = sql.options;
  const probe = postgres({
    host: setting?.host || 'localhost',
    port: port[0] ?? 5432,
    database: name,
    username: owner,
    password: '',
    max: 1,
    connect_timeout: 3,
    onnotice: () => {},
  });
  try {
    await probe`select 1`;
  } catch {
    log(
      `pg_cron on ${host[0]} connects to ${setting?.host || 'localhost'} as "${owner}" without a password, which the server ` +
        "refuses: set cron.use_background_workers = 'on' in its postgresql.conf and restart it, or its jobs will not run.",
    );
  } finally {
    await probe.end();
  }
}

/** Roles, schemas and grants of a fresh project. Repeatable. */
function preparation(owner: string, database: string, password: string): string {
  const role = (name: string, attributes: string) => `
    do $$ begin create role ${quote(name)}; exception when duplicate_object or unique_violation then null; end $$;
    alter role ${quote(name)} with ${attributes};`;
  const me = quote(owner);
  return `
    set client_min_messages = warning;
    ${role('anon', 'nologin noinherit')}
    ${role('authenticated', 'nologin noinherit')}
    ${role('service_role', 'nologin noinherit bypassrls')}
    ${role('authenticator', `login noinherit password '${password}'`)}
    ${role('supabase_auth_admin', `login noinherit createrole password '${password}'`)}
    ${role(owner, `login nosuperuser createdb createrole replication bypassrls password '${password}'`)}
    do $$ begin create role supabase_admin superuser nologin; exception when duplicate_object then null; end $$;
    grant anon, authenticated, service_role to authenticator;
    grant anon, authenticated, service_role, authenticator to ${me} with admin option;
    grant pg_monitor, pg_read_all_data, pg_signal_backend to ${me};

    -- The Data API gives up on slow requests.
    alter role anon set statement_timeout = '3s';
    alter role authenticated set statement_timeout = '8s';
    alter role authenticator set statement_timeout = '8s';
    alter role authenticator set lock_timeout = '8s';

    alter database ${quote(database)} owner to ${me};
    alter database ${quote(database)} set search_path to "$user", public, extensions;
    alter role supabase_auth_admin in database ${quote(database)} set search_path to auth;

    revoke create on schema public from public;
    grant usage on schema public to ${me}, anon, authenticated, service_role;

    create schema if not exists extensions authorization ${me};
    grant usage on schema extensions to ${me}, anon, authenticated, service_role;
    create extension if not exists pgcrypto with schema extensions;
    create extension if not exists "uuid-ossp" with schema extensions;

    create schema if not exists auth authorization supabase_auth_admin;
    grant usage on schema auth to ${me}, anon, authenticated, service_role;

    -- As on the platform: who changes the schema tells the Data API to read it again.
    create or replace function extensions.pgrst_ddl_watch() returns event_trigger language plpgsql as $watch$
    declare
      command record;
    begin
      for command in select * from pg_catalog.pg_event_trigger_ddl_commands()
      loop
        if command.schema_name is distinct from 'pg_temp' then
          notify pgrst, 'reload schema';
          return;
        end if;
      end loop;
    end;
    $watch$;
    create or replace function extensions.pgrst_drop_watch() returns event_trigger language plpgsql as $watch$
    declare
      object record;
    begin
      for object in select * from pg_catalog.pg_event_trigger_dropped_objects()
      loop
        if not object.is_temporary then
          notify pgrst, 'reload schema';
          return;
        end if;
      end loop;
    end;
    $watch$;
    drop event trigger if exists pgrst_ddl_watch;
    create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();
    drop event trigger if exists pgrst_drop_watch;
    create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_drop_watch();
  `;
}

/** Hands the tables of Auth to its role, and gives \`auth\` the functions that policies use, worded as on the platform. */
function afterAuth(owner: string): string {
  const me = quote(owner);
  return `
    do $$
    declare
      object record;
    begin
      for object in
        select c.oid::regclass as name, c.relkind from pg_catalog.pg_class c
        where c.relnamespace = 'auth'::regnamespace and c.relkind in ('r', 'p', 'v')
      loop
        execute format('alter table %s owner to supabase_auth_admin', object.name);
        if object.relkind <> 'v' then
          execute format('alter table %s enable row level security', object.name);
        end if;
      end loop;
      for object in
        select p.oid::regprocedure as name from pg_catalog.pg_proc p where p.pronamespace = 'auth'::regnamespace
      loop
        execute format('alter routine %s owner to supabase_auth_admin', object.name);
      end loop;
      for object in
        select t.oid::regtype as name from pg_catalog.pg_type t
        where t.typnamespace = 'auth'::regnamespace and t.typtype in ('e', 'd')
      loop
        execute format('alter type %s owner to supabase_auth_admin', object.name);
      end loop;
    end $$;

    create or replace function auth.uid() returns uuid language sql stable as $fn$
      select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
      )::uuid
    $fn$;
    create or replace function auth.role() returns text language sql stable as $fn$
      select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
      )::text
    $fn$;
    create or replace function auth.email() returns text language sql stable as $fn$
      select coalesce(
        nullif(current_setting('request.jwt.claim.email', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')
      )::text
    $fn$;
    create or replace function auth.jwt() returns jsonb language sql stable as $fn$
      select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
      )::jsonb
    $fn$;

    grant all on all tables in schema auth to ${me} with grant option;
    grant all on all sequences in schema auth to ${me} with grant option;
    revoke all on all tables in schema auth from anon, authenticated, service_role;
    alter default privileges for role supabase_auth_admin in schema auth grant all on tables to ${me};
    alter default privileges for role supabase_auth_admin in schema auth grant all on sequences to ${me};
  `;
}

function vaultGrants(owner: string): string {
  const me = quote(owner);
  return `
    grant usage on schema vault to ${me} with grant option;
    grant select, delete on vault.secrets, vault.decrypted_secrets to ${me} with grant option;
    grant execute on function vault.create_secret, vault.update_secret, vault._crypto_aead_det_decrypt
      to ${me} with grant option;
    grant usage on schema vault to service_role;
    grant select, delete on vault.secrets, vault.decrypted_secrets to service_role;
    grant execute on function vault.create_secret, vault.update_secret, vault._crypto_aead_det_decrypt to service_role;
  `;
}

function cronGrants(owner: string): string {
  const me = quote(owner);
  return `
    grant usage on schema cron to ${me} with grant option;
    grant execute on all functions in schema cron to ${me} with grant option;
    revoke all on cron.job from ${me};
    grant select on cron.job to ${me} with grant option;
    grant select, delete on cron.job_run_details to ${me} with grant option;
  `;
}

/** Writes secrets to Vault under their names, as `[db.vault]` of supabase/config.toml does. */
export async function setVaultSecrets(url: string, secrets: Record<string, string>): Promise<void> {
  const sql = connect(url);
  try {
    const rows = await sql<{ id: string; name: string; decrypted_secret: string }[]>`
      select id, name, decrypted_secret from vault.decrypted_secrets where name = any (${Object.keys(secrets)})`;
    for (const [name, secret] of Object.entries(secrets)) {
      const row = rows.find((each) => each.name === name);
      if (!row) await sql`select vault.create_secret(${secret}, ${name})`;
      else if (row.decrypted_secret !== secret)
        await sql`select vault.update_secret(${row.id}::uuid, ${secret})`;
    }
  } finally {
    await sql.end();
  }
}

export interface MigrateOptions {
  /** The directory that holds `supabase/`. */
  workdir?: string | undefined;
  /** Load `supabase/seed.sql` into a database that had no migration before. */
  seed?: boolean | undefined;
  /** What `env(…)` in supabase/config.toml refers to. */
  env?: Record<string, string> | undefined;
  log?: ((line: string) => void) | undefined;
}

/** Applies the migrations that are pending, with the CLI as for a hosted project. Quick when none is. */
export async function migrate(url: string, options: MigrateOptions = {}): Promise<{ applied: string[] }> {
  const workdir = options.workdir ?? root;
  const directory = join(workdir, 'supabase', 'migrations');
  const files = existsSync(directory) ? readdirSync(directory).sort() : [];
  const wanted = files.flatMap((file) => /^(\d+)_.*\.sql$/.exec(file)?.[1] ?? []);
  const before = await history(url);
  const pending = wanted.filter((version) => !before.versions.includes(version));
  const strange = before.versions.filter((version) => !wanted.includes(version));
  if (strange.length > 0) {
    throw new Error(
      `The database has migrations that ${directory} lacks: ${strange.join(', ')}. Start with --reset to begin anew.`,
    );
  }
  // Once: the CLI notes it. A seed that failed is tried again.
  const seed = (options.seed ?? true) && !before.seeded && existsSync(join(workdir, 'supabase', 'seed.sql'));
  if (pending.length === 0 && !seed) return { applied: [] };
  if (pending.length > 0) {
    options.log?.(`Applying ${pending.length} migration${pending.length === 1 ? '' : 's'}`);
  }
  await push(url, workdir, ['--include-all', ...(seed ? ['--include-seed'] : [])], options.env ?? {});
  const after = await history(url);
  if (!isDeepStrictEqual(after.versions, wanted)) throw new Error('supabase db push left migrations out');
  return { applied: pending };
}

/** What the CLI notes about the migrations and seeds that it applied. */
async function history(url: string): Promise<{ versions: string[]; seeded: boolean }> {
  const sql = connect(url);
  try {
    const tables = await sql<{ name: string }[]>`
      select tablename as name from pg_catalog.pg_tables where schemaname = 'supabase_migrations'`;
    const has = (name: string) => tables.some((table) => table.name === name);
    const versions = has('schema_migrations')
      ? await sql<{ version: string }[]>`
          select version from supabase_migrations.schema_migrations order by version`
      : [];
    const [seed] = has('seed_files') ? await sql`select from supabase_migrations.seed_files` : [];
    return { versions: versions.map((row) => row.version), seeded: seed !== undefined };
  } finally {
    await sql.end();
  }
}

/** Runs `supabase db push`. The password goes through the environment: arguments can be read by every user. */
async function push(
  url: string,
  workdir: string,
  flags: string[],
  env: Record<string, string>,
): Promise<void> {
  const remote = new URL(url);
  const password = decodeURIComponent(remote.password);
  remote.password = '';
  if (!remote.searchParams.has('sslmode') && isLoopback(remote.hostname))
    remote.searchParams.set('sslmode', 'disable');
  const cli = join(
    dirname(createRequire(import.meta.url).resolve('supabase/package.json')),
    'dist',
    'supabase.js',
  );
  const child = spawn(
    process.execPath,
    [cli, 'db', 'push', `--remote=${remote.href}`, '--yes', '--workdir', workdir, ...flags],
    {
      cwd: workdir,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        ...env,
        PGPASSWORD: password,
        SUPABASE_TELEMETRY_DISABLED: '1',
        DO_NOT_TRACK: '1',
      },
    },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(`supabase db push failed:\n${output.trim()}`);
}

/** A small connection pool with the settings that scripts want. */
export function connect(url: string): postgres.Sql {
  return postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 10 });
}

function databaseUrl(host: string, role: string, keys: Keys, name: string): string {
  return `postgresql://${role}:${keys.databasePassword}@${host}/${name}`;
}

function serverIdentity(url: string): string {
  const { hostname, port, username, password } = new URL(url);
  return `onecron ${hostname}:${port || '5432'} ${username}:${password}`;
}

export function isLoopback(hostname: string): boolean {
  return ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
