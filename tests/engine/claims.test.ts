import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Claimers, claimers, held, highest, mostAtOnce } from './claimers.ts';
import {
  brokenRules,
  claim,
  close,
  countsOf,
  type EngineServer,
  effort,
  enqueue,
  itemsOf,
  makeJob,
  makeTenants,
  openDrain,
  randomOf,
  rewrite,
  type Scratch,
  setPlan,
  startEngine,
  takeOutClaimLock,
  until,
  violations,
} from './support.ts';

let engine: EngineServer;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine?.stop());

let running: Claimers | undefined;
let scratch: Scratch | undefined;
afterEach(async () => {
  await running?.remove();
  await scratch?.drop();
  running = undefined;
  scratch = undefined;
});

interface Numbers {
  laneCap: number;
  jobCap: number | null;
  items: number;
  tenants: number;
  holdMs: number;
}

/** Eight processes claim and close while somebody looks at the leases all the time; returns the most that anybody saw. */
async function eightClaimers(title: string, numbers: Numbers, prepare?: (scratch: Scratch) => Promise<void>) {
  const random = randomOf(title);
  scratch = await engine.scratch();
  const { sql } = scratch;
  running = claimers();
  await setPlan(sql, 'enterprise', { cap: numbers.laneCap });
  // Eight times four is more than the cap of the job: everybody works, and somebody is always held back.
  const job = await makeJob(sql, { job: 'proof', cap: numbers.jobCap, quantum: 3, batchSize: 4 });
  await prepare?.(scratch);
  const tenants = await makeTenants(sql, numbers.tenants);
  const journal = new Set<number>();
  for (let n = 0; n < numbers.items; n++) journal.add(n);
  await enqueue(
    sql,
    job,
    // The first tenant has a fifth of everything: its lane is mostly at its cap.
    [...journal].map((n) => ({ tenant: tenants[n % 5 ? n % tenants.length : 0] ?? '', n })),
  );

  for (let index = 0; index < 8; index++) {
    running.start({
      url: scratch.url,
      job,
      drainId: await openDrain(sql, job),
      seed: random.seed + index,
      holdMs: numbers.holdMs,
      retryShare: 0.1,
      chain: index % 4 === 0,
    });
  }
  let watching = true;
  const seen = { lane: 0, job: 0, looks: 0, twice: 0 };
  const watcher = scratch.connect();
  const watch = (async () => {
    while (watching) {
      const [row] = await watcher<{ lane: number; job: number; twice: number }[]>`
        select
          (select coalesce(max(n), 0)::int from (select sum(e.open) as n from jobs.leases e group by e.tenant_id) l) as lane,
          (select coalesce(sum(e.open), 0)::int from jobs.leases e) as job,
          (select count(*)::int from (
            select from (select item_id from jobs.items union all select item_id from jobs.leased_items) i
            group by i.item_id having count(*) > 1) t) as twice`;
      seen.lane = Math.max(seen.lane, row?.lane ?? 0);
      seen.job = Math.max(seen.job, row?.job ?? 0);
      seen.twice = Math.max(seen.twice, row?.twice ?? 0);
      seen.looks++;
      await delay(1);
    }
  })();
  await until(
    'all items to end',
    async () => {
      const counts = await countsOf(sql, job);
      return counts.waiting + counts.leased === 0;
    },
    60_000,
  );
  await running.stop();
  watching = false;
  await watch;

  const logs = running.records();
  const intervals = held(logs);
  const done = logs.flat().flatMap((record) => (record.what === 'claimed' ? (record.items ?? []) : []));
  const outcomes = new Map<number, number>();
  for (const record of logs.flat()) {
    if (record.what !== 'closing') continue;
    for (const { id, outcome } of record.outcomes ?? []) {
      if (outcome === 'done') outcomes.set(id, (outcomes.get(id) ?? 0) + 1);
    }
  }
  const numberOfItem = new Map(done.map((item) => [item.id, item.n]));
  const worked = new Set([...outcomes.keys()].map((id) => numberOfItem.get(id)));
  const rows = await sql<{ tenant_id: string; item_id: string; outcome: string }[]>`
    select a.tenant_id, a.item_id, a.outcome from jobs.attempts a where a.job = ${job} and a.outcome = 'done'`;
  return {
    seen,
    byLog: {
      lane: highest(mostAtOnce(intervals, (interval) => interval.tenant)),
      job: highest(mostAtOnce(intervals, () => 'all')),
      item: highest(mostAtOnce(intervals, (interval) => String(interval.id))),
    },
    /** What the journal of the enqueuer knows and the workers' logs do not. */
    lost: [...journal].filter((n) => !worked.has(n)),
    doneTwice: [...outcomes.values()].filter((times) => times > 1).length,
    recorded: rows.length,
    broken: await violations(sql, job),
    errors: logs.flat().filter((record) => record.what === 'error'),
    claimersThatWorked: logs.filter((log) => log.some((record) => record.what === 'closed')).length,
  };
}

