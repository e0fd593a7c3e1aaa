/** Faults 1 to 14: what can happen to the tick and to claims. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ReservedSql } from 'postgres';
import { claim, itemsOf, openDrain, until } from '../engine/support.ts';
import type { Fault } from './harness.ts';
import { job, type Rig } from './rig.ts';

/** A session of its own and its process. */
async function session(rig: Rig): Promise<{ sql: ReservedSql; pid: number }> {
  const sql = await rig.scratch.connect().reserve();
  const [row] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`;
  return { sql, pid: row?.pid ?? 0 };
}

const leased = async (rig: Rig): Promise<number> =>
  (await rig.sql`select from jobs.leased_items where job = ${job}`).length;

/** How things stand by jobs.health(). */
export async function health(rig: Rig): Promise<{ healthy: boolean; reasons: string[] }> {
  const [row] = await rig.sql<
    { health: { healthy: boolean; reasons: string[] } }[]
  >`select jobs.health() as health`;
  return row?.health ?? { healthy: false, reasons: ['no answer'] };
}

export const openAlerts = async (rig: Rig): Promise<string[]> =>
  (
    await rig.sql<{ incident: string }[]>`
    select incident from jobs.alerts where closed_at is null order by incident`
  ).map(({ incident }) => incident);

/** The tick looks for incidents once a minute: now. */
async function watch(rig: Rig): Promise<void> {
  await rig.sql`update jobs.platform set watched_at = '-infinity'`;
  await rig.tick();
}

/** A SQL job with one item for every tenant and a slot each hour. */
async function hourly(rig: Rig, name: string, more: { eligible?: string } = {}): Promise<void> {
  await rig.sql.unsafe(`create table if not exists public.worked (job text, tenant_id uuid, slot text);
    create or replace function public.work_hourly(tenant_id uuid, subject_id uuid, payload jsonb) returns jsonb
    language sql set search_path = '' as $$
      insert into public.worked values ('hourly', tenant_id, payload ->> 'slot') returning '{}'::jsonb $$`);
  await rig.sql`
    insert into jobs.definitions (job, kind, meaning, schedule, work_function, eligible_function)
    values (${name}, 'sql', 'every hour', '@hourly', 'public.work_hourly', ${more.eligible ?? null})`;
  await rig.sql`update jobs.definitions set next_slot_at = date_trunc('hour', now()) where job = ${name}`;
}

async function workAll(rig: Rig): Promise<void> {
  let batch: string | null = null;
  do {
    const [row]: { batch: string | null }[] = await rig.sql`select jobs.work(${batch}) as batch`;
    batch = row?.batch ?? null;
  } while (batch !== null);
}

export const cronFaults: Fault[] = [
  {
    number: 1,
    name: 'a claimer is terminated before its claim is committed',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(20);
      for (let round = 0; round < 5; round++) {
        const victim = await session(rig);
        await victim.sql`begin`;
        await claim(victim.sql, await openDrain(rig.sql, job), job);
        await rig.admin`select pg_terminate_backend(${victim.pid})`;
        await until('its transaction to be undone', async () => (await leased(rig)) === 0);
      }
      trial.is((await rig.sql`select from jobs.batches`).length, 0, 'batches');
      trial.is((await rig.sql`select from jobs.attempts`).length, 0, 'attempts');
    },
  },
  {
    number: 2,
    name: 'a claimer is killed after its claim is committed; a doorbell is rung and lost',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig({ maxDrains: 1 });
      await rig.enqueue(20);
      const batch = await claim(rig.sql, await openDrain(rig.sql, job), job);
      await rig.pass();
      await rig.tick();
      trial.is(await leased(rig), 0, 'items still leased');
      trial.must((await rig.doorbells()).length > 0, 'the tick rang');
      trial.is(
        (await rig.sql`select from jobs.attempts where outcome = 'lost'`).length,
        itemsOf(batch ?? { batch_id: 0, tenants: [] }).length,
        'lost attempts',
      );
    },
  },
  {
    number: 3,
    name: 'eight claimers of one job at once',
    elsewhere: [
      {
        file: 'tests/engine/claims.test.ts',
        test: 'no lane and no job is ever above its cap, no item is held twice, none is lost',
      },
      {
        file: 'tests/engine/claims.test.ts',
        test: 'control: without the claim lock the cap of the job is exceeded',
      },
    ],
  },
  {
    number: 4,
    name: 'a planner that is misled while a batch is claimed',
    elsewhere: [{ file: 'tests/engine/claims.test.ts', test: 'a misled planner' }],
  },
  {
    number: 5,
    name: 'a tick that takes longer than the time between two ticks',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(30);
      const slow = await session(rig);
      await slow.sql`begin`;
      await slow.sql`select jobs.tick()`;
      const startedAt = performance.now();
      const answers = await Promise.all(Array.from({ length: 5 }, () => rig.tickOnce()));
      trial.must(performance.now() - startedAt < 2_000, 'ticks that find one under way leave at once');
      trial.must(
        answers.every((answer) => 'skipped' in answer),
        'each says that it was skipped',
      );
      await slow.sql`commit`;
      trial.must(!('skipped' in (await rig.tickOnce())), 'the next one works');
      trial.must(
        (await rig.sql`select from jobs.drains`).length <= 2,
        'no more doorbells than drains are allowed',
      );
    },
  },
  {
    number: 6,
    name: 'ticks that were missed all come at once',
    run: async (trial) => {
      const rig = await trial.rig({ ratePerMinute: 30 });
      await hourly(rig, 'hourly');
      await rig.enqueue(45, { tenant: 0 });
      await rig.start();
      for (let n = 0; n < 60; n++) await rig.tickOnce();
      trial.must(
        (await rig.sql`select from jobs.drains`).length <= 2,
        'no more doorbells than drains are allowed',
      );
      trial.is((await rig.sql`select from jobs.runs where job = 'hourly'`).length, 1, 'runs of one slot');
      await workAll(rig);
      // A minute's worth goes out within the rate; the rest need not be waited for.
      const until = Date.now() + 5_000;
      while (Date.now() < until) {
        await rig.turn();
        await delay(50);
      }
      trial.must(rig.received().length <= 30, `the rate holds (${rig.received().length} calls)`);
      await rig.sql`update public.plans set rate_per_minute = null`;
      await rig.sql`update jobs.rates set free_at = clock_timestamp()`;
      await rig.sql`update jobs.lanes set wake_at = clock_timestamp(), not_before = '-infinity' where wake_at is not null`;
      // From here on the rate is another one: what the books hold it to is the first minute's.
      delete rig.options.ratePerMinute;
    },
  },
  {
    number: 7,
    name: 'no tick comes for three hours',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.tick();
      trial.must((await health(rig)).healthy, 'healthy while ticks come');
      await rig.enqueue(30);
      await rig.sql`update jobs.items set run_at = run_at - interval '3 hours', enqueued_at = enqueued_at - interval '3 hours'`;
      await rig.sql`update jobs.platform set last_tick_at = clock_timestamp() - interval '3 hours'`;
      const { healthy, reasons } = await health(rig);
      trial.must(
        !healthy && reasons.some((reason) => reason.includes('last tick')),
        'health says that no tick comes',
      );
      await watch(rig);
      await watch(rig);
      const [row] = await rig.sql<
        { n: number }[]
      >`select count(*)::int as n from jobs.alerts where incident = 'tick'`;
      trial.is(row?.n, 1, 'alerts about the tick');
      await rig.settle();
      await watch(rig);
      trial.is(await openAlerts(rig), [], 'open alerts after it');
      trial.must((await health(rig)).healthy, 'healthy again');
    },
  },
  {
    number: 8,
    name: 'the server is stopped at once while ticks and claims run',
    elsewhere: [
      {
        file: 'tests/engine/crashes.test.ts',
        test: 'what was accepted before the crash is worked on after it',
      },
    ],
  },
  {
    number: 9,
    name: 'somebody holds the lane of one tenant',
    elsewhere: [
      {
        file: 'tests/engine/service.test.ts',
        test: 'is not stopped by a client that holds the lane of an expired batch',
      },
    ],
    run: async (trial) => {
      const rig = await trial.rig({ batchSize: 50 });
      await rig.enqueue(30);
      const holder = await session(rig);
      await holder.sql`begin`;
      await holder.sql`select from jobs.lanes where tenant_id = ${rig.tenants[0]?.id ?? ''} and job = ${job} for update`;
      const drain = await openDrain(rig.sql, job);
      const batch = await claim(rig.sql, drain, job);
      trial.is(
        batch?.tenants.map((work) => work.tenant_id).sort(),
        rig.tenants
          .slice(1)
          .map(({ id }) => id)
          .sort(),
        'served meanwhile',
      );
      await holder.sql`rollback`;
      await rig.pass();
    },
  },
  {
    number: 10,
    name: 'one tenant floods the queue',
    elsewhere: [
      {
        file: 'tests/engine/service.test.ts',
        test: 'a quiet tenant is served in the next batch, whatever the flood holds',
      },
      {
        file: 'tests/engine/service.test.ts',
        test: 'does not make a claim walk over everything that was done before',
      },
    ],
    run: async (trial) => {
      const rig = await trial.rig({ batchSize: 40 });
      await rig.sql`
        insert into public.tenants (slug, name, plan_id) values ('flood', 'Flood', 'enterprise')`;
      const [flood] = await rig.sql<{ id: string }[]>`select id from public.tenants where slug = 'flood'`;
      await rig.sql`select private.set_credential(${flood?.id ?? ''}, 'whatsapp', 'whatsapp_cloud',
        '{"access_token": "canary-flood"}', '{"phone_number_id": "1"}')`;
      await rig.sql`
        select jobs.enqueue_many(${job}, array_agg(${flood?.id ?? ''}::uuid)) from generate_series(1, 100000)`;
      await rig.enqueue(3);
      const drain = await openDrain(rig.sql, job);
      const startedAt = performance.now();
      const batch = await claim(rig.sql, drain, job);
      const ms = performance.now() - startedAt;
      trial.must(ms < 1_000, `a claim is quick (${Math.round(ms)} ms)`);
      trial.is(batch?.tenants.length, 4, 'tenants in the first batch');
      await rig.pass();
      await rig.sql`delete from jobs.items where tenant_id = ${flood?.id ?? ''}`;
      await rig.sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second'`;
      await rig.tick();
      // The flood itself is not sent; the others are.
      await rig.sql`delete from jobs.items where tenant_id = ${flood?.id ?? ''}`;
      await rig.sql`delete from jobs.attempts where tenant_id = ${flood?.id ?? ''}`;
    },
  },
  {
    number: 11,
    name: 'a tenant at its cap stands first in the queue',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig({ cap: 4 });
      await rig.enqueue(40, { tenant: 0 });
      const drain = await openDrain(rig.sql, job);
      const first = await claim(rig.sql, drain, job);
      trial.is(itemsOf(first ?? { batch_id: 0, tenants: [] }).length, 4, 'its cap');
      await rig.enqueue(6, { tenant: 1 });
      const second = await claim(rig.sql, drain, job);
      trial.is(
        second?.tenants.map((work) => work.tenant_id),
        [rig.tenants[1]?.id],
        'served next',
      );
      await rig.pass();
    },
  },
  {
    number: 12,
    name: 'a job that makes the tick’s own SQL raise',
    elsewhere: [{ file: 'tests/engine/service.test.ts', test: 'a poison item' }],
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(6);
      await rig.sql.unsafe(`create function public.poison() returns setof uuid language plpgsql set search_path = '' as $$
        begin raise exception 'poison'; end $$`);
      await hourly(rig, 'a-poison', { eligible: 'public.poison' });
      await hourly(rig, 'hourly');
      await rig.tick();
      await workAll(rig);
      trial.is((await rig.sql`select from public.worked`).length, 3, 'items of the other job');
      trial.is(await openAlerts(rig), ['schedule a-poison'], 'alerts');
      await trial.refused(
        '22023',
        'a time zone that there is not',
        () => rig.sql`update jobs.definitions set time_zone = 'Atlantis/Deep' where job = 'hourly'`,
      );
    },
  },
  {
    number: 13,
    name: 'a schedule is changed, paused and deleted while its run is under way',
    run: async (trial) => {
      const rig = await trial.rig();
      await hourly(rig, 'hourly');
      await rig.tick();
      await rig.sql`update jobs.definitions set schedule = '0 5 * * *' where job = 'hourly'`;
      await rig.sql`select jobs.pause('hourly')`;
      await workAll(rig);
      trial.is((await rig.sql`select from public.worked`).length, 0, 'items worked on while it is paused');
      await rig.sql`select jobs.resume('hourly')`;
      await workAll(rig);
      await rig.tick();
      const runs = await rig.sql<{ status: string; processed: string }[]>`
        select status::text, processed from jobs.runs where job = 'hourly'`;
      trial.is(
        runs.map(({ status, processed }) => `${status} ${processed}`),
        ['success 3'],
        'its runs',
      );
      trial.is((await rig.sql`select from public.worked`).length, 3, 'items worked on');
      const [next] = await rig.sql<{ hour: number }[]>`
        select extract(hour from next_slot_at at time zone 'UTC')::int as hour from jobs.definitions where job = 'hourly'`;
      trial.is(next?.hour, 5, 'the hour of the next slot');
    },
  },
  {
    number: 14,
    name: 'one slot is fired by many at once',
    run: async (trial) => {
      const rig = await trial.rig();
      await hourly(rig, 'hourly');
      const sessions = await Promise.all(Array.from({ length: 6 }, () => session(rig)));
      for (let round = 0; round < 5; round++) {
        const slot = new Date(Date.UTC(2026, 0, 1, round)).toISOString();
        await Promise.all(
          sessions.map(
            ({ sql }) =>
              sql`select jobs.start_slot(d, ${slot}::timestamptz) from jobs.definitions d where d.job = 'hourly'`,
          ),
        );
      }
      trial.is((await rig.sql`select from jobs.runs where job = 'hourly'`).length, 5, 'runs of five slots');
      trial.is(
        (await rig.sql`select from jobs.items where job = 'hourly'`).length,
        15,
        'items of three tenants',
      );
      await workAll(rig);
      await rig.sql`update jobs.definitions set paused = true where job = 'hourly'`;
    },
  },
];
