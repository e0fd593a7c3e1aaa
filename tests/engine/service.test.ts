import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  allDone,
  brokenRules,
  claim,
  close,
  countsOf,
  drainAll,
  type EngineServer,
  enqueue,
  itemsOf,
  makeJob,
  makeTenants,
  openDrain,
  randomOf,
  rewrite,
  type Scratch,
  type Sql,
  setPlan,
  startEngine,
  until,
  violations,
} from './support.ts';

let engine: EngineServer;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine?.stop());

let scratch: Scratch;
let sql: Sql;
afterEach(() => scratch?.drop());

async function open(): Promise<void> {
  scratch = await engine.scratch();
  sql = scratch.sql;
  await setPlan(sql, 'enterprise', { cap: 1000 });
}

describe('a poison item', () => {
  const apply = `
    create table public.applied (n int not null, outcome text not null);
    create function public.apply_proof(ended jobs.ended[]) returns void language plpgsql set search_path = '' as $$
    begin
      if exists (select from unnest(ended) e where e.result ->> 'poison' is not null) then
        raise exception 'this result cannot be stored';
      end if;
      insert into public.applied select (e.result ->> 'n')::int, e.outcome from unnest(ended) e;
    end $$`;

  test('does not stop the others of its batch, and dies when its attempts are used up', async () => {
    await open();
    await sql.unsafe(apply);
    const job = await makeJob(sql, { job: 'proof', applyFunction: 'public.apply_proof', maxAttempts: 3 });
    const tenants = await makeTenants(sql, 10);
    await enqueue(
      sql,
      job,
      tenants.map((tenant, n) => ({ tenant, n })),
    );
    const drain = await openDrain(sql, job);
    let poisoned: number | undefined;
    let attempts = 0;
    await until('all items to end', async () => {
      const batch = await claim(sql, drain, job);
      if (batch) {
        const ids = itemsOf(batch);
        poisoned ??= ids[4];
        if (ids.includes(poisoned ?? 0)) attempts++;
        await close(
          sql,
          batch.batch_id,
          ids.map((item_id) => ({
            item_id,
            outcome: 'done',
            result: { n: item_id, ...(item_id === poisoned ? { poison: true } : {}) },
          })),
        );
      }
      const counts = await countsOf(sql, job);
      return counts.waiting + counts.leased === 0;
    });
    expect(attempts).toBe(3);
    expect(await countsOf(sql, job)).toMatchObject({ done: 9 });
    expect(
      await sql`select count(*)::int as n, count(distinct n)::int as different from public.applied`,
    ).toEqual([{ n: 9, different: 9 }]);
    const [dead] = await sql`select item_id::int, reason, last_error from jobs.dead_items where job = ${job}`;
    expect(dead).toMatchObject({ item_id: poisoned, reason: 'its result could not be applied' });
    expect(dead?.last_error).toContain('this result cannot be stored');
    expect(await violations(sql, job)).toEqual([]);
  });

  test('in a batch whose lease ran out does not keep the tick from taking back the others', async () => {
    await open();
    await sql.unsafe(`
      create function public.apply_proof(ended jobs.ended[]) returns void language plpgsql set search_path = '' as $$
      begin
        -- Errors of this class are the caller's to repeat, so they reach it.
        raise exception 'never' using errcode = '40001';
      end $$`);
    const broken = await makeJob(sql, {
      job: 'poisoned',
      applyFunction: 'public.apply_proof',
      maxAttempts: 1,
      leaseSeconds: 5,
    });
    const job = await makeJob(sql, { job: 'proof', leaseSeconds: 5 });
    const [tenant = ''] = await makeTenants(sql, 1);
    for (const each of [broken, job]) {
      await enqueue(sql, each, [{ tenant, n: 1 }]);
      await claim(sql, await openDrain(sql, each), each);
    }
    await sql`update jobs.batches set lease_until = now() - interval '1 minute' + batch_id * interval '1 second'`;
    await sql`select jobs.tick()`;
    // The other job's item is back, although the broken batch came first.
    expect(await countsOf(sql, job)).toMatchObject({ waiting: 1, leased: 0 });
    expect(await countsOf(sql, broken)).toMatchObject({ leased: 1 });
  });
});

