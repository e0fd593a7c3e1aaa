/** A database that is in use gets the later migrations: what people had done is still there, and goes on as it was. */
import postgres from 'postgres';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { applyFiles, migrationFiles } from '../../scripts/dev/compare.ts';
import { openScratch, type Scratch } from '../../scripts/dev/scratch.ts';

/** The last migration of the first release. */
const firstRelease = 'supabase/migrations/20261122200200_check_request.sql';
/** The last one of the release after it. */
const secondRelease = 'supabase/migrations/20261123015714_rows_of_before.sql';
/** The last one of the third, whose items stayed in one table while they were out with a worker. */
const thirdRelease = 'supabase/migrations/20261123051742_every_due_lane_rings.sql';
/** After this one the functions are still those of before, until the next one comes. */
const halfWay = 'supabase/migrations/20261130043000_leased_items_move.sql';
const tenant = '10000000-0000-4000-8000-000000000001';
const id = (n: number) => `20000000-0000-4000-8000-00000000000${n}`;

const lifeBefore = `
insert into auth.users (id, email) values ('${id(0)}', 'anna@example.test');
insert into public.tenants (id, slug, name, plan_id) values ('${tenant}', 'bakery', 'Bakery', 'pro');
insert into public.campaigns (tenant_id, id, name, status) values ('${tenant}', '${id(1)}', 'Bread', 'active');
insert into public.social_tasks (tenant_id, id, campaign_id, kind, title, post_id)
values ('${tenant}', '${id(2)}', '${id(1)}', 'instagram_comment', 'Comment', '17900000000000101');
insert into public.participants (tenant_id, id, user_id, display_name, phone, whatsapp_opt_in_at, instagram_username) values
  ('${tenant}', '${id(3)}', '${id(0)}', 'Anna', '+4915112345678', '2026-11-01', 'anna'),
  ('${tenant}', '${id(4)}', null, 'Ben', null, null, 'ben');
insert into public.completions (tenant_id, id, task_id, participant_id, code, deadline, status, verified_at, evidence) values
  ('${tenant}', '${id(5)}', '${id(2)}', '${id(3)}', 'OC-00000005', now() + interval '1 day', 'verified', now(), '{"comment_id": "9_77", "author_id": "5"}'),
  ('${tenant}', '${id(6)}', '${id(2)}', '${id(4)}', 'OC-00000006', now() + interval '1 day', 'pending', null, null);
insert into public.notification_outbox (tenant_id, id, campaign_id, participant_id, completion_id, kind, recipient, body)
values ('${tenant}', '${id(7)}', '${id(1)}', '${id(3)}', '${id(5)}', 'congratulation', '+4915112345678', 'Congratulations!');
select jobs.enqueue('verify-social-tasks', '${tenant}', '${id(6)}');
select public.set_credential('${tenant}', 'meta', 'instagram_login', '{"access_token": "token", "app_secret": "secret"}', '{"ig_user_id": "17841400000000009"}');
insert into jobs.runs (job, trigger, slot, started_at, finished_at, status, processed) values
  ('verify-social-tasks', 'schedule', '2026-11-01', '2026-11-01', '2026-11-01', 'success', 7);
`;

const lifeBetween = `
insert into public.opt_ins (tenant_id, id, participant_id, channel, granted, source, ip, user_agent) values
  ('${tenant}', '${id(8)}', '${id(3)}', 'email', true, 'opt_in', '203.0.113.7', 'Browser/1'),
  ('${tenant}', '${id(9)}', '${id(3)}', 'email', false, 'opt_out', null, null);
`;

