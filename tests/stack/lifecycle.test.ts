import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { root } from '../../scripts/local/config.ts';
import { connect, createDatabase, startDatabase } from '../../scripts/local/database.ts';
import { type StackInfo, startStack } from '../../scripts/local/stack.ts';
import { alive, fixture, until } from './support.ts';

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'onecron-lifecycle-'));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const silent = { workdir: fixture, simulators: false, cron: false } as const;

/** npm start, as npm runs it. */
const npmStart = (...args: string[]) => start('node', ['scripts/run.mjs', 'start', '--json', ...args]);

function start(
  program: string,
  words: string[],
): {
  child: ChildProcess;
  info: Promise<StackInfo>;
  errors: () => string;
} {
  const child = spawn(program, words, {
    cwd: root,
    // What these tests kill is a server of the stack's own.
    env: { ...process.env, ONECRON_DATA_DIR: dataDir, DATABASE_URL: undefined },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [output, errors] = ['', ''];
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const info = new Promise<StackInfo>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.includes('\n')) resolve(JSON.parse(output));
    });
    child.once('exit', (code) => reject(new Error(`ended with ${code}: ${errors}`)));
  });
  info.catch(() => {});
  return { child, info, errors: () => errors };
}

function listens(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port: Number(new URL(url).port) });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Processes that have to do with the data directory: the database's, the functions'. */
function processesOf(dir: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => {
      try {
        return ['cmdline', 'environ'].some((file) =>
          readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(dir),
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}

const urls = (info: StackInfo) => [info.api_url, info.db_url, ...Object.values(info.simulators)];

test.each(['SIGTERM', 'SIGINT'] as const)('%s leaves no process and no port', async (signal) => {
  const { child, info } = npmStart();
  const ready = await info;
  expect(Object.keys(ready)).toEqual([
    'api_url',
    'functions_url',
    'db_url',
    'publishable_key',
    'secret_key',
    'cron_secret',
    'dashboard_url',
    'simulators',
  ]);
  expect(Object.keys(ready.simulators).sort()).toEqual(['meta', 'resend', 'stripe', 'waapi', 'whatsapp']);
  for (const url of urls(ready)) expect(await listens(url)).toBe(true);
  child.kill(signal);
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
  for (const url of urls(ready)) expect(await listens(url)).toBe(false);
  expect(processesOf(dataDir)).toEqual([]);
  expect(existsSync(join(dataDir, 'stack.json'))).toBe(false);
});

test('a second start in the same place says who runs there, and does no harm', async () => {
  const first = npmStart();
  const ready = await first.info;
  const second = npmStart();
  await expect(second.info).rejects.toThrow(new RegExp(`already runs .*process \\d+, ${ready.api_url}`));
  expect(await listens(ready.api_url)).toBe(true);
  first.child.kill('SIGTERM');
  await once(first.child, 'exit');
});

test('after SIGKILL nothing stays behind, and the next start finds the data', async () => {
  const first = npmStart();
  const ready = await first.info;
  const sql = connect(ready.db_url);
  await sql.unsafe('create table public.kept (id int); insert into public.kept values (42)');
  await sql.end();
  const script = JSON.parse(readFileSync(join(dataDir, 'stack.json'), 'utf8')).pid as number;
  process.kill(script, 'SIGKILL');
  await once(first.child, 'exit');
  await until(() => !alive(script) && processesOf(dataDir).length === 0);

  const second = npmStart();
  const again = await second.info;
  const sqlAgain = connect(again.db_url);
  expect(await sqlAgain`select id from public.kept`).toEqual([{ id: 42 }]);
  await sqlAgain.end();
  expect(again.secret_key).toBe(ready.secret_key);
  second.child.kill('SIGTERM');
  await once(second.child, 'exit');
});

test('SIGTERM to npm alone, as from a script that started it, leaves no process and no port', async () => {
  const { child, info } = start('npm', ['start', '--silent', '--', '--json']);
  const ready = await info;
  // npm, the shell in which it runs the script, the launcher
  expect(processesOf(dataDir).length).toBeGreaterThan(3);
  child.kill('SIGTERM');
  await until(() => processesOf(dataDir).length === 0);
  for (const url of urls(ready)) expect(await listens(url)).toBe(false);
  expect(existsSync(join(dataDir, 'stack.json'))).toBe(false);
});

test('when only the launcher is killed, what it launched ends in order', async () => {
  const { child, info } = npmStart();
  const ready = await info;
  child.kill('SIGKILL');
  await until(() => processesOf(dataDir).length === 0);
  for (const url of urls(ready)) expect(await listens(url)).toBe(false);
  expect(existsSync(join(dataDir, 'stack.json'))).toBe(false);
});

test('when a backend is killed in the middle of a request, the stack goes on', async () => {
  const { child, info } = npmStart();
  const ready = await info;
  // A connection for each look: those of the test die with the server, too.
  const ask = async <T extends object>(text: string) => {
    const sql = connect(ready.db_url);
    try {
      return [...(await sql.unsafe<T[]>(text))];
    } finally {
      await sql.end({ timeout: 1 });
    }
  };
  await ask(`
    create function public.slow() returns text language sql as $$ select 'slept' from pg_sleep(1) $$;
    grant execute on function public.slow() to anon`);
  const slow = () =>
    fetch(`${ready.api_url}/rest/v1/rpc/slow`, {
      method: 'POST',
      headers: { apikey: ready.publishable_key, 'content-type': 'application/json' },
      body: '{}',
      signal: AbortSignal.timeout(10_000),
    });
  const asleep = () =>
    ask<{ pid: number }>(
      `select pid from pg_stat_activity where usename = 'authenticator' and wait_event = 'PgSleep'`,
    );
  // The API hears of the new function.
  await until(async () => (await slow()).status === 200);
  for (let round = 0; round < 3; round += 1) {
    const requests = [slow(), slow(), slow()];
    await until(async () => (await asleep().catch(() => [])).length === 3);
    const [victim] = await asleep();
    // Not asked to leave: the connection is gone without a word, and the server begins again.
    process.kill(victim?.pid ?? 0, 'SIGKILL');
    for (const response of await Promise.all(requests)) expect(response.status).toBeGreaterThanOrEqual(500);
    await until(async () => (await slow().catch(() => undefined))?.status === 200);
    // Every connection that it may get works again.
    const answers = await Promise.all(Array.from({ length: 12 }, slow));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  }
  expect(child.exitCode).toBeNull();
  child.kill('SIGTERM');
  await once(child, 'exit');
});

test('a crashed database server with its stale postmaster.pid is no obstacle', async () => {
  const first = await startDatabase({ dataDir });
  const pid = Number(readFileSync(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8').split('\n')[0]);
  process.kill(pid, 'SIGKILL');
  await until(() => !alive(pid));
  await first.stop();
  expect(existsSync(join(dataDir, 'postgres', 'postmaster.pid'))).toBe(true);
  const second = await startDatabase({ dataDir });
  await second.stop();
});

test('data stays between starts, and --reset begins anew with the same keys', async () => {
  const rows = async (options: Parameters<typeof startStack>[0]) => {
    const stack = await startStack({ ...silent, functions: false, dataDir, ...options });
    const sql = connect(stack.adminUrl);
    const found = await sql`insert into public.authors (name) values ('one more') returning
      (select count(*)::int from public.authors) as before`;
    await sql.end();
    await stack.stop();
    return { before: found[0]?.before, key: stack.info.secret_key };
  };
  const first = await rows({});
  expect(first.before).toBe(1);
  expect(await rows({})).toEqual({ before: 2, key: first.key });
  expect(await rows({ reset: true })).toEqual({ before: 1, key: first.key });
});

test('several stacks run side by side, each with keys of its own', async () => {
  const stacks = await Promise.all([1, 2].map(() => startStack({ ...silent, dataDir: 'temporary' })));
  const [one, two] = stacks.map((stack) => stack.info);
  if (!one || !two) throw new Error('two stacks were started');
  for (const key of ['api_url', 'secret_key', 'publishable_key', 'cron_secret', 'db_url'] as const) {
    expect(one[key]).not.toBe(two[key]);
  }
  const foreign = await fetch(`${one.api_url}/rest/v1/authors`, { headers: { apikey: two.secret_key } });
  expect(foreign.status).toBe(401);
  const own = await fetch(`${one.api_url}/rest/v1/authors`, { headers: { apikey: one.secret_key } });
  expect(own.status).toBe(200);
  await Promise.all(stacks.map((stack) => stack.stop()));
});

test('a start that fails stops what it had started', async () => {
  const starting = startStack({ ...silent, dataDir, workdir: join(fixture, '..', 'nowhere') });
  await expect(starting).rejects.toThrow(/config\.toml/);
  const broken = startStack({ ...silent, dataDir, databaseUrl: 'postgresql://nobody@127.0.0.1:1/none' });
  await expect(broken).rejects.toThrow();
  expect(processesOf(dataDir)).toEqual([]);
  const works = await startStack({ ...silent, dataDir });
  await works.stop();
});

test('secrets are readable by their owner only', async () => {
  const database = await startDatabase({ dataDir });
  expect(statSync(join(dataDir, 'keys.json')).mode & 0o077).toBe(0);
  await database.stop();
});

test.runIf(process.getuid?.() === 0)(
  'where the user that runs the server cannot enter, the files go elsewhere and stay there',
  async () => {
    chmodSync(dataDir, 0o700);
    const closed = join(dataDir, 'closed');
    const lines: string[] = [];
    const start = () => startDatabase({ dataDir: closed, log: (line) => lines.push(line) });
    const first = await start();
    const sql = connect(first.url);
    await sql.unsafe('create table public.kept (id int)');
    await sql.end();
    await first.stop();
    expect(lines.join()).toContain("The database's files are in ");
    const second = await start();
    const again = connect(second.url);
    expect(await again`select * from public.kept`).toEqual([]);
    await again.end();
    await second.stop();
    const place = /files are in (\S+):/.exec(lines.join('\n'))?.[1];
    if (place) rmSync(place, { recursive: true, force: true });
  },
);

test('a throw-away database goes with the process that forgot to stop it', async () => {
  const program = `
    import { startDatabase } from ${JSON.stringify(join(root, 'scripts/local/database.ts'))};
    const database = await startDatabase();
    process.stdout.write(database.adminUrl);
    process.kill(process.pid, 'SIGKILL');`;
  const own = mkdtempSync(join(dataDir, 'tmp '));
  chmodSync(own, 0o755);
  chmodSync(dataDir, 0o755);
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, TMPDIR: own },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child, 'exit');
  expect(child.signalCode).toBe('SIGKILL');
  await until(() => readdirSync(own).length === 0);
  expect(processesOf(own)).toEqual([]);
});

test('a database of its own is prepared like the first, and goes when it stops', async () => {
  const database = await startDatabase();
  const second = await createDatabase(database, 'second_one');
  const sql = connect(second.url);
  const [row] = await sql`
    select current_user as role, (select rolsuper from pg_roles where rolname = current_user) as super,
      to_regclass('auth.users') is not null as auth, to_regprocedure('vault.create_secret(text,text,text,uuid)') is not null as vault`;
  await sql.unsafe('create extension pg_cron; create extension pg_net with schema extensions');
  await sql.end();
  expect(row).toEqual({ role: 'postgres', super: false, auth: true, vault: true });
  await second.stop();
  const admin = connect(database.adminUrl);
  expect(await admin`select datname from pg_database where datname = 'second_one'`).toEqual([]);
  await admin.end();
  await database.stop();
});