describe('a flood', () => {
  test('a quiet tenant is served in the next batch, whatever the flood holds', async () => {
    await open();
    const job = await makeJob(sql, { job: 'proof', batchSize: 50, quantum: 10 });
    const tenants = await makeTenants(sql, 3);
    const [flooder = '', quiet = '', late = ''] = tenants;
    await enqueue(
      sql,
      job,
      Array.from({ length: 5000 }, (_, n) => ({ tenant: flooder, n })),
    );
    const drain = await openDrain(sql, job);
    let batch = await claim(sql, drain, job);
    for (const tenant of [quiet, late]) {
      for (let round = 0; round < 5; round++) {
        if (batch) await close(sql, batch.batch_id, allDone(batch));
        batch = await claim(sql, drain, job);
      }
      await enqueue(sql, job, [{ tenant, n: -1 }]);
      if (batch) await close(sql, batch.batch_id, allDone(batch));
      batch = await claim(sql, drain, job);
      expect(
        batch?.tenants.map((work) => [work.tenant_id, work.items.length]).find(([id]) => id === tenant),
      ).toEqual([tenant, 1]);
    }
  });

  test('tenants of equal weight are never further apart than one quantum; others get their weight', async () => {
    await open();
    const random = randomOf('fair shares');
    await setPlan(sql, 'free', { weight: 1 });
    await setPlan(sql, 'enterprise', { weight: 4 });
    const quantum = 5;
    const job = await makeJob(sql, { job: 'proof', batchSize: 40, quantum });
    const equal = await makeTenants(sql, 8, 'free');
    const [heavy = ''] = await makeTenants(sql, 1, 'enterprise');
    const all = [...equal, heavy];
    await enqueue(
      sql,
      job,
      all.flatMap((tenant) => Array.from({ length: 1200 }, (_, n) => ({ tenant, n }))),
    );
    const drain = await openDrain(sql, job);
    const served = new Map(all.map((tenant) => [tenant, 0]));
    for (let round = 0; round < 60; round++) {
      const batch = await claim(sql, drain, job, 10 + random.below(31));
      if (!batch) throw new Error('no work');
      for (const work of batch.tenants) {
        served.set(work.tenant_id, (served.get(work.tenant_id) ?? 0) + work.items.length);
      }
      const shares = equal.map((tenant) => served.get(tenant) ?? 0);
      expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(quantum);
      await close(sql, batch.batch_id, allDone(batch));
    }
    const mean = equal.reduce((sum, tenant) => sum + (served.get(tenant) ?? 0), 0) / equal.length;
    expect((served.get(heavy) ?? 0) / mean).toBeGreaterThan(3.5);
    expect((served.get(heavy) ?? 0) / mean).toBeLessThan(4.5);
  });

  test('a tenant that was idle for long has saved no credit', async () => {
    await open();
    const job = await makeJob(sql, { job: 'proof', batchSize: 20, quantum: 5 });
    const [busy = '', idle = ''] = await makeTenants(sql, 2);
    await enqueue(sql, job, [
      { tenant: idle, n: 0 },
      ...Array.from({ length: 2000 }, (_, n) => ({ tenant: busy, n })),
    ]);
    const drain = await openDrain(sql, job);
    for (let round = 0; round < 40; round++) {
      const batch = await claim(sql, drain, job);
      if (batch) await close(sql, batch.batch_id, allDone(batch));
    }
    await enqueue(
      sql,
      job,
      Array.from({ length: 500 }, (_, n) => ({ tenant: idle, n })),
    );
    let [of, busyOf] = [0, 0];
    for (let round = 0; round < 10; round++) {
      const batch = await claim(sql, drain, job);
      for (const work of batch?.tenants ?? []) {
        if (work.tenant_id === idle) of += work.items.length;
        else busyOf += work.items.length;
      }
      if (batch) await close(sql, batch.batch_id, allDone(batch));
    }
    expect(Math.abs(of - busyOf)).toBeLessThanOrEqual(10);
  });

  test('control: served first come, first served, the quiet tenant waits for the whole flood', async () => {
    await open();
    const job = await makeJob(sql, { job: 'proof', batchSize: 50, quantum: 10 });
    const [flooder = '', quiet = ''] = await makeTenants(sql, 2);
    await enqueue(
      sql,
      job,
      Array.from({ length: 500 }, (_, n) => ({ tenant: flooder, n })),
    );
    await enqueue(sql, job, [{ tenant: quiet, n: -1 }]);
    const order = await sql<{ place: number }[]>`
      select place::int from (select tenant_id, row_number() over (order by run_at, item_id) as place from jobs.items) i
      where tenant_id = ${quiet}`;
    expect(order[0]?.place).toBe(501);
    const batch = await claim(sql, await openDrain(sql, job), job);
    expect(batch?.tenants.map((work) => work.tenant_id)).toContain(quiet);
  });
});

