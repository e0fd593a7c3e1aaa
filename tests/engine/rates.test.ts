import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  allDone,
  type Batch,
  claim,
  close,
  type EngineServer,
  enqueue,
  itemsOf,
  makeJob,
  makeTenants,
  openDrain,
  rewrite,
  type Scratch,
  setPlan,
  startEngine,
} from './support.ts';

let engine: EngineServer;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine?.stop());

let scratch: Scratch;
afterEach(() => scratch?.drop());

const jobs = ['look', 'read', 'tell', 'ask'];

/** Four jobs of one provider with more work than any limit allows, for tenants that lean on the platform's credential. */
async function open(tenantCount: number): Promise<string[]> {
  scratch = await engine.scratch();
  const { sql } = scratch;
  await setPlan(sql, 'enterprise');
  await sql`select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "x"}')`;
  const tenants = await makeTenants(sql, tenantCount);
  for (const job of jobs) {
    await makeJob(sql, { job, batchSize: 20, quantum: 3 });
    await sql`update jobs.definitions set provider = 'meta', platform_allowed = true where job = ${job}`;
    await enqueue(
      sql,
      job,
      Array.from({ length: 1500 }, (_, n) => ({ tenant: tenants[n % tenantCount] ?? '', n })),
    );
  }
  return tenants;
}

/** Eight claimers at once, two of each job, for so long. */
async function eight(ms: number, work: (batch: Batch, sql: Scratch['sql']) => Promise<void>): Promise<void> {
  const until = Date.now() + ms;
  const one = async (index: number) => {
    const job = jobs[index % jobs.length] ?? '';
    const sql = scratch.connect();
    const drain = await openDrain(sql, job);
    while (Date.now() < until) {
      const batch = await claim(sql, drain, job);
      if (batch) await work(batch, sql);
      else await delay(5);
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, index) => one(index)));
}

/**
 * What was handed out beyond a limit per minute: a tenth of it may come at once, nine tenths flow. By this no window of any
 * length has more than its share; of 60 s, no more than the limit.
 */
async function beyond(rate: number, by: 'tenant' | 'all'): Promise<{ most: number; handedOut: number }> {
  const rows = await scratch.sql<{ owner: string; at: number; items: number }[]>`
    select case when ${by} = 'tenant' then a.tenant_id::text else 'all' end as owner,
      extract(epoch from a.started_at)::float8 as at, count(*)::int as items
    from jobs.attempts a group by 1, 2 order by 1, 2`;
  const burst = Math.floor(rate / 10);
  const perSecond = (rate - burst) / 60;
  let most = Number.NEGATIVE_INFINITY;
  for (const [index, from] of rows.entries()) {
    let items = 0;
    for (const each of rows.slice(index)) {
      if (each.owner !== from.owner) break;
      items += each.items;
      most = Math.max(most, items - burst - (each.at - from.at) * perSecond);
    }
  }
  return { most, handedOut: rows.reduce((sum, row) => sum + row.items, 0) };
}

const finish = async (batch: Batch, sql: Scratch['sql']) => {
  await close(sql, batch.batch_id, allDone(batch));
};

describe('eight claimers of four jobs', () => {
  const rate = 600;

  async function withPlanRate(): Promise<{ most: number; handedOut: number }> {
    const tenants = await open(2);
    await scratch.sql`update public.plans set rate_per_minute = ${rate} where plan_id = 'enterprise'`;
    // As for every tenant that has been served before: whoever is first meets the row of its limit.
    await scratch.sql`insert into jobs.rates (tenant_id, provider, free_at) select u, 'meta', now() from unnest(${tenants}::uuid[]) u`;
    await eight(3_000, finish);
    return await beyond(rate, 'tenant');
  }

  test('take no more of a provider for one tenant than its plan allows, and all of that', async () => {
    const { most, handedOut } = await withPlanRate();
    expect(most).toBeLessThanOrEqual(0.01);
    // Two tenants, each 60 at once and 9 a second.
    expect(handedOut).toBeGreaterThan(0.9 * 2 * (60 + 3 * 9) - 10);
  });

  test('control: when claims of different jobs do not wait for one another they take more', async () => {
    await open(1);
    await rewrite(scratch.sql, 'pick', 'order by r.tenant_id\n    for update;', 'order by r.tenant_id;');
    // Slower between reading what is free and writing what was taken.
    await rewrite(
      scratch.sql,
      'judge_lanes',
      'return query\n  select lane.tenant_id, lane.weight, least',
      'perform pg_sleep(0.02);\n  return query\n  select lane.tenant_id, lane.weight, least',
    );
    await scratch.sql`update public.plans set rate_per_minute = ${rate} where plan_id = 'enterprise'`;
    await eight(1_500, finish);
    expect((await beyond(rate, 'tenant')).most).toBeGreaterThan(1);
  });

  test('take no more of a provider for all tenants together than its limit, and all of that', async () => {
    await open(10);
    await scratch.sql`insert into jobs.provider_limits (provider, rate_per_minute) values ('meta', ${rate})`;
    await eight(3_000, finish);
    const { most, handedOut } = await beyond(rate, 'all');
    expect(most).toBeLessThanOrEqual(0.01);
    expect(handedOut).toBeGreaterThan(0.9 * (60 + 3 * 9) - 5);
  });

  test('hand out nothing with the platform’s credential once a provider has throttled it, to any tenant', async () => {
    await open(50);
    let throttledAt: number | undefined;
    let after = 0;
    let before = 0;
    await eight(1_500, async (batch, sql) => {
      const [row] = await sql<{ at: number }[]>`
        select extract(epoch from b.leased_at)::float8 as at from jobs.batches b where b.batch_id = ${batch.batch_id}`;
      const at = row?.at ?? 0;
      if (throttledAt !== undefined && at > throttledAt) after += itemsOf(batch).length;
      else before += itemsOf(batch).length;
      if (before < 100 || throttledAt !== undefined) return await finish(batch, sql);
      const outcomes = itemsOf(batch).map((item_id) => ({
        item_id,
        outcome: 'throttled',
        seconds: 60,
        error: '429',
      }));
      await close(sql, batch.batch_id, outcomes);
      const [now] = await sql<{ at: number }[]>`select extract(epoch from clock_timestamp())::float8 as at`;
      throttledAt ??= now?.at;
    });
    expect(before).toBeGreaterThanOrEqual(100);
    expect(after).toBe(0);
    const [left] = await scratch.sql<{ attempts: number; asleep: number }[]>`
      select (select max(attempts)::int from jobs.items) as attempts, (select count(*)::int from jobs.lanes where reason = 'rate limit') as asleep`;
    expect(left).toEqual({ attempts: 0, asleep: 200 });

    // Control: what holds them is that one row.
    await scratch.sql`delete from jobs.throttles`;
    await scratch.sql`update jobs.lanes set wake_at = clock_timestamp(), not_before = '-infinity'`;
    let later = 0;
    await eight(300, async (batch, sql) => {
      later += itemsOf(batch).length;
      await finish(batch, sql);
    });
    expect(later).toBeGreaterThan(0);
  });
});
