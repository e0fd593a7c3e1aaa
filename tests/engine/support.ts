/** A database with the engine in it, and what all proofs of the engine share: tenants, jobs, workers, invariants, seeds. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import postgres from 'postgres';
import { applyFiles, type SqlFile, sourceFiles } from '../../scripts/dev/compare.ts';
import { createDatabase, type Database, startDatabase } from '../../scripts/local/database.ts';
import { allDone, claim, close, numberOf, type Sql } from './calls.ts';

export * from './calls.ts';

/** One database of its own, a copy of the template: what a test breaks in it, no other test sees. */
export interface Scratch {
  name: string;
  /** As the owner of the schema. */
  url: string;
  adminUrl: string;
  /** A pool for looking and for setting the scene. */
  sql: Sql;
  /** A connection of its own: one backend. Closed with the scratch. */
  connect(options?: { max?: number; url?: string }): Sql;
  drop(): Promise<void>;
}

export interface EngineServer {
  database: Database;
  scratch(name?: string): Promise<Scratch>;
  stop(): Promise<void>;
}

/** sql/ as it stands, after the extensions that it needs. */
export async function engineFiles(): Promise<SqlFile[]> {
  const text = [
    'create schema if not exists extensions',
    'create extension if not exists pgcrypto with schema extensions',
    'create extension if not exists supabase_vault with schema vault cascade',
    'create extension if not exists pg_cron with schema pg_catalog',
    'create extension if not exists pg_net with schema extensions',
  ].join(';\n');
  return [{ path: 'extensions', text }, ...(await sourceFiles())];
}

/** A server with a template of the schema, from which each test gets its own copy in a moment. */
export async function startEngine(
  options: { durable?: boolean; dataDir?: string } = {},
): Promise<EngineServer> {
  const database = await startDatabase(options);
  try {
    return await engineOn(database, () => database.stop());
  } catch (error) {
    await database.stop();
    throw error;
  }
}

export async function engineOn(database: Database, stop: () => Promise<void>): Promise<EngineServer> {
  const admin = postgres(database.adminUrl, { max: 1, onnotice: () => {} });
  try {
    const template = await createDatabase(database, 'engine_template');
    await applyFiles(template.url, await engineFiles());
  } finally {
    await admin.end();
  }
  let count = 0;
  return {
    database,
    scratch: (name) => copyTemplate(database, name ?? `engine_${process.pid}_${++count}`),
    stop,
  };
}

async function copyTemplate(database: Database, name: string): Promise<Scratch> {
  const admin = postgres(database.adminUrl, { max: 1, onnotice: () => {} });
  try {
    await admin.unsafe(`create database "${name}" template engine_template owner "${database.owner}"`);
  } finally {
    await admin.end();
  }
  const url = withDatabase(database.url, name);
  const adminUrl = withDatabase(database.adminUrl, name);
  const open: Sql[] = [];
  const connect: Scratch['connect'] = (options = {}) => {
    const sql = postgres(options.url ?? url, {
      max: options.max ?? 1,
      onnotice: () => {},
      connect_timeout: 10,
    });
    open.push(sql);
    return sql;
  };
  return {
    name,
    url,
    adminUrl,
    sql: connect({ max: 4 }),
    connect,
    drop: async () => {
      await Promise.all(open.map((sql) => sql.end({ timeout: 1 })));
      const again = postgres(database.adminUrl, { max: 1, onnotice: () => {} });
      try {
        await again.unsafe(`drop database if exists "${name}" with (force)`);
      } finally {
        await again.end();
      }
    },
  };
}

export function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}

// The scene -----------------------------------------------------------------------------------------------------------

export interface JobOptions {
  job: string;
  batchSize?: number;
  quantum?: number;
  cap?: number | null;
  leaseSeconds?: number;
  maxAttempts?: number;
  backoffSeconds?: number;
  loadFunction?: string | null;
  applyFunction?: string | null;
  maxDrains?: number;
}

export async function makeJob(sql: Sql, options: JobOptions): Promise<string> {
  await sql`
    insert into jobs.definitions (job, kind, meaning, batch_size, quantum, cap, lease_seconds, max_attempts, backoff_seconds,
      backoff_limit_seconds, load_function, apply_function, max_drains)
    values (${options.job}, 'edge', 'a job of the proofs', ${options.batchSize ?? 200}, ${options.quantum ?? 10}, ${options.cap ?? null},
      ${options.leaseSeconds ?? 60}, ${options.maxAttempts ?? 8}, ${options.backoffSeconds ?? 0.001},
      ${Math.max(options.backoffSeconds ?? 0.001, 0.001)}, ${options.loadFunction ?? null}, ${options.applyFunction ?? null},
      ${options.maxDrains ?? 8})`;
  return options.job;
}

export interface PlanOptions {
  weight?: number;
  cap?: number;
  batchShare?: number;
}

