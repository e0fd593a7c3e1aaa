/** SQL jobs while others are at it: what an item does must hold nobody up, and what takes too long must not come first for ever. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  brokenRules,
  type EngineServer,
  enqueue,
  makeTenants,
  type Scratch,
  type Sql,
  startEngine,
  until,
} from './support.ts';

let engine: EngineServer;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine?.stop());

const job = 'bake';
/** Whoever has it decides how long an item of the first tenant takes. */
const gate = 4711;
let scratch: Scratch;
let tenants: string[];

beforeEach(async () => {
  scratch = await engine.scratch();
  tenants = await makeTenants(scratch.sql, 3);
  await scratch.sql.unsafe(`
    update jobs.definitions set paused = true;
    create table public.orders (tenant_id uuid primary key, state text not null default 'new');
    insert into public.orders (tenant_id) select t.id from public.tenants t;
    create function private.bake(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb) returns jsonb
    language plpgsql set search_path = '' as $$
    begin
      if p_tenant_id = '${tenants[0]}' then
        perform pg_advisory_xact_lock(${gate});
      end if;
      update public.orders o set state = 'baked' where o.tenant_id = p_tenant_id;
      return '{}';
    end $$;
    insert into jobs.definitions (job, kind, meaning, work_function, max_attempts) values ('${job}', 'sql', 'x', 'private.bake', 3)`);
  await enqueue(
    scratch.sql,
    job,
    tenants.map((tenant, n) => ({ tenant, n })),
  );
});
afterEach(() => scratch?.drop());

async function work(sql: Sql, batch: string | null): Promise<string | null> {
  const [row] = await sql<{ batch: string | null }[]>`select jobs.work(${batch}) as batch`;
  return row?.batch ?? null;
}

/** Claims until an item of the first tenant is out, and begins to work it off: it waits at the gate. */
async function stuck(): Promise<{ working: Promise<unknown>; open: () => Promise<void> }> {
  const keeper = await scratch.connect().reserve();
  await keeper`select pg_advisory_lock(${gate})`;
  const worker = scratch.connect();
  const [backend] = await worker<{ pid: number }[]>`select pg_backend_pid() as pid`;
  let batch = await work(worker, null);
  for (;;) {
    const [row] = await scratch.sql<{ mine: boolean }[]>`
      select e.tenant_id = ${tenants[0] ?? ''} as mine from jobs.leases e where e.batch_id = ${batch}`;
    if (row?.mine) break;
    batch = await work(worker, batch);
  }
  const working = work(worker, batch);
  await until('the item to stand at the gate', async () => {
    const [row] = await scratch.sql<{ waits: boolean }[]>`
      select wait_event = 'advisory' as waits from pg_stat_activity where pid = ${backend?.pid ?? 0}`;
    return row?.waits === true;
  });
  return {
    working,
    open: async () => {
      await keeper`select pg_advisory_unlock(${gate})`;
      keeper.release();
    },
  };
}

test('an item that takes long holds up neither enqueues, nor ticks, nor the items of others', async () => {
  const { working, open } = await stuck();
  const other = scratch.connect();
  await other`set lock_timeout = '2s'`;
  await enqueue(
    other,
    job,
    tenants.map((tenant, n) => ({ tenant, n: 10 + n })),
  );
  expect((await other`select jobs.tick() as tick`)[0]?.tick).not.toHaveProperty('skipped');
  // The others of another step, as after the time of this one.
  let batch = await work(other, null);
  const served = async () =>
    (await scratch.sql<{ tenant: string }[]>`select distinct tenant_id as tenant from jobs.attempts`).map(
      (row) => row.tenant,
    );
  for (let step = 0; step < 10 && batch !== null && (await served()).length < 2; step++) {
    const [row] = await scratch.sql<{ mine: boolean }[]>`
      select e.tenant_id = ${tenants[0] ?? ''} as mine from jobs.leases e where e.batch_id = ${batch}`;
    // The second item of the first tenant would stand at the gate, too.
    if (row?.mine) batch = await work(other, null);
    else batch = await work(other, batch);
  }
  expect((await served()).sort()).toEqual(tenants.slice(1).sort());
  await open();
  await working;
  expect(await served()).toHaveLength(3);
});