describe('eight claimers at once', () => {
  test('no lane and no job is ever above its cap, no item is held twice, none is lost', async () => {
    const items = 1500 * effort;
    const result = await eightClaimers('eight claimers', {
      laneCap: 7,
      jobCap: 12,
      items,
      tenants: 40,
      holdMs: 15,
    });
    expect(result.errors).toEqual([]);
    expect(result.broken).toEqual([]);
    expect(result.lost).toEqual([]);
    expect(result.doneTwice).toBe(0);
    expect(result.recorded).toBe(items);
    expect(result.claimersThatWorked).toBe(8);
    expect(result.seen.looks).toBeGreaterThan(20);
    expect(result.seen.twice).toBe(0);
    expect(result.byLog.item).toBe(1);
    // Exact: never above, and used to the full.
    expect(Math.max(result.seen.lane, result.byLog.lane)).toBe(7);
    expect(Math.max(result.seen.job, result.byLog.job)).toBe(12);
  });

  test('control: without the claim lock the cap of the job is exceeded, and both records see it', async () => {
    const result = await eightClaimers(
      'control without the claim lock',
      { laneCap: 7, jobCap: 12, items: 800, tenants: 40, holdMs: 60 },
      async ({ sql }) => {
        await takeOutClaimLock(sql);
        // Claimers are in the same stretch of the function for longer than by chance.
        await rewrite(sql, 'load_batch', 'begin\n', 'begin\n  perform pg_sleep(0.005);\n');
      },
    );
    expect(result.seen.job).toBeGreaterThan(12);
    expect(result.byLog.job).toBeGreaterThan(12);
  });
});

describe('a price that comes with the outcome', () => {
  /** A close gives tenants back what they were overcharged, while others are served; returns the lanes that claims no longer look at. */
  async function outOfSight(prepare?: (sql: Scratch['sql']) => Promise<void>): Promise<number> {
    scratch = await engine.scratch();
    const { sql } = scratch;
    await setPlan(sql, 'enterprise');
    const job = await makeJob(sql, { job: 'proof', batchSize: 20, quantum: 10 });
    await sql`update jobs.definitions set cost_unit = 'calls' where job = ${job}`;
    await prepare?.(sql);
    const [first = '', second = '', third = ''] = await makeTenants(sql, 3);
    const drain = await openDrain(sql, job);
    const some = (tenant: string, count: number) => Array.from({ length: count }, (_, n) => ({ tenant, n }));
    await enqueue(sql, job, some(third, 100));
    await claim(sql, drain, job, 10);
    await enqueue(sql, job, [...some(first, 100), ...some(second, 100)]);
    const cheap = await claim(sql, drain, job);
    if (!cheap) throw new Error('nothing to claim');
    expect(cheap.tenants.map((work) => work.tenant_id).sort()).toEqual([first, second].sort());

    const closer = scratch.connect();
    const claimer = scratch.connect();
    const [backend] = await claimer<{ pid: number }[]>`select pg_backend_pid() as pid`;
    let claims: Promise<void> | undefined;
    let claimed = false;
    await closer.begin(async (transaction) => {
      const outcomes = itemsOf(cheap).map((item_id) => ({ item_id, outcome: 'done', cost: 0 }));
      await close(transaction, cheap.batch_id, outcomes);
      claims = (async () => {
        for (let n = 0; n < 3; n++) await claim(claimer, drain, job);
        claimed = true;
      })();
      await until('the claims to end, or to wait for the close', async () => {
        const [row] = await sql<{ waits: boolean }[]>`
          select wait_event_type = 'Lock' as waits from pg_stat_activity where pid = ${backend?.pid ?? 0}`;
        return claimed || row?.waits === true;
      });
    });
    await claims;
    const [row] = await sql<{ count: number }[]>`
      select count(*)::int as count from jobs.lanes l join jobs.clocks c on c.job = l.job where l.awake and l.vtime < c.served_from`;
    return row?.count ?? -1;
  }

  test('a lane that gets something back stays where claims look', async () => {
    expect(await outOfSight()).toBe(0);
  });

  test('control: without the claim lock it falls behind what claims look at', async () => {
    const lock = 'perform jobs.claim_lock((p_batch).job);';
    expect(await outOfSight((sql) => rewrite(sql, 'settle', lock, ''))).toBeGreaterThan(0);
  });
});

