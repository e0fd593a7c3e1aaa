import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import {
  allDone,
  allRetry,
  brokenRules,
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
  until,
  violations,
} from './support.ts';

let engine: EngineServer;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine?.stop());

let scratch: Scratch;
afterEach(() => scratch?.drop());

const count = 20;

/** Items of two tenants; returns the ids. */
async function open(): Promise<string> {
  scratch = await engine.scratch();
  const job = await makeJob(scratch.sql, { job: 'proof' });
  const tenants = await makeTenants(scratch.sql, 2);
  await enqueue(
    scratch.sql,
    job,
    Array.from({ length: count }, (_, n) => ({ tenant: tenants[n % 2] ?? '', n })),
  );
  return job;
}

/** The same call twice: the second begins while the first has not committed. Returns what each says that it changed. */
async function twice(call: string): Promise<number[]> {
  const first = await scratch.connect().reserve();
  await first`begin`;
  const [one] = await first.unsafe(`select ${call} as items`);
  const second = scratch.connect().unsafe(`select ${call} as items`);
  const waiting = second.execute();
  await delay(100);
  await first`commit`;
  const [other] = await waiting;
  first.release();
  return [Number(one?.items), Number(other?.items)];
}

test('dead items that are replayed twice at once are replayed once', async () => {
  const job = await open();
  const { sql } = scratch;
  const batch = await claim(sql, await openDrain(sql, job), job);
  const dead = (batch ? itemsOf(batch) : []).map((item_id) => ({
    item_id,
    outcome: 'refused',
    error: 'closed',
  }));
  expect((await close(sql, batch?.batch_id ?? 0, dead)).closed).toBe(count);

  expect(await twice(`jobs.replay('${job}', dry_run => false)`)).toEqual([count, 0]);
  const [row] = await sql<{ items: number; dead: number; told: number[] }[]>`
    select (select count(*)::int from jobs.items) as items, (select count(*)::int from jobs.dead_items) as dead,
      (select array_agg((l.detail ->> 'items')::int order by l.detail ->> 'items') from public.audit_log l where l.action = 'items.replayed') as told`;
  expect(row).toEqual({ items: count, dead: 0, told: [0, count] });
});

test('items that are cancelled twice at once end once', async () => {
  const job = await open();
  expect(await twice(`jobs.cancel('${job}', dry_run => false)`)).toEqual([count, 0]);
  const [row] = await scratch.sql<{ items: number; ended: number }[]>`
    select (select count(*)::int from jobs.items) as items, (select count(*)::int from jobs.attempts) as ended`;
  expect(row).toEqual({ items: 0, ended: count });
  expect(await brokenRules(scratch.sql, job)).toEqual([]);
});