test('an application that changes a row and enqueues for it does not meet the item that changes it, too', async () => {
  const { working, open } = await stuck();
  const application = await scratch.connect().reserve();
  await application`begin`;
  await application`update public.orders set state = 'changed' where tenant_id = ${tenants[0] ?? ''}`;
  await open();
  // The item now waits for the row.
  await until('the item to wait for the row', async () => {
    const [row] = await scratch.sql`
      select from pg_stat_activity where wait_event_type = 'Lock' and wait_event <> 'advisory' and query like '%jobs.work%'`;
    return row !== undefined;
  });
  await application`select jobs.enqueue(${job}, ${tenants[0] ?? ''})`;
  await application`commit`;
  application.release();
  await working;
  expect(await brokenRules(scratch.sql, job)).toEqual([]);
});

test('an item that takes longer than its lease is ended, and the next tick comes', async () => {
  const keeper = await scratch.connect().reserve();
  await keeper`select pg_advisory_lock(${gate})`;
  await scratch.sql`update jobs.definitions set lease_seconds = 5, max_attempts = 1 where job = ${job}`;
  await scratch.sql`select jobs.start_tick(2)`;
  const [entry] = await scratch.sql<
    { command: string }[]
  >`select command from cron.job where jobname = 'onecron'`;
  const run = () =>
    scratch
      .connect()
      .unsafe(entry?.command ?? '')
      .then(
        () => 'ended',
        () => 'cut',
      );
  const ends: string[] = [];
  // The item is found by one of the first runs, whatever the turn.
  while (!ends.includes('cut') && ends.length < 3) ends.push(await run());
  expect(ends).toContain('cut');
  await scratch.sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second'`;
  expect(await run()).toBe('ended');
  keeper.release();
  const attempts = await scratch.sql<{ tenant: string; outcome: string }[]>`
    select tenant_id as tenant, outcome from jobs.attempts`;
  expect(attempts.map(({ tenant, outcome }) => [tenant, outcome]).sort()).toEqual(
    tenants.map((tenant, n) => [tenant, n === 0 ? 'lost' : 'done']).sort(),
  );
}, 60_000);

test('an item that always takes too long is tried as often as it may be, and the others are served meanwhile', async () => {
  const keeper = await scratch.connect().reserve();
  await keeper`select pg_advisory_lock(${gate})`;
  await scratch.sql`select jobs.start_tick(2)`;
  const [entry] = await scratch.sql<
    { command: string }[]
  >`select command from cron.job where jobname = 'onecron'`;
  const cron = scratch.connect();
  await cron`set statement_timeout = '1s'`;
  const ends: string[] = [];
  for (let run = 0; run < 12; run++) {
    await cron.unsafe(entry?.command ?? '').then(
      () => ends.push('ended'),
      (error: { code?: string }) => ends.push(error.code ?? 'lost'),
    );
    // Its lease, and the time until its next try, are over.
    await scratch.sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second'`;
    await scratch.sql`update jobs.items set run_at = clock_timestamp() - interval '1 second'`;
    await scratch.sql`update jobs.lanes set wake_at = clock_timestamp() where wake_at is not null`;
    const [row] = await scratch.sql<{ dead: number }[]>`select count(*)::int as dead from jobs.dead_items`;
    if (row?.dead === 1) break;
  }
  keeper.release();
  expect(ends.filter((end) => end === '57014')).toHaveLength(3);
  const attempts = await scratch.sql<{ tenant: string; outcome: string }[]>`
    select tenant_id as tenant, outcome from jobs.attempts order by finished_at`;
  const of = (tenant?: string) => attempts.filter((row) => row.tenant === tenant).map((row) => row.outcome);
  expect(of(tenants[0])).toEqual(['lost', 'lost', 'lost']);
  expect([of(tenants[1]), of(tenants[2])]).toEqual([['done'], ['done']]);
}, 60_000);