describe('many lanes', () => {
  test.each([
    [1000, 200, 200],
    [1000, 200, 1],
    [300, 50, 50],
  ])(
    '%i lanes of one item each, in batches of %i with a quantum of %i: each batch is full and none is left behind',
    async (lanes, batchSize, quantum) => {
      await open();
      const job = await makeJob(sql, { job: 'proof', batchSize, quantum });
      const tenants = await makeTenants(sql, lanes);
      await enqueue(
        sql,
        job,
        tenants.map((tenant, n) => ({ tenant, n })),
      );
      const drain = await openDrain(sql, job);
      for (let left = lanes; left > 0; left -= batchSize) {
        const batch = await claim(sql, drain, job);
        expect(await brokenRules(sql, job)).toEqual([]);
        expect(batch && itemsOf(batch).length).toBe(Math.min(batchSize, left));
        if (batch) await close(sql, batch.batch_id, allDone(batch));
      }
      expect(await countsOf(sql, job)).toMatchObject({ waiting: 0, leased: 0, done: lanes });
    },
  );

  test('an awake lane in front that turns out empty does not end the claim', async () => {
    await open();
    const job = await makeJob(sql, { job: 'proof', batchSize: 100, quantum: 100 });
    const tenants = await makeTenants(sql, 400);
    await enqueue(
      sql,
      job,
      tenants.map((tenant, n) => ({ tenant, n })),
    );
    // All but the first and the last were cancelled meanwhile, behind the engine's back.
    await sql`update jobs.lanes set awake = true, reason = null, wake_at = null where job = ${job}`;
    await sql`update jobs.lanes l set vtime = o.n from unnest(${tenants}::uuid[]) with ordinality o (id, n) where l.tenant_id = o.id`;
    await sql`delete from jobs.items where job = ${job} and tenant_id <> all (${[tenants[0] ?? '', tenants[399] ?? '']}::uuid[])`;
    const drain = await openDrain(sql, job);
    expect(await drainAll(sql, job, drain)).toHaveLength(2);
    expect(await violations(sql, job)).toEqual([]);
  });
});