/** A worker holds three mails, of which one may have left, and two wait. */
const lifeOfLate = `
select jobs.define('ring', '{"kind": "edge", "meaning": "x", "effects": true, "provider": "whatsapp", "platform_allowed": true}');
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "token"}', '{"phone_number_id": "1"}');
select jobs.enqueue('ring', '${tenant}', dedupe_key => 'out ' || n, payload => jsonb_build_object('n', n)) from generate_series(1, 3) n;
insert into jobs.drains (drain_id, job, run_id, answered_at, seen_at)
values ('${id(0)}', 'ring', jobs.open_run('ring', 'queue'), clock_timestamp(), clock_timestamp());
create table public.held as select jobs.next_batch('${id(0)}', 'ring')::jsonb as batch;
select jobs.begin_effects((batch ->> 'batch_id')::bigint, array[(batch #>> '{tenants,0,items,0,item_id}')::bigint]) from public.held;
select jobs.enqueue('ring', '${tenant}', dedupe_key => 'waits', payload => '{"n": 4}');
select jobs.enqueue('ring', '${tenant}', payload => '{"n": 5}');
`;

const lifeHalfWay = `
select jobs.enqueue('ring', '${tenant}', dedupe_key => key, payload => jsonb_build_object('n', key))
from unnest(array['waits', 'new', 'new']) key;
`;

let scratch: Scratch;
let sql: postgres.Sql;