/** Begins a call on a connection of its own while another transaction is open, and goes on when it has ended or waits for a lock. */
async function begun(call: string): Promise<{ running: Promise<void> }> {
  const sql = scratch.connect();
  const [backend] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`;
  let ended = false;
  const running = sql.unsafe(call).then(() => {
    ended = true;
  });
  await until('the call to end, or to wait', async () => {
    const [row] = await scratch.sql<{ waits: boolean }[]>`
      select wait_event_type = 'Lock' as waits from pg_stat_activity where pid = ${backend?.pid ?? 0}`;
    return ended || row?.waits === true;
  });
  return { running };
}

/** What takes items of the first tenant out of a claim's hands, or changes them. */
const changes = {
  'a cancellation': (job: string) =>
    `select jobs.cancel('${job}', (select min(l.tenant_id::text)::uuid from jobs.lanes l), dry_run => false)`,
  'work that is hurried': (job: string) =>
    `select jobs.hurry('${job}', l.tenant_id, array(select i.subject_id from jobs.items i where i.tenant_id = l.tenant_id))
     from jobs.lanes l where l.tenant_id = (select min(x.tenant_id::text)::uuid from jobs.lanes x)`,
};

/** A claim while a change of the first tenant's items is open. Returns whether it has waited, and how many items it got. */
async function claimDuring(change: (job: string) => string): Promise<{ waited: boolean; items: number }> {
  const job = await open();
  const { sql } = scratch;
  await sql`update jobs.items set subject_id = coalesce(subject_id, gen_random_uuid())`;
  const drain = await openDrain(sql, job);
  const changing = await scratch.connect().reserve();
  await changing`begin`;
  // What is hurried is not due yet when the change begins, and is while it is open.
  await changing`update jobs.items set run_at = clock_timestamp() + interval '200 milliseconds'`;
  await changing`commit`;
  await changing`begin`;
  await changing.unsafe(change(job));
  await delay(250);
  const claimer = scratch.connect();
  const [backend] = await claimer<{ pid: number }[]>`select pg_backend_pid() as pid`;
  let batch: Awaited<ReturnType<typeof claim>> | undefined;
  const claiming = claim(claimer, drain, job).then((got) => {
    batch = got;
  });
  const waited = await until('the claim to end, or to wait', async () => {
    if (batch !== undefined) return { yes: false };
    const [row] = await sql<{ waits: boolean }[]>`
      select wait_event_type = 'Lock' as waits from pg_stat_activity where pid = ${backend?.pid ?? 0}`;
    return row?.waits ? { yes: true } : undefined;
  });
  await changing`commit`;
  changing.release();
  await claiming;
  expect(await brokenRules(sql, job)).toEqual([]);
  return { waited: waited.yes, items: batch ? itemsOf(batch).length : 0 };
}

test.each(Object.entries(changes))(
  '%s that is still open holds no claim up: it serves the others',
  async (_what, change) => {
    expect(await claimDuring(change)).toEqual({ waited: false, items: count / 2 });
  },
);

test('control: claims wait where the lanes are not taken first', async () => {
  const connect = engine.scratch;
  const spy = async () => {
    const made = await connect();
    await made.sql`
      create or replace function jobs.take_lanes(p_job text, p_tenant_ids uuid[]) returns void
      language plpgsql set search_path = '' as $$ begin end $$`;
    return made;
  };
  engine.scratch = spy;
  try {
    expect((await claimDuring(changes['a cancellation'])).waited).toBe(true);
  } finally {
    engine.scratch = connect;
  }
});

test('a tenant that is deleted while its items come back takes them with it', async () => {
  const job = await open();
  const { sql } = scratch;
  const batch = await claim(sql, await openDrain(sql, job), job);
  const tenant = batch?.tenants[0]?.tenant_id ?? '';
  const closing = await scratch.connect().reserve();
  await closing`begin`;
  await close(closing, batch?.batch_id ?? 0, batch ? allRetry(batch) : []);
  const deletion = await begun(`delete from public.tenants where id = '${tenant}'`);
  await closing`commit`;
  closing.release();
  await deletion.running;
  const rows = await sql<{ tenant: string; items: number }[]>`
    select tenant_id as tenant, count(*)::int as items from jobs.items group by tenant_id`;
  expect(rows).toEqual([{ tenant: batch?.tenants[1]?.tenant_id, items: count / 2 }]);
  expect(await violations(sql, job)).toEqual([]);
});

test('items that come back while their tenant is being deleted go with it, and the close ends', async () => {
  const job = await open();
  const { sql } = scratch;
  const batch = await claim(sql, await openDrain(sql, job), job);
  const tenant = batch?.tenants[0]?.tenant_id ?? '';
  // As if their lanes had been found empty since: what comes back is noted.
  await sql`update jobs.lanes set floor_at = clock_timestamp() + interval '1 minute'`;
  const deleting = await scratch.connect().reserve();
  await deleting`begin`;
  await deleting`delete from public.tenants where id = ${tenant}`;
  const outcomes = (batch ? itemsOf(batch) : []).map((item_id) => ({
    item_id,
    outcome: 'throttled',
    seconds: 0,
  }));
  const closing = await begun(`select jobs.close_batch(${batch?.batch_id}, '${JSON.stringify(outcomes)}')`);
  await deleting`commit`;
  deleting.release();
  await closing.running;
  const notes = await sql<{ tenant: string }[]>`select distinct tenant_id as tenant from jobs.lookbacks`;
  expect(notes.map((note) => note.tenant)).toEqual([batch?.tenants[1]?.tenant_id]);
  // What the close brought back is of nobody; the tick sweeps it away.
  await sql`select jobs.forget_strays()`;
  const rows = await sql<{ tenant: string; items: number }[]>`
    select tenant_id as tenant, count(*)::int as items from jobs.items group by tenant_id`;
  expect(rows).toEqual([{ tenant: batch?.tenants[1]?.tenant_id, items: count / 2 }]);
});

test('a tenant is deleted while an enqueue of its work is open, without a deadlock', async () => {
  const job = await open();
  const { sql } = scratch;
  const [tenant = ''] = (await sql<{ id: string }[]>`select min(tenant_id::text) as id from jobs.lanes`).map(
    ({ id }) => id,
  );
  await sql`update jobs.lanes set floor_at = clock_timestamp(), wake_at = null, reason = 'idle'`;
  const bringing = await scratch.connect().reserve();
  await bringing`begin`;
  await bringing`select jobs.enqueue(${job}, ${tenant}::uuid)`;
  const deletion = await begun(`delete from public.tenants where id = '${tenant}'`);
  await bringing`select jobs.enqueue(${job}, ${tenant}::uuid, run_at => now() - interval '1 day')`;
  await bringing`commit`;
  bringing.release();
  await deletion.running;
  const [left] = await sql`
    select (select count(*)::int from jobs.lanes where tenant_id = ${tenant}) as lanes,
      (select count(*)::int from jobs.lookbacks where tenant_id = ${tenant}) as notes`;
  expect(left).toEqual({ lanes: 0, notes: 0 });
});

test('a note that is made while a claim drops older ones stays', async () => {
  scratch = await engine.scratch();
  const { sql } = scratch;
  const job = await makeJob(sql, { job: 'proof' });
  const [tenant = ''] = await makeTenants(sql, 1);
  const bring = (runAt: string) =>
    sql.unsafe(`select jobs.enqueue('${job}', '${tenant}', run_at => clock_timestamp() ${runAt})`);
  await bring(`+ interval '1 hour'`);
  await bring('');
  await sql`update jobs.lanes set floor_at = clock_timestamp()`;
  await bring(`- interval '1 hour'`);
  await rewrite(sql, 'drop_lookbacks', 'begin\n', 'begin\n  perform pg_sleep(0.5);\n');
  const claimer = scratch.connect();
  const drain = await openDrain(sql, job);
  const claiming = claim(claimer, drain, job);
  await until('the claim to have looked', async () => {
    const [row] = await sql`select from pg_stat_activity where wait_event = 'PgSleep'`;
    return row !== undefined;
  });
  await sql`update jobs.items set run_at = clock_timestamp() - interval '1 minute' where job = ${job} and run_at > now()`;
  const batch = await claiming;
  expect(batch ? itemsOf(batch).length : 0).toBe(2);
  await close(sql, batch?.batch_id ?? 0, batch ? allDone(batch) : []);
  expect(await brokenRules(sql, job)).toEqual([]);
  await sql`update jobs.lanes set wake_at = clock_timestamp()`;
  // It takes too long to look further at once, with all that sleep: it is asked again.
  expect((await claim(sql, drain, job))?.tenants).toEqual([]);
  const next = await claim(sql, drain, job);
  expect(next ? itemsOf(next).length : 0).toBe(1);
});

/** Work, and what a doorbell needs: one is rung for all of it. The partitions are there, as nobody may use history while they are made. */
async function openWithBell(): Promise<string> {
  const job = await open();
  await scratch.sql`select jobs.clean(clock_timestamp())`;
  await scratch.sql`
    select vault.create_secret('http://127.0.0.1:9', 'project_url'), vault.create_secret(repeat('s', 40), 'cron_secret')`;
  return job;
}

/** What rings for work as soon as it is there, and may be called in a transaction that goes on. */
const ringing = {
  'a start by hand': async (job: string) => `select jobs.start('${job}')`,
  'the end of a drain': async (job: string) =>
    `select jobs.end_drain('${await openDrain(scratch.sql, job)}')`,
};

test.each(Object.entries(ringing))('%s that is not committed keeps no tick out', async (_, call) => {
  const job = await openWithBell();
  const { sql } = scratch;
  const statement = await call(job);
  const starting = await scratch.connect().reserve();
  await starting`begin`;
  await starting.unsafe(statement);
  const [rung] = await starting`select count(*)::int as drains from jobs.drains where answered_at is null`;
  expect(rung).toEqual({ drains: 1 });
  for (const _tick of [1, 2]) {
    const [row] = await sql`select jobs.tick() as tick`;
    expect(row?.tick).toHaveProperty('rung');
  }
  const [looked] = await sql`select last_tick_ms < 1000 as soon from jobs.platform`;
  expect(looked).toEqual({ soon: true });
  // Another caller does not wait for it either.
  await sql`select jobs.start(${job})`;
  await starting`commit`;
  starting.release();
});

test('a drain that ends a run in a transaction that stays open keeps no tick waiting', async () => {
  const job = await openWithBell();
  const { sql } = scratch;
  await sql`delete from jobs.items`;
  await sql`update jobs.definitions set schedule = '0 0 1 1 *' where job = ${job}`;
  await sql`select jobs.start(${job})`;
  await sql`select jobs.tick()`;
  const drain = await openDrain(sql, job);
  const batch = await claim(sql, drain, job);
  const done = (batch ? itemsOf(batch) : []).map((item_id) => ({ item_id, outcome: 'done' }));
  expect((await close(sql, batch?.batch_id ?? 0, done)).closed).toBe(2);
  const ending = await scratch.connect().reserve();
  await ending`begin`;
  await ending`select jobs.end_drain(${drain})`;
  const state = async () => {
    const [row] = await sql`
      select (select string_agg(status::text, ' ') from jobs.runs where job = ${job}) as runs, last_tick_ms < 1000 as soon
      from jobs.platform`;
    return row;
  };
  await sql`select jobs.tick()`;
  expect(await state()).toEqual({ runs: 'running', soon: true });
  await ending`commit`;
  ending.release();
  expect(await state()).toEqual({ runs: 'success', soon: true });
});

test('while a tick is running nobody else rings for the same work', async () => {
  const job = await openWithBell();
  const { sql } = scratch;
  const ticking = await scratch.connect().reserve();
  await ticking`begin`;
  const [row] = await ticking`select jobs.tick() as tick`;
  expect(row?.tick).toMatchObject({ rung: 1 });
  await sql`select jobs.start(${job})`;
  await ticking`commit`;
  ticking.release();
  const [rung] = await sql`select count(*)::int as drains from jobs.drains`;
  expect(rung).toEqual({ drains: 1 });
});

test('a cap that is raised while a claim puts lanes to sleep for it wakes them', async () => {
  const job = await open();
  const { sql } = scratch;
  await setPlan(sql, 'enterprise', { cap: 1 });
  const drain = await openDrain(sql, job);
  // As many as there is room for: the claim ends before it looks at the lanes again.
  expect(itemsOf((await claim(sql, drain, job, 2)) ?? { batch_id: 0, tenants: [] })).toHaveLength(2);
  const claiming = await scratch.connect().reserve();
  await claiming`begin`;
  expect(await claim(claiming, drain, job)).toBeNull();
  const change = await begun(`update public.plans set cap = 3 where plan_id = 'enterprise'`);
  await claiming`commit`;
  claiming.release();
  await change.running;
  expect(await violations(sql, job)).toEqual([]);
  expect(itemsOf((await claim(sql, drain, job)) ?? { batch_id: 0, tenants: [] })).toHaveLength(4);
});

test('a credential that several store for the first time at once is stored by each, one after the other', async () => {
  await open();
  const { sql } = scratch;
  const [row] = await sql<{ id: string }[]>`select id from public.tenants limit 1`;
  const tenant = row?.id ?? '';
  const pool = scratch.connect({ max: 8 });
  const stored = await Promise.all(
    Array.from({ length: 8 }, async (_, n) => {
      const [answer] = await pool`
        select private.set_credential(${tenant}, 'whatsapp', 'whatsapp_cloud', ${sql.json({ access_token: `token-${n}` })},
          ${sql.json({ phone_number_id: '1' })}) ->> 'fingerprint' as fingerprint`;
      return answer?.fingerprint as string;
    }),
  );
  expect(new Set(stored).size).toBe(8);
  const [left] = await sql`
    select count(*)::int as credentials, min(c.fingerprint) as fingerprint,
      (select count(*)::int from vault.secrets where name like 'credential/%') as secrets
    from public.credentials c where c.tenant_id = ${tenant}`;
  expect(left).toMatchObject({ credentials: 1, secrets: 1 });
  expect(stored).toContain(left?.fingerprint);
});

/** What a batch of one tenant's items meets: one was throttled, one was refused with the credential. */
async function throttledAndBroken(): Promise<{ tenant: string; closing: string }> {
  const job = await open();
  const { sql } = scratch;
  await sql`update jobs.definitions set provider = 'meta' where job = ${job}`;
  const [row] = await sql<
    { id: string }[]
  >`select tenant_id as id from jobs.lanes order by tenant_id limit 1`;
  const tenant = row?.id ?? '';
  await sql`select private.set_credential(${tenant}, 'meta', 'facebook_login', '{"access_token": "first"}', '{"page_id": "1"}')`;
  const batch = await claim(sql, await openDrain(sql, job), job);
  const outcomes = (batch ? itemsOf(batch) : []).map((item_id, n) => ({
    item_id,
    error: 'no',
    ...(n === 0 ? { outcome: 'throttled', seconds: 60 } : { outcome: 'credential_broken' }),
  }));
  expect(outcomes).toHaveLength(count / 2);
  return {
    tenant,
    closing: `select jobs.close_batch(${batch?.batch_id}, '${JSON.stringify(outcomes)}')`,
  };
}

test('a close that notes a throttle and parks the credential blocks nobody who sets another one', async () => {
  const { tenant, closing } = await throttledAndBroken();
  const { sql } = scratch;
  await sql`insert into jobs.throttles (tenant_id, provider, until) values (${tenant}, 'meta', now())`;
  // The credential is set as private.set_credential does it: first its row, then what hangs on it.
  const setting = await scratch.connect().reserve();
  await setting`begin`;
  await setting`update public.credentials set fingerprint = 'second' where tenant_id = ${tenant}`;
  const close = await begun(closing);
  await setting`select jobs.unpark(${tenant}, 'meta')`;
  await setting`commit`;
  setting.release();
  await close.running;
  const [row] = await sql`
    select (select count(*)::int from jobs.throttles) as throttles, (select count(*)::int from jobs.breakers) as breakers,
      (select health::text from public.credentials where tenant_id = ${tenant}) as health`;
  // What the close said was of the old one.
  expect(row).toEqual({ throttles: 0, breakers: 0, health: 'unchecked' });
});

/** What ends an item and tells the domain of it. */
const ends = {
  'a close': async (job: string) => {
    const batch = await claim(scratch.sql, await openDrain(scratch.sql, job), job);
    return `select jobs.close_batch(${batch?.batch_id}, '[{"item_id": ${(batch ? itemsOf(batch) : [])[0]}, "outcome": "done"}]')`;
  },
  'a cancellation': async (job: string) => `select jobs.cancel('${job}', dry_run => false)`,
};

/** The end of an item, while a client changes the row that the domain changes then, and enqueues with the item's key. */
async function changeDuring(
  end: (job: string) => Promise<string>,
): Promise<{ added: number; items: number; wanted: boolean }> {
  scratch = await engine.scratch();
  const { sql } = scratch;
  await sql.unsafe(`
    create table public.pages (id uuid primary key, wanted boolean not null default false);
    create function public.page_done(ended jobs.ended[]) returns void language plpgsql set search_path = '' as $$
    declare
      v_page public.pages;
    begin
      for v_page in
        select p.* from public.pages p join unnest(ended) e on e.subject_id = p.id for update of p
      loop
        if v_page.wanted then
          perform jobs.enqueue('render', (select e.tenant_id from unnest(ended) e limit 1), v_page.id, dedupe_key => 'page ' || v_page.id);
          update public.pages p set wanted = false where p.id = v_page.id;
        end if;
      end loop;
    end $$`);
  const job = await makeJob(sql, { job: 'render', applyFunction: 'public.page_done' });
  const [tenant = ''] = await makeTenants(sql, 1);
  const enqueuePage = `select jobs.enqueue('${job}', '${tenant}', id, dedupe_key => 'page ' || id) as added from public.pages`;
  await sql`insert into public.pages (id) values (gen_random_uuid())`;
  await sql.unsafe(enqueuePage);
  const call = await end(job);
  const changing = await scratch.connect().reserve();
  await changing`begin`;
  await changing`update public.pages set wanted = true`;
  const ending = await begun(call);
  const [enqueued] = await changing.unsafe(enqueuePage);
  await changing`commit`;
  changing.release();
  await ending.running;
  expect(await brokenRules(sql, job)).toEqual([]);
  expect(await violations(sql, job)).toEqual([]);
  const [row] = await sql<{ items: number; wanted: boolean }[]>`
    select (select count(*)::int from jobs.items) as items, (select bool_or(wanted) from public.pages) as wanted`;
  return { added: Number(enqueued?.added), items: row?.items ?? 0, wanted: row?.wanted ?? true };
}

test.each(Object.entries(ends))(
  'a change that is followed by an enqueue, and %s that tells of the same row, do not block each other',
  async (_what, end) => {
    // The key is taken, and whoever has it sees the change at its end: it brings the next item of the same key.
    expect(await changeDuring(end)).toEqual({ added: 0, items: 1, wanted: false });
  },
);

test('a job is not deleted while somebody is just bringing work for it', async () => {
  scratch = await engine.scratch();
  const { sql } = scratch;
  const job = await makeJob(sql, { job: 'proof' });
  const [tenant = ''] = await makeTenants(sql, 1);
  const bringing = await scratch.connect().reserve();
  await bringing`begin`;
  await bringing`select jobs.enqueue(${job}, ${tenant}::uuid)`;
  const deletion = () => sql`delete from jobs.definitions where job = ${job}`;
  // At once: nobody else has to wait for whoever is late with his commit.
  await expect(deletion()).rejects.toMatchObject({ code: '55P03' });
  await bringing`commit`;
  bringing.release();
  await expect(deletion()).rejects.toMatchObject({ code: '23503' });

  // And the other way around: what comes while it is being deleted is refused.
  await sql`select jobs.cancel(${job}, dry_run => false)`;
  const deleting = await scratch.connect().reserve();
  await deleting`begin`;
  await deleting`delete from jobs.definitions where job = ${job}`;
  const late = await begun(`
    do $$ begin
      perform jobs.enqueue('proof', '${tenant}');
    exception when no_data_found then
      create table public.too_late ();
    end $$`);
  await deleting`commit`;
  deleting.release();
  await late.running;
  const [gone] =
    await sql`select (select count(*)::int from jobs.items) as items, to_regclass('public.too_late') is not null as refused`;
  expect(gone).toEqual({ items: 0, refused: true });
});
