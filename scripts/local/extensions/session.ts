/**
 * What both background workers need: one connection that holds the worker's lock, one that listens, and a sleep that
 * a notification can end. A lost server is met with a fresh connection, as the postmaster restarts a dead worker.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';

export type Log = (line: string) => void;

export interface WorkerOptions {
  /** Superuser connection to the database that has the extension. */
  adminUrl: string;
  log: Log;
  /** Aborting stops the worker, like `stop()`. */
  signal?: AbortSignal;
}

export interface Worker {
  /** Resolves when the worker's connections are closed. */
  stop(): Promise<void>;
}

export interface Session {
  sql: postgres.Sql;
  /**
   * Runs something in a transaction on `sql`. It gets its connection anew for each statement, so that none goes to a connection
   * that is gone: postgres.js's own `begin` does that with its rollback, and the error of the closed socket ends the process.
   */
  transaction<T>(run: (sql: () => postgres.Sql) => Promise<T>): Promise<T>;
  /** True once the connection is gone; the session is then of no further use. */
  lost(): boolean;
  end(): Promise<void>;
}

interface SessionSettings extends WorkerOptions {
  applicationName: string;
  /** Advisory lock that keeps a second worker of the same kind off the database. */
  lock: bigint;
  channel: string;
  /** Called for each notification, and with '' when listening begins (again): something may have been missed. */
  onNotify: (payload: string) => void;
  onLost: () => void;
}

/** Opens the connections. Returns null when another worker holds the lock. */
export async function openSession(settings: SessionSettings): Promise<Session | null> {
  let lost = false;
  let ended = false;
  // What waits on a connection that is gone may never hear of it from the driver.
  let lose = (_error: Error): void => {};
  const gone = new Promise<never>((_resolve, reject) => {
    lose = reject;
  });
  gone.catch(() => {});
  const sql = postgres(settings.adminUrl, {
    max: 1,
    prepare: false,
    fetch_types: false,
    idle_timeout: 0,
    max_lifetime: null,
    connect_timeout: 10,
    connection: { application_name: settings.applicationName },
    onnotice: () => {},
    onclose: () => {
      lost = true;
      lose(new Error('connection lost'));
      if (!ended) settings.onLost();
    },
  });
  const end = async () => {
    ended = true;
    await Promise.race([sql.end({ timeout: 2 }).catch(() => {}), sleep(3_000, undefined, { ref: false })]);
  };
  try {
    const [row] = await sql<
      [{ locked: boolean }]
    >`select pg_try_advisory_lock(${settings.lock.toString()}) as locked`;
    if (!row?.locked) {
      await end();
      return null;
    }
    await sql.listen(settings.channel, settings.onNotify, () => settings.onNotify(''));
  } catch (error) {
    await end();
    throw error;
  }
  const alive = () => {
    if (lost) throw new Error('connection lost');
    return sql;
  };
  const work = async <T>(run: (sql: () => postgres.Sql) => Promise<T>): Promise<T> => {
    await alive()`begin`;
    try {
      const result = await run(alive);
      await alive()`commit`;
      return result;
    } catch (error) {
      if (!lost) await sql`rollback`.catch(() => {});
      throw error;
    }
  };
  const transaction = async <T>(run: (sql: () => postgres.Sql) => Promise<T>): Promise<T> => {
    const working = work(run);
    working.catch(() => {});
    return await Promise.race([working, gone]);
  };
  return { sql, transaction, lost: () => lost, end };
}

/** A sleep that `wake()` ends early; a wake-up that comes while nobody sleeps ends the next sleep at once. */
export function createAlarm() {
  let set = false;
  let ring: (() => void) | undefined;
  return {
    wake() {
      set = true;
      ring?.();
    },
    async sleep(ms: number) {
      if (!set) {
        const stop = new AbortController();
        const rung = new Promise<void>((resolve) => {
          ring = resolve;
        });
        const slept = ms === Number.POSITIVE_INFINITY ? rung : sleep(ms, undefined, { signal: stop.signal });
        await Promise.race([slept.catch(() => {}), rung]);
        ring = undefined;
        stop.abort();
      }
      set = false;
    },
  };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}

/** `node <worker>.ts --url postgres://…`: runs until SIGTERM or Ctrl-C. */
export async function runAsProgram(start: (options: WorkerOptions) => Promise<Worker>): Promise<void> {
  const at = process.argv.indexOf('--url');
  const adminUrl = at > 0 ? process.argv[at + 1] : process.env.DATABASE_URL;
  if (!adminUrl) {
    console.error('usage: --url postgres://superuser:password@host:port/database');
    process.exitCode = 2;
    return;
  }
  const worker = await start({ adminUrl, log: (line) => console.log(line) });
  const stop = () => void worker.stop().then(() => process.exit(0));
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}