beforeAll(async () => {
  scratch = await openScratch();
  const url = await scratch.create('upgrade');
  const files = await migrationFiles();
  const [first = -1, second = -1, third = -1, half = -1] = [
    firstRelease,
    secondRelease,
    thirdRelease,
    halfWay,
  ].map((release) => files.findIndex(({ path }) => path === release));
  expect(first).toBeGreaterThan(0);
  expect(second).toBeGreaterThan(first);
  expect(third).toBeGreaterThan(second);
  expect(half).toBeGreaterThan(third);
  await applyFiles(url, files.slice(0, first + 1));
  await applyFiles(url, [{ path: 'the life before', text: lifeBefore }]);
  await applyFiles(url, files.slice(first + 1, second + 1));
  await applyFiles(url, [{ path: 'the life between', text: lifeBetween }]);
  await applyFiles(url, files.slice(second + 1, third + 1));
  await applyFiles(url, [{ path: 'the life of late', text: lifeOfLate }]);
  await applyFiles(url, files.slice(third + 1, half + 1));
  await applyFiles(url, [{ path: 'the life half-way', text: lifeHalfWay }]);
  await applyFiles(url, files.slice(half + 1));
  sql = postgres(url, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end();
  await scratch?.[Symbol.asyncDispose]();
});

it('keeps every row, and items and messages wait as they waited', async () => {
  const [counts] = await sql`
    select (select count(*) from public.completions)::int as completions, (select count(*) from jobs.items where job <> 'ring')::int as items,
      (select count(*) from public.notification_outbox where status = 'queued')::int as queued, (select sum(processed) from jobs.runs)::int as processed`;
  expect(counts).toEqual({ completions: 2, items: 2, queued: 1, processed: 7 });
});

it('remembers which comment has proven a claim', async () => {
  const proofs = await sql`select proof, completion_id from private.proofs order by proof`;
  expect([...proofs]).toEqual([
    { proof: 'author:5', completion_id: id(5) },
    { proof: 'comment:77', completion_id: id(5) },
  ]);
});

it('goes on as it was: user names count, claims end, settings are there', async () => {
  const [campaign] =
    await sql`select c.username_match, s.strategy from public.campaigns c join public.campaign_strategies s on s.campaign_id = c.id`;
  expect(campaign).toEqual({ username_match: true, strategy: 'api' });
  const claims =
    await sql`select status, method, settle_at > deadline as ends from public.completions order by id`;
  expect([...claims]).toEqual([
    { status: 'verified', method: 'api', ends: null },
    { status: 'pending', method: null, ends: true },
  ]);
  const [settings] = await sql`
    select (select count(*) from public.message_settings)::int as tenants, (select count(*) from public.reminder_settings)::int as campaigns`;
  expect(settings).toEqual({ tenants: 1, campaigns: 1 });
});

it('the ledger of consent begins with what people had agreed to', async () => {
  const ledger = await sql`
    select participant_id, granted, business_name, source, at from public.opt_ins where channel = 'whatsapp'`;
  expect([...ledger]).toEqual([
    {
      participant_id: id(3),
      granted: true,
      business_name: 'Bakery',
      source: 'before_the_ledger',
      at: new Date('2026-11-01'),
    },
  ]);
});

it('keeps from where somebody agreed, where only the platform reads it', async () => {
  const origins = await sql`select opt_in_id, host(ip) as ip, user_agent from private.opt_in_origins`;
  expect([...origins]).toEqual([{ opt_in_id: id(8), ip: '203.0.113.7', user_agent: 'Browser/1' }]);
  const [columns] = await sql`
    select count(*)::int as left from information_schema.columns
    where table_schema = 'public' and table_name = 'opt_ins' and column_name in ('ip', 'user_agent')`;
  expect(columns).toEqual({ left: 0 });
});

it('knows which parts a secret has', async () => {
  const [credential] = await sql`select secret_keys from public.credentials`;
  expect(credential).toEqual({ secret_keys: ['access_token', 'app_secret'] });
});

it('a dedupe key is of one item, also of those that came while the migrations were half-way', async () => {
  const keyed = await sql`
    select i.dedupe_key, i.payload ->> 'n' as n, k.item_id = i.item_id as holds from jobs.items i
    join jobs.dedupe_keys k on k.tenant_id = i.tenant_id and k.job = i.job and k.dedupe_key = i.dedupe_key where i.job = 'ring' order by 1`;
  expect([...keyed]).toEqual([
    { dedupe_key: 'new', n: 'new', holds: true },
    { dedupe_key: 'waits', n: '4', holds: true },
  ]);
  const [again] = await sql`select jobs.enqueue('ring', ${tenant}, dedupe_key => 'new') as added`;
  expect(again?.added).toBe(0);
});

it('a worker goes on with what it holds: what it closes ends, what waited waits, and nothing is there twice', async () => {
  const states = () => sql`
    select (select string_agg(payload ->> 'n', ' ' order by item_id) from jobs.items where job = 'ring') as waiting,
      (select string_agg(payload ->> 'n', ' ' order by item_id) from jobs.leased_items where job = 'ring') as out,
      (select string_agg(dedupe_key, ', ' order by dedupe_key) from jobs.dedupe_keys) as keys,
      (select open from jobs.leases where job = 'ring') as open`;
  expect((await states())[0]).toEqual({
    waiting: '4 5 waits new new',
    out: '1 2 3',
    keys: 'new, out 1, out 2, out 3, waits',
    open: 3,
  });
  const [again] = await sql`select jobs.enqueue('ring', ${tenant}, dedupe_key => 'out 2') as added`;
  expect(again?.added).toBe(0);
  const close = (n: number) => sql`
    select jobs.close_batch((batch ->> 'batch_id')::bigint, jsonb_build_array(jsonb_build_object(
      'item_id', batch #> array['tenants', '0', 'items', ${`${n}`}, 'item_id'], 'outcome', 'done', 'result', '{}'::jsonb))) as answer
    from public.held`;
  expect((await close(1))[0]?.answer).toMatchObject({ closed: 1, stale: 0 });
  expect((await close(1))[0]?.answer).toMatchObject({ closed: 0, stale: 1 });
  expect((await states())[0]).toEqual({
    waiting: '4 5 waits new new',
    out: '1 3',
    keys: 'new, out 1, out 3, waits',
    open: 2,
  });
  // Its lease runs out: what may have left is unknown, the other comes back.
  await sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second'`;
  await sql`select jobs.tick()`;
  expect((await states())[0]).toEqual({
    waiting: '3 4 5 waits new new',
    out: null,
    keys: 'new, out 3, waits',
    open: null,
  });
  const ends = await sql`select outcome from jobs.attempts where job = 'ring' order by item_id`;
  expect(ends.map(({ outcome }) => outcome)).toEqual(['unknown', 'done', 'lost']);
});