describe('the tick', () => {
  async function expired(job: string, count: number, batchSize = 5): Promise<string[]> {
    const tenants = await makeTenants(sql, count);
    await enqueue(
      sql,
      job,
      tenants.map((tenant, n) => ({ tenant, n })),
    );
    const drain = await openDrain(sql, job);
    while (await claim(sql, drain, job, batchSize));
    await sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second' where job = ${job}`;
    return tenants;
  }

  test('of two at once one works and the other leaves; nothing is taken back twice', async () => {
    await open();
    const job = await makeJob(sql, { job: 'proof' });
    await expired(job, 100);
    const answers = await Promise.all(
      Array.from(
        { length: 8 },
        () => sql<{ tick: { skipped?: string; reaped?: number } }[]>`select jobs.tick() as tick`,
      ),
    );
    const ticks = answers.map((rows) => rows[0]?.tick);
    const reaped = ticks.reduce((sum, tick) => sum + (tick?.reaped ?? 0), 0);
    expect(reaped).toBe(100);
    expect(await sql`select distinct attempts, tries from jobs.items where job = ${job}`).toEqual([
      { attempts: 1, tries: 1 },
    ]);
    expect(await violations(sql, job)).toEqual([]);
    // While one is under way, another leaves at once.
    const slow = scratch.connect();
    await slow.begin(async (transaction) => {
      expect((await transaction`select jobs.tick() as tick`)[0]?.tick).not.toHaveProperty('skipped');
      expect((await sql`select jobs.tick() as tick`)[0]?.tick).toHaveProperty('skipped');
    });
    expect((await sql`select jobs.tick() as tick`)[0]?.tick).not.toHaveProperty('skipped');
  });

  test('that takes back a batch while its worker closes it: one of the two wins, for each item', async () => {
    await open();
    const random = randomOf('reap against close');
    const job = await makeJob(sql, { job: 'proof', maxAttempts: 100 });
    const tenants = await makeTenants(sql, 20);
    const worker = scratch.connect();
    const ticker = scratch.connect();
    const drain = await openDrain(sql, job);
    let [closed, taken] = [0, 0];
    for (let round = 0; round < 60; round++) {
      await enqueue(
        sql,
        job,
        tenants.map((tenant) => ({ tenant, n: round })),
      );
      const batch = await claim(worker, drain, job);
      if (!batch) continue;
      await sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second' where job = ${job}`;
      const late = random.below(6);
      const parts = [allDone(batch).slice(0, 10), allDone(batch).slice(10)];
      const [answers] = await Promise.all([
        (async () => {
          let sum = 0;
          for (const part of parts) sum += (await close(worker, batch.batch_id, part)).closed;
          return sum;
        })(),
        (async () => {
          for (let spin = 0; spin < late; spin++) await new Promise(setImmediate);
          const [row] = await ticker<{ tick: { reaped?: number } }[]>`select jobs.tick() as tick`;
          taken += row?.tick.reaped ?? 0;
        })(),
      ]);
      closed += answers;
      expect(await violations(sql, job)).toEqual([]);
    }
    await sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second' where job = ${job}`;
    // Both happened, and to no item both.
    expect(closed).toBeGreaterThan(0);
    expect(taken).toBeGreaterThan(0);
    expect((await countsOf(sql, job)).done).toBe(closed);
    await until('the rest to come back', async () => {
      await sql`select jobs.tick()`;
      return (await countsOf(sql, job)).leased === 0;
    });
    await drainAll(sql, job, drain);
    expect((await countsOf(sql, job)).done).toBe(60 * tenants.length);
  });

  test('is not stopped by a client that holds a drain that is over', async () => {
    await open();
    const job = await makeJob(sql, { job: 'proof' });
    const drain = await openDrain(sql, job);
    await sql`update jobs.drains set rung_at = now() - interval '1 day', answered_at = null, seen_at = null`;
    const client = scratch.connect();
    await client.begin(async (transaction) => {
      await transaction`select from jobs.drains where drain_id = ${drain} for update`;
      expect((await sql`select jobs.tick() as tick`)[0]?.tick).toHaveProperty('rung');
    });
    await sql`select jobs.tick()`;
    expect(await sql`select from jobs.drains where ended_at is null`).toEqual([]);
  });

  test('is not stopped by a client that holds the lane of an expired batch', async () => {
    await open();
    const job = await makeJob(sql, { job: 'proof' });
    const [first = ''] = await expired(job, 2, 1);
    const client = scratch.connect();
    await client.begin(async (transaction) => {
      // Its lane sleeps, since all it has is out: this wakes it, and keeps the row until the end of the transaction.
      await enqueue(transaction, job, [{ tenant: first, n: 100 }]);
      const answer = await sql`select jobs.tick() as tick`.then(
        (rows) => rows[0]?.tick,
        (error) => error,
      );
      expect(answer).not.toBeInstanceOf(Error);
      expect(answer).not.toHaveProperty('skipped');
      // The other tenant's item is back, whatever this client does.
      expect(await sql`select tenant_id from jobs.items where job = ${job}`).not.toEqual([]);
    });
    await until('the rest to come back', async () => {
      await sql`select jobs.tick()`;
      return (await countsOf(sql, job)).leased === 0;
    });
    expect(await violations(sql, job)).toEqual([]);
  });
});