describe('a misled planner', () => {
  const settings = [
    {},
    {
      enable_hashjoin: 'off',
      enable_mergejoin: 'off',
      enable_sort: 'off',
      enable_material: 'off',
      enable_memoize: 'off',
    },
    {
      enable_nestloop: 'off',
      enable_indexscan: 'off',
      enable_bitmapscan: 'off',
      enable_indexonlyscan: 'off',
    },
    { enable_seqscan: 'off', enable_hashagg: 'off', enable_hashjoin: 'off' },
    { plan_cache_mode: 'force_custom_plan', join_collapse_limit: '1', from_collapse_limit: '1' },
    { plan_cache_mode: 'force_generic_plan', random_page_cost: '1000', work_mem: '64kB' },
  ];

  test.each(settings)(
    'a claim under %j takes its limit exactly, and from the right lanes',
    async (session) => {
      scratch = await engine.scratch();
      const { sql } = scratch;
      await setPlan(sql, 'enterprise', { cap: 25 });
      const job = await makeJob(sql, { job: 'proof', batchSize: 100, quantum: 5 });
      const tenants = await makeTenants(sql, 10);
      await enqueue(
        sql,
        job,
        Array.from({ length: 2000 }, (_, n) => ({ tenant: tenants[n % 10] ?? '', n })),
      );
      const misled = scratch.connect();
      for (const [name, value] of Object.entries(session))
        await misled`select set_config(${name}, ${value}, false)`;
      const drain = await openDrain(sql, job);
      for (const size of [1, 7, 40]) {
        const batch = await claim(misled, drain, job, size);
        expect(batch && itemsOf(batch).length).toBe(size);
        expect(new Set(batch && itemsOf(batch)).size).toBe(size);
      }
      // 48 are out. Ten lanes with a cap of 25 have room for 202 more; a batch has 100, then 100, then 2.
      const sizes: number[] = [];
      for (let n = 0; n < 4; n++)
        sizes.push(itemsOf((await claim(misled, drain, job)) ?? { batch_id: 0, tenants: [] }).length);
      expect(sizes).toEqual([100, 100, 2, 0]);
      expect(await brokenRules(sql, job)).toEqual([]);
      const [row] = await sql<{ most: number; least: number }[]>`
      select max(n)::int as most, min(n)::int as least from (select sum(open) as n from jobs.leases group by tenant_id) l`;
      expect(row).toEqual({ most: 25, least: 25 });
    },
  );

  test('control: the usual claim with `in (select … limit 1 for update skip locked)` takes more than its limit', async () => {
    scratch = await engine.scratch();
    const misled = scratch.connect();
    await misled.unsafe(`
      create table public.naive (id bigint primary key, state text not null default 'ready');
      insert into public.naive (id) select generate_series(1, 2000);
      set enable_hashjoin = off; set enable_mergejoin = off; set enable_sort = off; set enable_material = off; set enable_hashagg = off;`);
    const taken = await misled`
      update public.naive set state = 'taken' where id in (
        select id from public.naive where state = 'ready' limit 1 for update skip locked) returning id`;
    expect(taken.length).toBeGreaterThan(1);
  });
});

describe('a tenant whose items must all wait', () => {
  test('delays nobody else for longer than one claim, also under a statement_timeout', async () => {
    scratch = await engine.scratch();
    const { sql } = scratch;
    await setPlan(sql, 'enterprise');
    const [pizza = '', gym = ''] = await makeTenants(sql, 2);
    // A hundred batches of it take longer than the timeout.
    await sql.unsafe(`
      create function public.load_quiet(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
      returns setof jobs.loaded language sql set search_path = '' as $$
        select pg_catalog.pg_sleep(0.03);
        select i, p, case when t = '${pizza}' then clock_timestamp() + interval '8 hours' end, 'quiet hours', false
        from unnest(p_tenant_ids, p_item_ids, p_payloads) u (t, i, p);
      $$`);
    const job = await makeJob(sql, { job: 'proof', loadFunction: 'public.load_quiet' });
    const many = 30_000;
    await enqueue(
      sql,
      job,
      Array.from({ length: many }, (_, n) => ({ tenant: pizza, n })),
    );
    const drain = await openDrain(sql, job);
    const worker = scratch.connect();
    await worker`set statement_timeout = '3s'`;
    expect(await claim(worker, drain, job)).toMatchObject({ tenants: [] });
    await enqueue(sql, job, [{ tenant: gym, n: many }]);
    let batch = await claim(worker, drain, job);
    expect(batch?.tenants.map((work) => work.tenant_id)).toEqual([gym]);

    let claims = 0;
    for (; batch; claims++) batch = await claim(worker, drain, job);
    expect(claims).toBeGreaterThan(2);
    const [row] = await sql<{ held: number; awake: number }[]>`
      select (select count(*)::int from jobs.items where waiting_for = 'quiet hours') as held,
        (select count(*)::int from jobs.lanes where awake) as awake`;
    expect(row).toEqual({ held: many, awake: 0 });
    expect(await brokenRules(sql, job)).toEqual([]);
  });
});
