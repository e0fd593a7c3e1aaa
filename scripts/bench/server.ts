/** One Postgres for all that is measured in a run: durable, with more memory than the default, the same for every engine. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import { applyFiles, sourceFiles } from '../dev/compare.ts';
import { createDatabase, type Database, startDatabase } from '../local/database.ts';

export type Sql = postgres.Sql;

export interface BenchServer {
  /** An empty database, prepared like a fresh project; the url of its owner. */
  empty(name: string): Promise<{ url: string; adminUrl: string }>;
  /** A database with the engine. */
  engine(name: string): Promise<{ url: string; adminUrl: string }>;
  [Symbol.asyncDispose](): Promise<void>;
}

const settings = {
  shared_buffers: '1GB',
  // No checkpoint falls into the time of one and not of the other.
  max_wal_size: '8GB',
  checkpoint_timeout: '1h',
  random_page_cost: '1.1',
};

export async function startServer(): Promise<BenchServer> {
  const dataDir = mkdtempSync(join(tmpdir(), 'onecron-bench-'));
  const start = () => startDatabase({ dataDir, durable: true });
  let database: Database;
  try {
    const first = await start();
    const admin = postgres(first.adminUrl, { max: 1, onnotice: () => {} });
    try {
      for (const [name, value] of Object.entries(settings)) {
        await admin.unsafe(`alter system set ${name} = '${value}'`);
      }
    } finally {
      await admin.end();
      await first.stop();
    }
    database = await start();
  } catch (error) {
    rmSync(dataDir, { recursive: true, force: true });
    throw error;
  }
  const empty = async (name: string) => {
    const { url, adminUrl } = await createDatabase(database, name);
    return { url, adminUrl };
  };
  return {
    empty,
    engine: async (name) => {
      const made = await empty(name);
      const extensions = [
        'create extension if not exists pgcrypto with schema extensions',
        'create extension if not exists supabase_vault with schema vault cascade',
        'create extension if not exists pg_cron with schema pg_catalog',
        'create extension if not exists pg_net with schema extensions',
      ].join(';\n');
      await applyFiles(made.url, [{ path: 'extensions', text: extensions }, ...(await sourceFiles())]);
      const sql = connect(made.url, 1);
      try {
        // Nothing holds work back but what a bench sets itself.
        await sql`update public.plans set weight = 1, cap = 1000000, batch_share = 1000, cadence_seconds = 0, rate_per_minute = null`;
        await sql`select jobs.make_partitions(now())`;
      } finally {
        await sql.end();
      }
      return made;
    },
    async [Symbol.asyncDispose]() {
      await database.stop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

export const connect = (url: string, max: number): Sql =>
  postgres(url, { max, onnotice: () => {}, connect_timeout: 10 });

/** Makes a job without functions and without a provider. */
export async function makeJob(
  sql: Sql,
  job: string,
  numbers: { batchSize?: number; quantum?: number } = {},
): Promise<void> {
  await sql`
    insert into jobs.definitions (job, kind, meaning, batch_size, quantum, max_drains, lease_seconds)
    values (${job}, 'edge', 'a job of the bench', ${numbers.batchSize ?? 200}, ${numbers.quantum ?? 10}, 8, 600)`;
}

/** Tenants in the order of their slugs. */
export async function makeTenants(sql: Sql, count: number): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    insert into public.tenants (slug, name, plan_id)
    select 'bench-' || lpad(n::text, 7, '0'), 'Tenant ' || n, 'enterprise' from generate_series(1, ${count}::int) n
    returning id`;
  return rows.map((row) => row.id);
}

/** An answered doorbell. */
export async function openDrain(sql: Sql, job: string): Promise<string> {
  const [row] = await sql<{ drain_id: string }[]>`
    insert into jobs.drains (job, run_id, answered_at, seen_at)
    values (${job}, jobs.open_run(${job}, 'queue'), clock_timestamp(), clock_timestamp()) returning drain_id`;
  if (!row) throw new Error('no drain');
  return row.drain_id;
}

/** Which tenant each of `items` belongs to when the first holds `share` of them; spread evenly over the backlog. */
export function ownerOf(n: number, tenants: number, share: number): number {
  const position = n % 1000;
  return position < share * 1000 || tenants === 1 ? 0 : 1 + (n % (tenants - 1));
}

export async function enqueueMany(
  sql: Sql,
  job: string,
  owners: readonly string[],
  chunk = 10_000,
): Promise<void> {
  for (let from = 0; from < owners.length; from += chunk) {
    await sql`select jobs.enqueue_many(${job}, ${owners.slice(from, from + chunk)}::uuid[])`;
  }
}

/** As a production database would be: analysed, and nothing left to write. */
export async function settle(adminUrl: string): Promise<void> {
  const admin = connect(adminUrl, 1);
  try {
    await admin.unsafe('vacuum analyze');
    await admin.unsafe('checkpoint');
  } finally {
    await admin.end();
  }
}