describe("a job's own SQL", () => {
  /** What pg_cron runs, with a shorter limit on each step. */
  async function entry(limit: string): Promise<string> {
    const [row] = await sql<{ command: string }[]>`select command from cron.job where jobname = 'onecron'`;
    const parts = (row?.command ?? '').split("'60s'");
    expect(parts).toHaveLength(2);
    return parts.join(`'${limit}'`);
  }

  /** One run of the entry in a session of its own, as pg_cron gives each; what ended it, if something did. */
  async function run(command: string): Promise<string | undefined> {
    const client = scratch.connect();
    return await client.unsafe(command).then(
      () => undefined,
      (error: Error) => error.message,
    );
  }

  const due = () =>
    sql`update jobs.definitions set next_slot_at = now() - interval '1 second' where job in ('a-hung', 'good')`;

  async function openHung(body: string): Promise<string> {
    await open();
    await sql`update jobs.definitions set paused = true`;
    await sql.unsafe(`
      create function private.hung() returns setof uuid language plpgsql set search_path = '' as $$ begin ${body} end $$;
      create function private.nothing(t uuid, s uuid, p jsonb) returns jsonb language sql set search_path = '' as $$ select '{}'::jsonb $$;
      insert into jobs.definitions (job, kind, scope, meaning, schedule, work_function, eligible_function) values
        ('a-hung', 'sql', 'tenant', 'a test', '0 0 1 1 *', 'private.nothing', 'private.hung'),
        ('good', 'sql', 'platform', 'a test', '0 0 1 1 *', 'private.nothing', null)`);
    return await makeJob(sql, { job: 'proof' });
  }

  const states = async () => {
    const [row] = await sql<Record<string, unknown>[]>`
      select (select p.last_tick_at is not null from jobs.platform p) as ticked,
        (select count(*)::int from jobs.runs where job = 'good') as good,
        (select count(*)::int from jobs.runs where job = 'a-hung') as hung,
        (select count(*)::int from jobs.alerts where incident = 'schedule a-hung' and closed_at is null) as alerts,
        (select string_agg(step, ', ') from jobs.steps) as steps`;
    return row;
  };

  test('that hangs is ended with its session; ticks, leases and schedules of others go on, and it is tried again', async () => {
    const job = await openHung('perform pg_sleep(600);');
    const command = await entry('1s');
    const [tenant = ''] = await makeTenants(sql, 1);
    await enqueue(sql, job, [{ tenant, n: 1 }]);
    await claim(sql, await openDrain(sql, job), job);
    await sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second'`;
    await due();
    expect(await run(command)).toBeDefined();
    // The tick before it is committed, and so are the steps: leases come before slots.
    expect(await states()).toMatchObject({ ticked: true, good: 0, hung: 0, steps: 'schedule a-hung' });
    expect(await countsOf(sql, job)).toMatchObject({ leased: 0 });
    expect(await run(command)).toBeUndefined();
    expect(await states()).toMatchObject({ good: 1, hung: 0, steps: 'schedule a-hung' });
    // An alert within a minute or two.
    await sql`update jobs.steps set began_at = began_at - interval '61 seconds'`;
    await sql`update jobs.platform set watched_at = '-infinity'`;
    expect(await run(command)).toBeUndefined();
    expect(await states()).toMatchObject({ alerts: 1 });
    await sql.unsafe(
      `create or replace function private.hung() returns setof uuid language sql set search_path = '' as 'select null::uuid where false'`,
    );
    await sql`update jobs.steps set retry_at = clock_timestamp()`;
    expect(await run(command)).toBeUndefined();
    expect(await states()).toMatchObject({ hung: 1, alerts: 0, steps: null });
  });

  test('that runs into statement_timeout ends the run of the entry, with all before it committed and an alert', async () => {
    await openHung('perform pg_sleep(60);');
    const command = await entry('60s');
    await due();
    const client = scratch.connect();
    await client.unsafe("set statement_timeout = '1s'");
    await client.unsafe(command);
    expect(await states()).toMatchObject({
      ticked: true,
      good: 0,
      hung: 0,
      alerts: 1,
      steps: 'schedule a-hung',
    });
    await client.unsafe(command);
    expect(await states()).toMatchObject({ good: 1, hung: 0, alerts: 1 });
  });

  test('that fails an assert stops nothing', async () => {
    await openHung('assert false;');
    await due();
    expect(await run(await entry('60s'))).toBeUndefined();
    expect(await states()).toMatchObject({ ticked: true, good: 1, hung: 0, alerts: 1, steps: null });
  });
});

