import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect, startDatabase } from '../../scripts/local/database.ts';
import { choosePort, sessionName } from '../../scripts/local/env.ts';
import { assertNobodyIsHome } from '../../scripts/local/guest.ts';
import { startStack } from '../../scripts/local/stack.ts';
import { client, fixture, until } from './support.ts';

/** Debian's PostgreSQL 15 with its real pg_cron: apt-get install postgresql-15 postgresql-15-cron */
const bin = '/usr/lib/postgresql/15/bin';
const extensions = '/usr/share/postgresql/15/extension';
const present =
  process.getuid?.() === 0 &&
  existsSync(join(bin, 'postgres')) &&
  existsSync(join(extensions, 'pg_cron.control'));

describe.runIf(present)('DATABASE_URL of a PostgreSQL 15 with the real pg_cron', () => {
  let home: string;
  let server: ChildProcess;
  let port: number;
  const url = (name = 'app', role = 'postgres') => `postgresql://${role}@127.0.0.1:${port}/${name}`;

  const run = async (sql: string, name?: string) => {
    const admin = connect(url(name));
    try {
      return await admin.unsafe(sql);
    } finally {
      await admin.end();
    }
  };

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'onecron-external-'));
    const as = ['--reuid=postgres', '--regid=postgres', '--clear-groups'];
    spawnSync('chown', ['postgres:', home]);
    const made = spawnSync(
      'setpriv',
      [
        ...as,
        join(bin, 'initdb'),
        '-D',
        join(home, 'data'),
        '-U',
        'postgres',
        '-A',
        'trust',
        '--no-sync',
        '-E',
        'UTF8',
      ],
      { encoding: 'utf8', cwd: '/' },
    );
    expect(made.stderr + made.stdout).toContain('Success');
    port = await choosePort();
    const settings = [
      'shared_preload_libraries=pg_cron',
      'cron.database_name=app',
      'unix_socket_directories=',
      'fsync=off',
    ];
    server = spawn(
      'setpriv',
      [
        ...as,
        join(bin, 'postgres'),
        '-D',
        join(home, 'data'),
        '-p',
        String(port),
        ...settings.flatMap((each) => ['-c', each]),
      ],
      { stdio: 'ignore', cwd: '/' },
    );
    await until(() =>
      run('select 1', 'postgres').then(
        () => true,
        () => false,
      ),
    );
    await run('create database app', 'postgres');
  });
  afterAll(async () => {
    server?.kill('SIGINT');
    if (server?.exitCode === null) await once(server, 'exit');
    rmSync(home, { recursive: true, force: true });
  });

  test('an occupied database is refused and left as it is', async () => {
    await run('create table public.precious (id int)');
    await expect(startDatabase({ databaseUrl: url() })).rejects.toThrow(/empty database.*public\.precious/);
    await expect(startDatabase({ databaseUrl: url(), reset: true })).rejects.toThrow(/empty database/);
    expect(await run('select * from public.precious')).toEqual([]);
    await run('drop table public.precious');
    // Extensions without rows are as good as nothing, which the start below shows. An entry of pg_cron is somebody's.
    await run("create extension pg_cron; select cron.schedule('precious', '0 0 1 1 *', 'select 1')");
    await expect(startDatabase({ databaseUrl: url() })).rejects.toThrow(
      /holds the entry "precious" of pg_cron/,
    );
    await run("select cron.unschedule('precious')");
  });

  test('a database in which pg_cron does not run is refused with what to do', async () => {
    await run('create database other', 'postgres');
    await expect(startDatabase({ databaseUrl: url('other') })).rejects.toThrow(
      /cron\.database_name = 'other'.*use its database "app"/,
    );
  });

  test('a role without rights is refused', async () => {
    await run('create role plain login', 'postgres');
    await expect(startDatabase({ databaseUrl: url('app', 'plain') })).rejects.toThrow(/superuser/);
  });

  test('the stack uses the real pg_cron, stand-ins for the rest, and goes without stopping the server', async () => {
    const options = {
      dataDir: 'temporary',
      workdir: fixture,
      simulators: false,
      databaseUrl: url(),
    } as const;
    const said: string[] = [];
    const stack = await startStack({ ...options, log: (line) => said.push(line) });
    expect(said.join('\n')).toMatch(
      /^Real extensions of the server: pg_cron 1\.\S+\. Stand-ins: pg_net, supabase_vault\.$/m,
    );
    expect(stack.database.standIns).not.toContain('pg_cron');
    expect(stack.database.standIns).toEqual(expect.arrayContaining(['pg_net', 'supabase_vault']));

    // `postgres` is this server's superuser, so that migrations run as somebody else.
    const owner = connect(stack.info.db_url);
    const [role] =
      await owner`select current_user as name, rolsuper as super from pg_roles where rolname = current_user`;
    expect(role).toEqual({ name: 'onecron', super: false });

    await owner.unsafe('create table public.ticks (at timestamptz)');
    const [real] = await owner`select count(*)::int as count from pg_proc
      where pronamespace = 'cron'::regnamespace and probin like '%pg_cron'`;
    expect(real?.count).toBeGreaterThan(0);
    await owner`select cron.schedule('tick', '* * * * *', 'insert into public.ticks values (now())')`;
    await expect(owner`delete from cron.job`).rejects.toMatchObject({ code: '42501' });

    const ada = client(stack.info);
    expect((await ada.auth.signUp({ email: 'ada@example.com', password: 'correct horse' })).error).toBeNull();
    expect((await ada.from('notes').insert({ body: 'hello' })).error).toBeNull();
    expect((await ada.from('notes').select('body')).data).toEqual([{ body: 'hello' }]);
    expect((await ada.from('closed').select()).error?.code).toBe('42501');
    expect((await ada.functions.invoke('echo', { body: {} })).error).toBeNull();
    await owner`select net.http_get(${`${stack.info.functions_url}/idle`})`;
    await until(async () => (await owner`select from net._http_response where status_code = 200`).length > 0);
    await until(async () => (await owner`select from public.ticks`).length > 0, 75_000);
    await owner.end();
    await expect(assertNobodyIsHome(url(), 'the tests')).rejects.toThrow(/Another stack uses/);
    await stack.stop();

    // The server goes on, and nothing ticks there without a stack.
    const entries = () => run('select jobname, active from cron.job');
    expect(await entries()).toEqual([{ jobname: 'tick', active: false }]);
    const again = await startStack(options);
    expect(await entries()).toEqual([{ jobname: 'tick', active: true }]);
    const sessions: Record<string, typeof owner> = {};
    for (const name of ['of another stack', sessionName]) {
      sessions[name] = postgres(again.database.urlOf('authenticator'), {
        max: 1,
        connection: { application_name: name },
      });
      await sessions[name]`select 1`;
    }
    expect((await client(again.info, 'secret').from('notes').select('body')).data).toEqual([
      { body: 'hello' },
    ]);
    await again.stop();
    expect(await entries(), 'another stack goes on').toEqual([{ jobname: 'tick', active: true }]);
    await sessions['of another stack']?.end();
    await (await startStack(options)).stop();
    expect(await entries(), 'what is left of our own session does not matter').toEqual([
      { jobname: 'tick', active: false },
    ]);
    await sessions[sessionName]?.end();

    // The demo and the tests would empty it, so what somebody may miss stops them.
    const asGuest = () => assertNobodyIsHome(url(), 'the tests');
    await expect(asGuest()).rejects.toThrow(
      /private\.hidden, which no migration.*the tests would empty it.*--reset/,
    );
    // Debian's pg_cron goes with schema public.
    await run(
      'drop schema private, public cascade; create schema public; create extension if not exists pg_cron',
    );
    await run("select cron.schedule('tick', '0 0 1 1 *', 'select 1')");
    await expect(asGuest()).rejects.toThrow(/the entry "tick" of pg_cron/);
    await run("select cron.unschedule(jobid) from cron.job where jobname = 'tick'");
    await asGuest();
    await run("update auth.users set email = 'ada@shop.example.org.de'");
    await expect(asGuest()).rejects.toThrow(/people who are not made up/);
    await run('update auth.users set email = null');
    await expect(asGuest()).rejects.toThrow(/people who are not made up/);
    await run("update auth.users set email = 'ada@shop.example'");
    await asGuest();

    const fresh = await startStack({ ...options, reset: true });
    expect((await client(fresh.info, 'secret').from('notes').select('body')).data).toEqual([]);
    await fresh.stop();
  });
});