/** Sets how the plan serves its tenants; no cadence and no rate, so that nothing but the test's own caps holds work back. */
export async function setPlan(sql: Sql, plan: string, options: PlanOptions = {}): Promise<void> {
  await sql`
    update public.plans
    set weight = ${options.weight ?? 1}, cap = ${options.cap ?? 100_000}, batch_share = ${options.batchShare ?? 1000},
      cadence_seconds = 0, rate_per_minute = null
    where plan_id = ${plan}`;
}

/** Tenants in the order of their names. */
export async function makeTenants(sql: Sql, count: number, plan = 'enterprise'): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    insert into public.tenants (slug, name, plan_id)
    select format('%s-%s', ${plan}::text, lpad(n::text, 7, '0')), format('Tenant %s', n), ${plan} from generate_series(1, ${count}::int) n
    returning id`;
  return rows.map((row) => row.id);
}

/** A worker's permission to claim, as an answered doorbell gives it. */
export async function openDrain(sql: Sql, job: string): Promise<string> {
  const [row] = await sql<{ drain_id: string }[]>`
    insert into jobs.drains (job, answered_at, seen_at) values (${job}, clock_timestamp(), clock_timestamp()) returning drain_id`;
  if (!row) throw new Error('no drain');
  return row.drain_id;
}

/** Claims and closes until nothing is awake and no lane wakes by itself soon. Returns the numbers done, in order. */
export async function drainAll(
  sql: Sql,
  job: string,
  drainId: string,
  patienceMs = 20_000,
): Promise<number[]> {
  const done: number[] = [];
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const batch = await claim(sql, drainId, job);
    if (batch) {
      for (const work of batch.tenants) done.push(...work.items.map(numberOf));
      await close(sql, batch.batch_id, allDone(batch));
      continue;
    }
    const [row] = await sql<{ waits: boolean }[]>`
      select exists (select from jobs.lanes l where l.job = ${job} and (l.awake or l.wake_at < now() + interval '5 seconds')) as waits`;
    if (!row?.waits) return done;
    if (Date.now() > deadline) throw new Error(`${job} does not come to rest`);
    await delay(20);
  }
}

// Invariants ----------------------------------------------------------------------------------------------------------

/**
 * Lanes that sleep although they have work and nothing is going to wake them in time. No sweep has run: what this finds is
 * a lost wake-up. The second that is allowed is the lane that was put to sleep while somebody held its guard.
 */
export async function lostWakeUps(sql: Sql, job: string): Promise<string[]> {
  const rows = await sql<{ what: string }[]>`
    select format('lane %s sleeps (%s) until %s, work is due at %s', l.tenant_id, l.reason, coalesce(l.wake_at::text, 'ever'), i.run_at) as what
    from jobs.lanes l
    cross join lateral (
      select min(w.run_at) as run_at from jobs.items w where w.job = l.job and w.tenant_id = l.tenant_id) i
    left join public.tenants t on t.id = l.tenant_id
    left join public.plans p on p.plan_id = t.plan_id
    where l.job = ${job} and not l.awake and i.run_at is not null and l.reason not in ('paused', 'breaker')
      and not (l.reason = 'cap' and p.cap <= (
        select coalesce(sum(e.open), 0) from jobs.leases e where e.job = l.job and e.tenant_id = l.tenant_id))
      and (l.wake_at is null or l.wake_at > greatest(i.run_at, l.not_before, clock_timestamp()) + interval '1.1 seconds')
    union all
    select format('item %s of %s has no lane', i.item_id, i.tenant_id)
    from jobs.items i
    where i.job = ${job} and not exists (select from jobs.lanes l where l.job = i.job and l.tenant_id = i.tenant_id)
      and exists (select from public.tenants t where t.id = i.tenant_id)`;
  return rows.map((row) => row.what);
}

/** What must be true of the engine's own tables at every moment, whatever happened. */
export async function brokenRules(sql: Sql, job: string): Promise<string[]> {
  const rows = await sql<{ what: string }[]>`
    select format('item %s is at %s places at once', i.item_id, count(*)) as what
    from (
      select item_id from jobs.items where job = ${job}
      union all
      select item_id from jobs.leased_items where job = ${job}
    ) i
    group by i.item_id
    having count(*) > 1
    union all
    select format('item %s of lane %s is in a lease of lane %s', i.item_id, i.tenant_id, e.tenant_id)
    from jobs.leases e
    cross join lateral unnest(e.items) i
    where e.job = ${job} and (i.tenant_id <> e.tenant_id or i.job <> e.job)
    union all
    select format('the key "%s" of item %s is held by %s', i.dedupe_key, i.item_id, coalesce(k.item_id::text, 'nobody'))
    from (
      select tenant_id, job, item_id, dedupe_key from jobs.items where job = ${job}
      union all
      select tenant_id, job, item_id, dedupe_key from jobs.leased_items where job = ${job}
    ) i
    left join jobs.dedupe_keys k on k.tenant_id = i.tenant_id and k.job = i.job and k.dedupe_key = i.dedupe_key
    where i.dedupe_key is not null and k.item_id is distinct from i.item_id
      -- The keys of a deleted tenant go with it, while its items are still out.
      and exists (select from public.tenants t where t.id = i.tenant_id)
    union all
    select format('the key "%s" is held by item %s, which is gone', k.dedupe_key, k.item_id)
    from jobs.dedupe_keys k
    where k.job = ${job}
      and not exists (select from jobs.items i where i.tenant_id = k.tenant_id and i.item_id = k.item_id)
      and not exists (select from jobs.leased_items i where i.tenant_id = k.tenant_id and i.item_id = k.item_id)
    union all
    select format('batch %s is open without a lease', b.batch_id)
    from jobs.batches b
    where b.job = ${job} and not exists (select from jobs.leases e where e.batch_id = b.batch_id)
    union all
    select format('item %s ended %s times', a.item_id, count(*))
    from jobs.attempts a
    where a.job = ${job} and a.outcome in ('done', 'unknown', 'refused', 'cancelled')
    group by a.tenant_id, a.item_id
    having count(*) > 1
    union all
    select format('item %s ended and is still there', i.item_id)
    from (
      select tenant_id, job, item_id from jobs.items
      union all
      select tenant_id, job, item_id from jobs.leased_items
    ) i
    where i.job = ${job} and (
      exists (select from jobs.dead_items d where d.tenant_id = i.tenant_id and d.item_id = i.item_id)
      or exists (select from jobs.attempts a where a.tenant_id = i.tenant_id and a.item_id = i.item_id and a.outcome in ('done', 'unknown', 'refused', 'cancelled')))
    union all
    select format('item %s has more attempts than allowed: %s', i.item_id, i.attempts)
    from jobs.items i
    join jobs.definitions d on d.job = i.job
    where i.job = ${job} and i.attempts >= d.max_attempts
    union all
    select format('item %s is due at %s, before the floor of its lane (%s), and nothing tells of it', i.item_id, i.run_at, l.floor_at)
    from jobs.items i
    join jobs.lanes l on l.tenant_id = i.tenant_id and l.job = i.job
    where i.job = ${job} and i.run_at < l.floor_at
      and not exists (select from jobs.lookbacks k where k.tenant_id = i.tenant_id and k.job = i.job and k.run_at <= i.run_at)
    limit 20`;
  return rows.map((row) => row.what);
}

/** Both of the above. */
export async function violations(sql: Sql, job: string): Promise<string[]> {
  return [...(await brokenRules(sql, job)), ...(await lostWakeUps(sql, job))];
}

/** The numbers (payload n) of everything that the database says has ended as done. Subjects carry the number as well. */
export async function countsOf(
  sql: Sql,
  job: string,
): Promise<{ waiting: number; leased: number; done: number; dead: number }> {
  const [row] = await sql<{ waiting: number; leased: number; done: number; dead: number }[]>`
    select
      (select count(*)::int from jobs.items i where i.job = ${job}) as waiting,
      (select coalesce(sum(e.open), 0)::int from jobs.leases e where e.job = ${job}) as leased,
      (select count(*)::int from jobs.attempts a where a.job = ${job} and a.outcome = 'done') as done,
      (select count(*)::int from jobs.dead_items d where d.job = ${job}) as dead`;
  if (!row) throw new Error('no counts');
  return row;
}

// Breaking things on purpose ------------------------------------------------------------------------------------------

/** Takes the guards out of the wake-up protocol: the positive control of every test about lost wake-ups. */
export async function takeOutGuards(sql: Sql): Promise<void> {
  await sql`
    create or replace function jobs.take_guards(p_job text, p_tenant_ids uuid[]) returns void
    language plpgsql set search_path = '' as $$ begin end $$`;
}

/** Takes out the notes of what is brought from before the floor of its lane. */
export async function takeOutLookbacks(sql: Sql): Promise<void> {
  await sql`
    create or replace function jobs.note_lookbacks(p_job text, p_tenant_ids uuid[], p_run_ats timestamptz[]) returns void
    language plpgsql set search_path = '' as $$ begin end $$`;
}

/** Takes out the lock that lets one claimer of a job in at a time. */
export async function takeOutClaimLock(sql: Sql): Promise<void> {
  await sql`
    create or replace function jobs.claim_lock(p_job text) returns void
    language plpgsql set search_path = '' as $$ begin end $$`;
}

/** Changes the text of a function in place, wherever the old text occurs in it; it must be there. */
export async function rewrite(sql: Sql, name: string, from: string, to: string): Promise<void> {
  const rows = await sql<{ text: string }[]>`
    select pg_catalog.pg_get_functiondef(p.oid) as text from pg_catalog.pg_proc p
    where p.pronamespace = 'jobs'::regnamespace and p.proname = ${name}`;
  const parts = (rows[0]?.text ?? '').split(from);
  if (rows.length !== 1 || parts.length < 2) {
    throw new Error(`jobs.${name} (there are ${rows.length}) does not hold "${from}"`);
  }
  await sql.unsafe(parts.join(to));
}

/** Waits until `look` answers with something, or fails with what it was about. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  patienceMs = 20_000,
): Promise<T> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`waited ${patienceMs} ms in vain for: ${what}`);
    await delay(5);
  }
}

export const here = (file: string): string => join(import.meta.dirname, file);