describe('somebody who reads history', () => {
  test('holds up no tick, no close and no alert; the partition is made later', async () => {
    await open();
    await sql`update jobs.definitions set paused = true`;
    const job = await makeJob(sql, { job: 'proof' });
    const [tenant = ''] = await makeTenants(sql, 1);
    await enqueue(
      sql,
      job,
      Array.from({ length: 20 }, (_, n) => ({ tenant, n })),
    );
    const drain = await openDrain(sql, job);
    await sql`select jobs.make_partitions(clock_timestamp())`;
    const [row] = await sql<{ name: string }[]>`
      select 'attempts_' || to_char(now() at time zone 'UTC' + interval '1 day', 'YYYYMMDD') as name`;
    const name = row?.name ?? '';
    await sql.unsafe(`drop table jobs.${name}`);
    const isThere = async () => {
      const [found] = await sql<
        { there: boolean }[]
      >`select to_regclass(${`jobs.${name}`}) is not null as there`;
      return found?.there;
    };
    await sql`insert into jobs.dead_items (tenant_id, item_id, job, attempts, tries, reason, enqueued_at, trace_id)
      values (${tenant}, -1, ${job}, 1, 1, 'a test', now(), gen_random_uuid())`;
    await sql`update jobs.platform set cleaned_at = '-infinity', watched_at = '-infinity'`;
    const tick = async () =>
      expect((await sql`select jobs.tick() as tick`)[0]?.tick).not.toHaveProperty('skipped');
    const reader = scratch.connect();
    await reader.begin(async (history) => {
      await history`select count(*) from jobs.attempts`;
      const closer = scratch.connect();
      // Whoever stands behind one that waits for the reader would be refused.
      await closer`set lock_timeout = '1s'`;
      let ticked = false;
      const ticking = tick().then(() => {
        ticked = true;
      });
      do {
        const batch = await claim(closer, drain, job, 1);
        if (batch) await close(closer, batch.batch_id, allDone(batch));
      } while (!ticked);
      await ticking;
      expect(await isThere()).toBe(false);
      // What looks for incidents has looked; and tomorrow without a place is one.
      expect(
        await sql`select incident from jobs.alerts where closed_at is null and incident = any (${['dead proof', 'housekeeping']}) order by 1`,
      ).toEqual([{ incident: 'dead proof' }, { incident: 'housekeeping' }]);
      // Not again at each tick.
      const [again] = await sql<{ later: boolean }[]>`
        select cleaned_at + interval '1 hour' > clock_timestamp() + interval '4 minutes' as later from jobs.platform`;
      expect(again?.later).toBe(true);
    });
    await sql`update jobs.platform set cleaned_at = cleaned_at - interval '6 minutes'`;
    await tick();
    expect(await isThere()).toBe(true);
    expect(await sql`select from jobs.alerts where closed_at is null and incident = 'housekeeping'`).toEqual(
      [],
    );
  });

  test('does not keep a partition from being made where only the table itself is read', async () => {
    await open();
    const [row] = await sql<{ name: string }[]>`
      select 'attempts_' || to_char(now() at time zone 'UTC', 'YYYYMMDD') as name`;
    await sql`select jobs.make_partitions(clock_timestamp())`;
    const reader = scratch.connect();
    await reader.begin(async (history) => {
      // Of one day, as the planner sees it: the default partition and the days to come are not touched.
      await history.unsafe(
        `lock table only jobs.attempts in row exclusive mode; select count(*) from jobs.${row?.name}`,
      );
      await sql`set lock_timeout = '1s'`;
      await sql`select jobs.make_partitions(clock_timestamp() + interval '1 day')`;
    });
  });
});

describe('a pinned snapshot', () => {
  /** How many rows and index entries of jobs.items one claim of 100 reads after 6,000 items of its lane are done. */
  async function readByOneClaim(withWatermark: boolean): Promise<number> {
    await open();
    const job = await makeJob(sql, { job: 'proof', batchSize: 100, quantum: 100 });
    if (!withWatermark) {
      // The watermark is forgotten at once, so that each claim begins at the lane's first entry.
      await rewrite(sql, 'pick', "interval '30 seconds'", "interval '-1 seconds'");
    }
    const [tenant = ''] = await makeTenants(sql, 1);
    await enqueue(
      sql,
      job,
      Array.from({ length: 8000 }, (_, n) => ({ tenant, n })),
    );
    await sql`analyze jobs.items`;
    const pin = scratch.connect();
    return await pin.begin('isolation level repeatable read', async (pinned) => {
      await pinned`select count(*) from jobs.items`;
      const drain = await openDrain(sql, job);
      for (let round = 0; round < 60; round++) {
        const batch = await claim(sql, drain, job);
        if (batch) await close(sql, batch.batch_id, allDone(batch));
      }
      const reader = scratch.connect();
      return await reader.begin(async (transaction) => {
        const batch = await claim(transaction, drain, job);
        expect(batch && itemsOf(batch).length).toBe(100);
        const [row] = await transaction<{ read: number }[]>`
          select sum(pg_stat_get_xact_tuples_returned(r.oid))::float8 as read
          from (
            select 'jobs.items'::regclass::oid as oid
            union all
            select indexrelid from pg_index where indrelid = 'jobs.items'::regclass
          ) r`;
        return row?.read ?? 0;
      });
    });
  }

  test('does not make a claim walk over everything that was done before', async () => {
    expect(await readByOneClaim(true)).toBeLessThan(3000);
  });

  test('control: without the watermark a claim walks over all of it', async () => {
    expect(await readByOneClaim(false)).toBeGreaterThan(6000);
  });
});
