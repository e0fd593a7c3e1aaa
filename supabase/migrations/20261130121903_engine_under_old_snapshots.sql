-- squawk-ignore-file constraint-missing-not-valid, adding-serial-primary-key-field, require-concurrent-index-deletion
-- engine under old snapshots: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

drop index "jobs"."lanes_job_tenant_id_idx";

alter table "jobs"."clocks"
  drop constraint "clocks_pkey";

alter table "jobs"."run_tenants"
  drop constraint "run_tenants_pkey";

drop function "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], boolean[], timestamp
  with time zone[], timestamp with time zone);

drop function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp with time zone);

drop function "jobs"."write_lanes"(tid[], double precision[], timestamp with time zone[], bigint[], timestamp
  with time zone[],
  boolean[], text[], text[], timestamp with time zone[], timestamp with time zone[], timestamp with time zone);

create table "jobs"."lookbacks" (
  "tenant_id" uuid not null,
  "job" text not null,
  "lookback_id" bigint generated always as identity not null,
  "run_at" timestamp with time zone not null,
  constraint "lookbacks_pkey" primary key (tenant_id, job, lookback_id)
);

alter table "jobs"."lookbacks"
  enable row level security;

alter table "jobs"."clocks"
  add column "revision" bigint not null default 0;

alter table "jobs"."lanes"
  add column "floor_at" timestamp with time zone not null default '-infinity'::timestamp with time zone;

alter table "jobs"."run_tenants"
  add column "batch_id" bigint not null default 0;

create or replace function jobs.begin_by_hand (
  p_job text
)
  returns jobs.definitions
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_definition jobs.definitions;
begin
  -- Locked, so that it cannot be deleted while its items are being brought.
  select d.* into v_definition from jobs.definitions d where d.job = p_job for key share;
  if not found then
    raise exception 'There is no job "%".', p_job using errcode = 'P0002';
  end if;
  if v_definition.paused then
    raise exception 'The job "%" is paused. Resume it first.', p_job using errcode = '55000';
  elsif (select p.stopped from jobs.platform p) then
    raise exception 'All background work is stopped by the platform''s switch. Start it first.' using errcode = '55000';
  end if;
  update jobs.lanes l
  set wake_at = now(), not_before = '-infinity', reason = 'waiting'
  from (
    select s.tenant_id from jobs.lanes s where s.job = p_job and s.reason = 'cadence' order by s.tenant_id for no key update
  ) resting
  where l.job = p_job and l.tenant_id = resting.tenant_id;
  return v_definition;
end
$function$;

create or replace function jobs.behind (
  p_definition jobs.definitions,
  p_tenant_ids uuid[]
)
  returns uuid[]
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
begin
  return array(
    select u
    from unnest(p_tenant_ids) u
    where (p_definition).misfire_limit = (
      select count(x.run_id)
      from (
        select i.run_id from jobs.items i
        where i.job = (p_definition).job and i.tenant_id = u
        order by i.run_at desc, i.item_id desc
        limit (p_definition).misfire_limit
      ) x));
end
$function$;

create or replace function jobs.cancel_items (
  p_definition jobs.definitions,
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  OUT cancelled integer,
  OUT died integer
)
  returns record
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_items jobs.items[];
  v_settled jobs.settled[];
begin
  with gone as (
    delete from jobs.items i
    using unnest(p_tenant_ids, p_item_ids) as u (tenant_id, item_id)
    where i.tenant_id = u.tenant_id and i.item_id = u.item_id
    returning i as item
  )
  select array_agg(g.item order by (g.item).tenant_id, (g.item).item_id) into v_items from gone g;
  perform jobs.expect_fewer(array_agg(g.run_id), array_agg(g.items))
  from (select i.run_id, count(*) as items from unnest(v_items) i where i.run_id is not null group by i.run_id) g;

  v_settled := array(
    select (i.tenant_id, i.item_id, i.subject_id, 'cancelled', true, null, null, 'cancelled by the platform', i.run_at, null,
      i.attempts, i.tries + 1, i.run_at, i.trace_id, null, i.run_id, null, i.dedupe_key)::jobs.settled
    from unnest(v_items) i);
  v_settled := jobs.end_items(p_definition, v_settled);

  insert into jobs.attempts (tenant_id, item_id, try, job, subject_id, run_id, outcome, error, due_at, started_at, trace_id)
  select s.tenant_id, s.item_id, s.tries, (p_definition).job, s.subject_id, s.run_id, s.outcome, s.error, s.due_at, now(), s.trace_id
  from unnest(v_settled) s;
  insert into jobs.dead_items (
    tenant_id, item_id, job, subject_id, payload, attempts, tries, reason, last_error, enqueued_at, trace_id, dedupe_key)
  select s.tenant_id, s.item_id, (p_definition).job, s.subject_id, i.payload, s.attempts, s.tries, s.dies, s.error, i.enqueued_at, s.trace_id, s.dedupe_key
  from unnest(v_settled) s
  join unnest(v_items) i on i.item_id = s.item_id
  where s.dies is not null
    -- Nobody is left who could replay those of a deleted tenant.
    and (s.tenant_id = jobs.platform_id() or exists (select from public.tenants t where t.id = s.tenant_id));
  select count(*), count(s.dies) into cancelled, died from unnest(v_settled) s;
end
$function$;

create or replace function jobs.count_run (
  p_batch jobs.batches,
  p_settled jobs.settled[]
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
begin
  -- Compared as rows, which only the primary key can answer: a plan that was made while there were few would read all of the run.
  with counted as materialized (
    select c.tenant_id, c.run_id, r.started_at, c.processed, c.failed, (
        select x.batch_id from jobs.run_tenants x
        where x.started_at = r.started_at
          and (x.tenant_id, x.run_id, x.drain_id, x.started_at) >= (c.tenant_id, c.run_id, (p_batch).drain_id, r.started_at)
          and (x.tenant_id, x.run_id, x.drain_id, x.started_at) <= (c.tenant_id, c.run_id, (p_batch).drain_id, r.started_at)
        order by x.tenant_id desc, x.run_id desc, x.drain_id desc, x.started_at desc, x.batch_id desc limit 1) as last_batch_id
    from (
      select u.tenant_id, u.run_id, count(*) filter (where u.dies is null) as processed, count(*) filter (where u.dies is not null) as failed
      from unnest(p_settled) u
      where u.ends and u.run_id is not null
      group by u.tenant_id, u.run_id
    ) c
    cross join lateral (select x.started_at from jobs.runs x where x.run_id = c.run_id offset 0) r
    order by c.run_id, c.tenant_id
  ),
  added as (
    update jobs.run_tenants rt
    set processed = rt.processed + c.processed, failed = rt.failed + c.failed, batch_id = greatest(rt.batch_id, (p_batch).batch_id)
    from counted c
    where rt.started_at = c.started_at
      and (rt.tenant_id, rt.run_id, rt.drain_id, rt.started_at, rt.batch_id) >= (c.tenant_id, c.run_id, (p_batch).drain_id, c.started_at, c.last_batch_id)
      and (rt.tenant_id, rt.run_id, rt.drain_id, rt.started_at, rt.batch_id) <= (c.tenant_id, c.run_id, (p_batch).drain_id, c.started_at, c.last_batch_id)
    returning rt.tenant_id, rt.run_id
  )
  -- The first of its drain, or another batch of it is just being closed.
  insert into jobs.run_tenants as rt (tenant_id, run_id, drain_id, started_at, batch_id, processed, failed)
  select c.tenant_id, c.run_id, (p_batch).drain_id, c.started_at, (p_batch).batch_id, c.processed, c.failed
  from counted c
  where not exists (select from added a where a.tenant_id = c.tenant_id and a.run_id = c.run_id)
  order by c.run_id, c.tenant_id
  on conflict (tenant_id, run_id, drain_id, started_at, batch_id) do update
    set processed = rt.processed + excluded.processed, failed = rt.failed + excluded.failed;

  if not exists (select from unnest(p_settled) u where u.error is not null) then
    return;
  end if;
  -- The first twenty errors tell the story; all of them are in the attempts.
  update jobs.drains d
  set errors = d.errors || e.errors
  from (
    select jsonb_agg(x.error) as errors
    from (
      select jsonb_build_object('run_id', u.run_id, 'item_id', u.item_id, 'outcome', u.outcome, 'error', u.error) as error
      from unnest(p_settled) u
      where u.error is not null and u.outcome not in ('held', 'cancelled')
      limit 10
    ) x
  ) e
  where d.drain_id = (p_batch).drain_id and e.errors is not null and jsonb_array_length(d.errors) < 20;
end
$function$;

create or replace function jobs.define (
  job text,
  settings jsonb
)
  returns jobs.definitions
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_known text[] := array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = 'jobs.definitions'::regclass and a.attnum > 0 and not a.attisdropped and a.attname not in ('job', 'next_slot_at'));
  v_unknown text;
  v_columns text;
begin
  select k into v_unknown from jsonb_object_keys(settings) k where k <> all (v_known) limit 1;
  if v_unknown is not null then
    raise exception 'A job has no setting "%". Known: %.', v_unknown, array_to_string(v_known, ', ') using errcode = '22023';
  end if;
  select s.value into v_unknown from jsonb_each_text(settings) s
  where s.key like '%\_function' and s.value ~ '^[a-z_]+\.[a-z0-9_]+$' and to_regproc(s.value) is null limit 1;
  if v_unknown is not null then
    raise exception 'There is no function "%", or more than one.', v_unknown using errcode = '22023';
  end if;
  select string_agg(format('%I', k), ', ' order by k) into v_columns from jsonb_object_keys(settings) k;
  if v_columns is null then
    raise exception 'Nothing is set. A job needs at least kind and meaning.' using errcode = '22023';
  end if;
  execute format(
    'update jobs.definitions d set (%1$s) = (select %2$s from jsonb_populate_record(null::jobs.definitions, $2) s) where d.job = $1 returning d.*',
    v_columns, (select string_agg(format('s.%I', k), ', ' order by k) from jsonb_object_keys(settings) k))
    into v_definition using define.job, settings;
  if v_definition.job is null then
    execute format(
      'insert into jobs.definitions as d (job, %1$s) select $1, %2$s from jsonb_populate_record(null::jobs.definitions, $2) s returning d.*',
      v_columns, (select string_agg(format('s.%I', k), ', ' order by k) from jsonb_object_keys(settings) k))
      into v_definition using define.job, settings;
  end if;
  perform private.audit(null, 'job.defined', jsonb_build_object('job', define.job, 'settings', settings));
  return v_definition;
end
$function$;

create or replace function jobs.drop_lookbacks (
  p_job text,
  p_tenant_ids uuid[],
  p_floor_ats timestamp with time zone[],
  p_lookback_ids bigint[]
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
begin
  delete from jobs.lookbacks k
  using unnest(p_tenant_ids, p_floor_ats) as u (tenant_id, floor_at), unnest(p_lookback_ids) as s (lookback_id)
  where k.tenant_id = u.tenant_id and k.job = p_job and k.lookback_id = s.lookback_id and u.floor_at is not null;
end
$function$;

create or replace function jobs.end_items (
  p_definition jobs.definitions,
  p_settled jobs.settled[]
)
  returns jobs.settled[]
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_settled jobs.settled[] := p_settled;
  v_keyed boolean := exists (select from unnest(p_settled) u where u.dedupe_key is not null);
  -- An apply function may cancel.
  v_before text := coalesce(current_setting('onecron.ending', true), '');
begin
  if (p_definition).apply_function is not null then
    if v_keyed then
      perform set_config('onecron.ending', array(select u.item_id from unnest(v_settled) u where u.ends and u.dedupe_key is not null)::text, true);
    end if;
    v_settled := jobs.apply_ended(p_definition, v_settled);
    if v_keyed then
      perform set_config('onecron.ending', v_before, true);
    end if;
  end if;
  if v_keyed then
    delete from jobs.dedupe_keys k
    using (select u.tenant_id, u.dedupe_key, u.item_id from unnest(v_settled) u where u.ends and u.dedupe_key is not null) freed
    where k.tenant_id = freed.tenant_id and k.job = (p_definition).job and k.dedupe_key = freed.dedupe_key and k.item_id = freed.item_id;
  end if;
  return v_settled;
end
$function$;

create or replace function jobs.enqueue_many (
  job text,
  tenant_ids uuid[],
  subject_ids uuid[] default null::uuid[],
  run_at timestamp with time zone default null::timestamp with time zone,
  dedupe_keys text[] default null::text[],
  payloads jsonb[] default null::jsonb[]
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  AS $function$
#variable_conflict use_variable
declare
  v_definition jobs.definitions;
  v_run_at timestamptz;
  v_ending bigint[] := nullif(current_setting('onecron.ending', true), '')::bigint[];
  v_count integer;
begin
  perform jobs.take_guards(enqueue_many.job, tenant_ids);
  -- Whoever deletes a definition has all guards: it is gone, or stays.
  select d.* into v_definition from jobs.definitions d where d.job = enqueue_many.job;
  if not found then
    raise exception 'There is no job "%".', enqueue_many.job using errcode = 'P0002';
  end if;
  if exists (
    select from unnest(tenant_ids) u
    where u is null or (u <> jobs.platform_id() and not exists (select from public.tenants t where t.id = u))
  ) then
    raise exception 'An item belongs to a tenant that exists.' using errcode = '23503';
  end if;
  v_run_at := coalesce(enqueue_many.run_at, now() + make_interval(secs => v_definition.start_delay_seconds));
  if not isfinite(v_run_at) then
    raise exception 'run_at must be a time, not infinity.' using errcode = '22008';
  end if;
  -- An index holds no more, and its own words for it tell nobody what to do.
  if exists (select from unnest(dedupe_keys) u where octet_length(u) > 2000) then
    raise exception 'A dedupe key has at most 2,000 bytes, not %. Use a hash of it.', (select max(octet_length(u)) from unnest(dedupe_keys) u)
      using errcode = '22001';
  end if;

  -- Called by the apply function of a close: the keys of the items that end in it are free. See jobs.settle.
  if v_ending is not null then
    delete from jobs.dedupe_keys k
    using unnest(tenant_ids, dedupe_keys) as g (tenant_id, dedupe_key)
    where k.tenant_id = g.tenant_id and k.job = enqueue_many.job and k.dedupe_key = g.dedupe_key and k.item_id = any (v_ending);
  end if;

  with given as materialized (
    select u.*, nextval('jobs.items_item_id_seq') as item_id
    from unnest(tenant_ids, subject_ids, dedupe_keys, payloads) as u (tenant_id, subject_id, dedupe_key, payload)
  ),
  -- In one order, so that two callers with the same keys wait for one another instead of blocking each other.
  keyed as (
    insert into jobs.dedupe_keys as k (tenant_id, job, dedupe_key, item_id)
    select g.tenant_id, enqueue_many.job, g.dedupe_key, g.item_id
    from given g
    where g.dedupe_key is not null
    order by g.tenant_id, g.dedupe_key, g.item_id
    on conflict do nothing
    returning k.item_id
  )
  insert into jobs.items (tenant_id, item_id, job, subject_id, run_at, waiting_for, dedupe_key, payload)
  overriding system value
  select g.tenant_id, g.item_id, enqueue_many.job, g.subject_id, v_run_at, case when v_run_at > now() then 'delay' end, g.dedupe_key, g.payload
  from given g
  where g.dedupe_key is null or g.item_id in (select keyed.item_id from keyed);
  get diagnostics v_count = row_count;

  perform jobs.wake_lanes(enqueue_many.job, tenant_ids, array(select v_run_at from unnest(tenant_ids)), 'delay');
  return v_count;
end
$function$;

create or replace function jobs.finish_run (
  p_run_id bigint
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  delete from jobs.open_runs o where o.run_id = p_run_id;
  update jobs.runs r
  set finished_at = clock_timestamp(), processed = c.processed, failed = c.failed, errors = c.errors,
    status = case when c.processed = 0 and (c.failed > 0 or jsonb_path_exists(c.errors, '$[*].drain_id')) then 'error' when c.failed > 0 or c.errors <> '[]' then 'warning' else 'success' end::jobs.run_status,
    -- How it began stays.
    message = concat_ws(' ', case
      when c.processed = 0 and c.failed = 0 and c.errors = '[]' then 'Nothing to do.'
      else format('%s done, %s failed.', c.processed, c.failed) end, r.message)
  from jobs.run_counts(p_run_id) c
  where r.run_id = p_run_id and r.finished_at is null
$function$;

create or replace function jobs.follow_clock (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- Worked out anew when it is written.
  update jobs.definitions d set next_slot_at = null where d.schedule is not null and d.next_slot_at > p_now;
  update jobs.platform p set last_tick_at = p_now, watched_at = '-infinity', cleaned_at = '-infinity';
  delete from jobs.backlogs;
  delete from jobs.steps;
  update jobs.drains d
  set rung_at = least(d.rung_at, p_now), answered_at = case when d.answered_at is not null then least(d.answered_at, p_now) end,
    seen_at = case when d.seen_at is not null then least(d.seen_at, p_now) end
  where d.ended_at is null;
  update jobs.batches b set lease_until = p_now + make_interval(secs => d.lease_seconds)
  from jobs.definitions d
  where d.job = b.job and b.lease_until > p_now + make_interval(secs => d.lease_seconds);
  update jobs.breakers b set since = least(b.since, p_now), open_until = case when b.state = 'open' then p_now end
  where b.since > p_now or b.open_until > p_now + interval '20 minutes';
  update jobs.rates r set free_at = p_now + interval '1 minute' where r.free_at > p_now + interval '1 minute';
  -- What was enqueued under the later time waits for as long as it was meant to, and no longer.
  update jobs.items i set run_at = i.run_at - (i.enqueued_at - p_now), enqueued_at = p_now where i.enqueued_at > p_now;
  insert into jobs.lookbacks (tenant_id, job, run_at)
  select l.tenant_id, l.job, '-infinity' from jobs.lanes l
  where l.floor_at > '-infinity'
    and not exists (select from jobs.lookbacks k where k.tenant_id = l.tenant_id and k.job = l.job and k.run_at = '-infinity');
  -- All that sleep until a time are looked at; those that still have a reason sleep on.
  update jobs.lanes l set wake_at = p_now, not_before = '-infinity', head_at = null, head_id = null
  from (
    select x.tenant_id, x.job from jobs.lanes x where x.wake_at > p_now order by x.job, x.tenant_id for no key update
  ) asleep
  where l.tenant_id = asleep.tenant_id and l.job = asleep.job;
end
$function$;

create or replace function jobs.forget_tenant (
  p_tenant_id uuid
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_run_ids bigint[];
  v_items bigint[];
begin
  -- The lanes first, as claims and closes do: then what these put back is here to be seen, and none waits for the other.
  perform from jobs.lanes l where l.tenant_id = p_tenant_id order by l.job for update;
  delete from jobs.lane_keys l where l.tenant_id = p_tenant_id;
  with gone as (
    delete from jobs.items i where i.tenant_id = p_tenant_id returning i.run_id
  )
  select array_agg(g.run_id), array_agg(g.items) into v_run_ids, v_items
  from (select gone.run_id, count(*) as items from gone where gone.run_id is not null group by gone.run_id) g;
  perform jobs.expect_fewer(v_run_ids, v_items);
  update jobs.alerts a set closed_at = now() where a.tenant_id = p_tenant_id and a.closed_at is null;
  delete from jobs.dedupe_keys k where k.tenant_id = p_tenant_id;
  delete from jobs.dead_items d where d.tenant_id = p_tenant_id;
  delete from jobs.breakers b where b.tenant_id = p_tenant_id;
  delete from jobs.rates r where r.tenant_id = p_tenant_id;
  delete from jobs.throttles w where w.tenant_id = p_tenant_id;
end
$function$;

create or replace function jobs.how_to_sleep (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_tenant_ids uuid[],
  p_refused boolean[],
  p_paused boolean[],
  p_not_before timestamp with time zone[],
  p_floor_ats timestamp with time zone[],
  p_now timestamp with time zone
)
  returns table (
    tenant_id uuid,
    reason text,
    detail text,
    wake_at timestamp with time zone,
    head_at timestamp with time zone,
    floor_at timestamp with time zone
  )
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
#variable_conflict use_column
declare
  v_class integer := jobs.guard_class((p_definition).job);
  v_guards integer[] := jobs.guards_of(p_tenant_ids);
  v_held integer[];
  v_caps_stay boolean;
  v_floor_ats timestamptz[] := p_floor_ats;
begin
  v_held := array(
    select g.guard
    from (select distinct u as guard from unnest(v_guards) u) g
    where pg_try_advisory_xact_lock(v_class, g.guard)
  );
  -- What was brought from before the floor of its lane. (least skips nulls.)
  if exists (select from jobs.lookbacks k where k.tenant_id = any (p_tenant_ids) and k.job = (p_definition).job) then
    v_floor_ats := array(
      select least(l.floor_at, (select min(k.run_at) from jobs.lookbacks k where k.tenant_id = l.tenant_id and k.job = (p_definition).job))
      from unnest(p_tenant_ids, p_floor_ats) with ordinality as l (tenant_id, floor_at, n)
      order by l.n);
  end if;
  -- The guard of the job's caps: whoever is just raising one has it.
  v_caps_stay := not true = any (p_refused) or pg_try_advisory_xact_lock(v_class, 256);
  -- A new statement: its snapshot has everything that was committed by anyone who held a guard before us.
  return query
  select s.tenant_id, s.reason, s.detail,
    case
      when s.guard = any (v_held) and (v_caps_stay or s.reason <> 'cap') then s.wake_at
      -- Somebody is just bringing work or freeing a place: look again in a second, not when the next known item is due or never.
      else least(s.wake_at, greatest(s.not_before, p_now + interval '1 second')) end,
    s.head_at,
    case when s.guard = any (v_held) and s.head_at is not null then p_now end
  from (
    select l.tenant_id, l.guard, l.not_before, coalesce(j.reason, case
        when n.run_at is null then 'idle'
        when l.not_before > n.run_at then case when (p_definition).has_cadence then 'cadence' else 'rate limit' end
        else coalesce(n.waiting_for, 'waiting') end) as reason,
      j.detail,
      case
        when j.reason is not null then j.wake_at
        when n.run_at is not null then greatest(n.run_at, l.not_before) end as wake_at,
      -- Before its next item there is nothing, and without one nothing before now. (least skips nulls.)
      case when j.reason is null then least(n.run_at, p_now) end as head_at
    from unnest(p_tenant_ids, p_not_before, v_guards, v_floor_ats) as l (tenant_id, not_before, guard, floor_at)
    -- Those that may not be served are judged anew: what held them back may be over by now.
    left join jobs.judge_lanes(p_definition,
      array(select u.tenant_id from unnest(p_tenant_ids, p_refused) as u (tenant_id, is_refused) where u.is_refused),
      array(select u.paused from unnest(p_paused, p_refused) as u (paused, is_refused) where u.is_refused),
      (p_clock).oldest_batch, p_now) j on j.tenant_id = l.tenant_id
    left join lateral (
      select i.run_at,
        case when i.waiting_for in ('delay', 'backoff', 'quiet hours', 'rate limit') then i.waiting_for end as waiting_for
      from jobs.items i
      where i.job = (p_definition).job and i.tenant_id = l.tenant_id and i.run_at >= l.floor_at
      order by i.run_at, i.item_id
      limit 1
    ) n on true
    -- Work that is ready now keeps its lane awake (it arrived just now, or its place under the cap became free).
    where j.reason is not null or n.run_at is null or n.run_at > p_now
  ) s;
end
$function$;

create or replace function jobs.judge_lanes (
  p_definition jobs.definitions,
  p_tenant_ids uuid[],
  p_paused boolean[],
  p_oldest_batch bigint,
  p_now timestamp with time zone
)
  returns table (
    tenant_id uuid,
    weight double precision,
    room integer,
    share integer,
    rate integer,
    reason text,
    detail text,
    wake_at timestamp with time zone
  )
  language plpgsql
  stable
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
#variable_conflict use_column
begin
  -- Most of what follows is about providers. A job without one has no use for it.
  if (p_definition).provider is null then
    return query
    select lane.tenant_id, lane.weight, lane.room, lane.share, null::integer,
      case when lane.is_paused or not lane.is_served then 'paused' when lane.room <= 0 then 'cap' end,
      case when lane.is_paused then 'this lane is paused' when not lane.is_served then 'the tenant is not active' end,
      null::timestamptz
    from (
      select u.tenant_id, u.is_paused,
        u.tenant_id = jobs.platform_id() or coalesce(t.status = 'active', false) as is_served,
        coalesce(p.weight, 1)::double precision as weight,
        coalesce(p.batch_share, (p_definition).batch_size) as share,
        (coalesce(p.cap, (p_definition).batch_size) - f.in_flight)::integer as room
      from unnest(p_tenant_ids, p_paused) as u (tenant_id, is_paused)
      left join public.tenants t on t.id = u.tenant_id
      left join public.plans p on p.plan_id = t.plan_id
      cross join lateral (
        -- Compared as rows, which only the primary key can answer, and from its beginning on: by batch alone all lanes would be read for
        -- each lane, and by tenant and job all that an old snapshot keeps of the lane.
        select coalesce(sum(e.open), 0) as in_flight from jobs.leases e
        where (e.tenant_id, e.job, e.batch_id) >= (u.tenant_id, (p_definition).job, p_oldest_batch)
          and (e.tenant_id, e.job) <= (u.tenant_id, (p_definition).job)
      ) f
    ) lane;
    return;
  end if;

  return query
  select lane.tenant_id, lane.weight, least(lane.room, lane.rate_room), lane.share, lane.rate,
    case
      when lane.is_paused or not lane.is_served then 'paused'
      when lane.parked_because is not null or lane.open_until > p_now or lane.has_no_credential or lane.is_probed then 'breaker'
      when lane.room <= 0 then 'cap'
      when lane.rate_room <= 0 or lane.throttled_until is not null then 'rate limit'
    end,
    case
      when lane.is_paused then 'this lane is paused'
      when not lane.is_served then 'the tenant is not active'
      when lane.has_no_credential then format('no %s credential', (p_definition).provider)
      when lane.parked_because is not null then lane.parked_because
      when lane.open_until > p_now then lane.open_because
      when lane.is_probed then 'an item of another job probes the provider'
      when lane.room > 0 then lane.throttled_because
    end,
    case
      when lane.is_paused or not lane.is_served or lane.has_no_credential or lane.parked_because is not null then null
      when lane.open_until > p_now then lane.open_until
      -- An answer wakes it at once; when there is none the breaker has a new time.
      when lane.is_probed then p_now + interval '5 seconds'
      -- Wake for a turn's worth, not for every single item. (greatest skips nulls.)
      when lane.room > 0 then greatest(lane.throttled_until, case when lane.rate_room <= 0 then p_now + make_interval(secs => greatest(0.05,
        extract(epoch from greatest(lane.free_at, p_now) - p_now)
          - (jobs.rate_burst(lane.rate) - least(jobs.rate_burst(lane.rate), (p_definition).quantum)) * jobs.rate_interval(lane.rate))) end)
    end
  from (
    select u.tenant_id, u.is_paused,
      u.tenant_id = jobs.platform_id() or coalesce(t.status = 'active', false) as is_served,
      coalesce(p.weight, 1)::double precision as weight,
      p.rate_per_minute as rate,
      r.free_at,
      jobs.rate_room(p.rate_per_minute, r.free_at, p_now) as rate_room,
      -- What a provider said of the platform's credential is not for each tenant's ears.
      case when b.tenant_id = jobs.platform_id() then format('the platform''s %s credential does not work', (p_definition).provider)
        when b.tenant_id is not null then coalesce(b.reason, 'the credential does not work') end as parked_because,
      o.open_until, o.reason as open_because, w.until as throttled_until,
      case when w.tenant_id = jobs.platform_id() then format('the platform''s %s credential is throttled', (p_definition).provider)
        when w.tenant_id is not null then coalesce(w.reason, 'throttled') end as throttled_because,
      c.tenant_id is null and not ((p_definition).platform_allowed and pc.provider is not null) as has_no_credential,
      coalesce(p.batch_share, (p_definition).batch_size) as share,
      -- An open breaker whose time is over lets one probe through, of whichever job.
      o.tenant_id is not null and exists (
        select from jobs.leases e join jobs.definitions d on d.job = e.job
        where e.tenant_id = u.tenant_id and d.provider = (p_definition).provider and e.job <> (p_definition).job) as is_probed,
      least(
        coalesce(p.cap, (p_definition).batch_size) - f.in_flight,
        case when o.tenant_id is not null then 1 - f.in_flight end
      )::integer as room
    from unnest(p_tenant_ids, p_paused) as u (tenant_id, is_paused)
    left join public.tenants t on t.id = u.tenant_id
    left join public.plans p on p.plan_id = t.plan_id
    left join public.credentials c on c.tenant_id = u.tenant_id and c.provider = (p_definition).provider
    left join private.platform_credentials pc on pc.provider = (p_definition).provider
    left join jobs.breakers b
      on b.tenant_id = case when c.tenant_id is null then jobs.platform_id() else u.tenant_id end
      and b.provider = (p_definition).provider and b.state = 'parked'
    left join jobs.breakers o on o.tenant_id = u.tenant_id and o.provider = (p_definition).provider and o.state = 'open'
    left join lateral (
      select x.* from jobs.throttles x
      where x.tenant_id in (u.tenant_id, case when c.tenant_id is null then jobs.platform_id() end)
        and x.provider = (p_definition).provider and x.until > p_now
      order by x.until desc
      limit 1
    ) w on true
    left join jobs.rates r on r.tenant_id = u.tenant_id and r.provider = (p_definition).provider
    cross join lateral (
      select coalesce(sum(e.open), 0) as in_flight from jobs.leases e
      where (e.tenant_id, e.job, e.batch_id) >= (u.tenant_id, (p_definition).job, p_oldest_batch)
        and (e.tenant_id, e.job) <= (u.tenant_id, (p_definition).job)
    ) f
  ) lane;
end
$function$;

create or replace function jobs.keep_definition()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- Work that is just being brought is not to be seen yet. Without waiting: all others would wait behind. See 50_enqueue.sql.
  if not (select bool_and(pg_try_advisory_xact_lock(jobs.guard_class(old.job), g)) from generate_series(0, 255) g) then
    raise exception 'Somebody is just bringing work for the job "%". Pause what brings it, and try again.', old.job using errcode = '55P03';
  end if;
  if exists (select from jobs.items i where i.job = old.job) or exists (select from jobs.leases e where e.job = old.job)
    or exists (select from jobs.dead_items d where d.job = old.job)
  then
    raise exception 'The job "%" has items that wait, are out with a worker, or are dead. Pause it, cancel what waits (jobs.cancel), let what is out come '
      'back, and replay or delete what is dead. Then it can go.', old.job using errcode = '23503';
  end if;
  return old;
end
$function$;

create or replace function jobs.next_batch (
  drain_id uuid,
  job text,
  batch_size integer default null::integer,
  request uuid default null::uuid
)
  returns json
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_batch jobs.batches;
  v_drain jobs.drains;
  v_now timestamptz;
  v_size integer;
  v_room integer;
  v_width integer;
  v_looks_at integer;
  v_lanes integer;
  v_picked integer := 0;
  v_clock jobs.clocks;
  v_deep boolean;
  v_due_from timestamptz;
  v_woken integer;
  v_first double precision;
  v_oldest bigint;
  v_got integer;
  v_tag double precision;
  v_tenants json;
  v_again json;
begin
  perform jobs.require_read_committed();
  select d.* into v_definition from jobs.definitions d where d.job = next_batch.job;
  if not found then
    raise exception 'There is no job "%".', next_batch.job using errcode = 'P0002';
  end if;
  if v_definition.paused or (select p.stopped from jobs.platform p) then
    return null;
  end if;
  -- A drain that was given up for lost gets nothing any more. It is noted once a second that it was heard of: rows that change with
  -- every batch are slow to read while somebody keeps an old snapshot.
  select d.* into v_drain from jobs.drains d
  where d.drain_id = next_batch.drain_id and d.job = next_batch.job and d.ended_at is null
  for no key update;
  if not found then
    return null;
  end if;
  if v_drain.seen_at > clock_timestamp() - interval '1 second' is not true then
    update jobs.drains d set seen_at = clock_timestamp() where d.drain_id = next_batch.drain_id;
  end if;

  perform jobs.claim_lock(next_batch.job);
  if next_batch.request is not null then
    v_again := jobs.batch_again(next_batch.request);
    if v_again is not null then
      return v_again;
    end if;
  end if;
  v_now := clock_timestamp();
  v_size := least(greatest(coalesce(next_batch.batch_size, v_definition.batch_size), 1), 1000);
  v_size := jobs.provider_room(v_definition.provider, v_size, v_now);
  select c.* into v_clock from jobs.clocks c where c.job = next_batch.job order by c.revision desc limit 1;
  if v_definition.cap is not null then
    v_size := least(v_size, v_definition.cap - (
      select coalesce(sum(e.open), 0) from jobs.leases e where e.batch_id >= v_clock.oldest_batch and e.job = next_batch.job));
  end if;
  if v_size <= 0 then
    return null;
  end if;
  -- From where on to look: below these there is nothing but what others have left behind. Forgotten every 30 seconds, so that what
  -- was brought from the past (a long transaction, a price that was corrected) is found; at once when the clock was set back.
  if v_clock.looked_at not between v_now - interval '30 seconds' and v_now then
    v_clock.looked_at := v_now;
    v_clock.due_from := '-infinity';
    v_clock.served_from := '-infinity';
    v_clock.woken_to := '-infinity';
  end if;
  -- What became visible late is looked for with the first claim of each second, and when nobody is awake.
  v_deep := date_trunc('second', v_now) > date_trunc('second', v_clock.woken_to);
  for v_look in 1..2 loop
    v_due_from := case when v_deep then v_clock.due_from else v_clock.woken_to - interval '250 milliseconds' end;
    v_woken := jobs.wake_due_lanes(v_definition, v_clock.vtime, v_due_from, v_now);
    select l.vtime into v_first
    from jobs.lanes l
    where l.job = next_batch.job and l.awake and l.vtime >= v_clock.served_from
    order by l.vtime
    limit 1;
    exit when v_deep or found;
    v_deep := true;
  end loop;
  -- More may be due than a claim wakes: then the next one goes on where this one began.
  if v_woken < 500 then
    v_clock.woken_to := v_now;
    -- A transaction that brought work may have taken so long to commit.
    v_clock.due_from := greatest(v_clock.due_from, v_now - interval '20 seconds');
  else
    v_clock.woken_to := '-infinity';
  end if;
  v_clock.served_from := least(v_clock.vtime, v_first);
  select b.batch_id into v_oldest
  from jobs.batches b where b.job = next_batch.job and b.batch_id >= v_clock.oldest_batch order by b.batch_id limit 1;

  insert into jobs.batches (job, drain_id, run_id, leased_at, lease_until, request)
  values (next_batch.job, next_batch.drain_id, v_drain.run_id, v_now, v_now + make_interval(secs => v_definition.lease_seconds), next_batch.request)
  returning * into v_batch;
  v_clock.oldest_batch := coalesce(v_oldest, v_batch.batch_id);

  -- A round may find lanes empty, or that all it picked must wait (quiet hours): go on until there is work or no lane, but not for long.
  -- All others wait for the claim lock meanwhile, and what a statement_timeout takes back would be found again by every claim to come.
  v_room := v_size;
  v_width := v_clock.width;
  for v_round in 1..100 loop
    -- A round looks at as many lanes as full turns would need; when lanes turn out to hold less, the next one looks at twice as many, and
    -- so on. No more than there is room for, unless the last round found nothing: empty lanes must not use up the rounds of a small batch.
    v_looks_at := v_width * greatest(20, ceil(v_room::numeric / v_definition.quantum));
    if v_got is distinct from 0 then
      v_looks_at := least(v_looks_at, v_room);
    end if;
    select p.picked, p.tag into v_got, v_tag from jobs.pick(v_definition, v_clock, v_batch.batch_id, v_room, v_looks_at, v_now) p;
    -- The start of the last turn served: a lane that wakes now is at most one turn ahead of the others, not a batch.
    v_clock.vtime := greatest(v_clock.vtime, v_tag);
    v_width := least(v_width * 2, 64);
    v_picked := v_picked + coalesce(v_got, 0);
    v_room := v_room - coalesce(v_got, 0);
    if v_got is null or v_room <= 0 or v_round = 100 or clock_timestamp() > v_now + interval '300 milliseconds' then
      exit when v_picked = 0;
      v_tenants := jobs.load_batch(v_definition, v_batch, v_now);
      exit when v_tenants is not null or v_got is null or clock_timestamp() > v_now + interval '300 milliseconds';
      v_picked := 0;
      v_room := v_size;
    end if;
  end loop;

  if v_tenants is null then
    delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    perform jobs.set_clock(v_clock);
    -- It stopped before it had seen all that is awake: null would end the drain.
    if v_woken >= 500 or v_got is not null and exists (
      select from jobs.lanes l where l.job = next_batch.job and l.awake and l.vtime >= v_clock.served_from
    ) then
      return jobs.batch_answer(v_definition, v_batch, '[]');
    end if;
    return null;
  end if;
  -- Where lanes hold an item or two, the next claim begins as widely as this one ended: a round costs as much as forty lanes.
  select count(*) into v_lanes from jobs.leases e where e.batch_id = v_batch.batch_id;
  v_clock.width := least(64, ceil(v_lanes / greatest(20, ceil(v_size::numeric / v_definition.quantum))));
  perform jobs.set_clock(v_clock);
  if v_definition.provider is not null then
    update jobs.batches b set loaded = true where b.batch_id = v_batch.batch_id;
    update jobs.rates r
    set free_at = greatest(r.free_at, v_now) + make_interval(secs => v_picked * jobs.rate_interval(l.rate_per_minute))
    from jobs.provider_limits l
    where r.tenant_id = jobs.everyone_id() and r.provider = v_definition.provider and l.provider = r.provider and l.rate_per_minute is not null;
  end if;
  return jobs.batch_answer(v_definition, v_batch, v_tenants);
end
$function$;

create or replace function jobs.note_lookbacks (
  p_job text,
  p_tenant_ids uuid[],
  p_run_ats timestamp with time zone[]
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
begin
  insert into jobs.lookbacks (tenant_id, job, run_at)
  select u.tenant_id, p_job, u.run_at
  from unnest(p_tenant_ids, p_run_ats) as u (tenant_id, run_at)
  cross join lateral (
    select x.floor_at from jobs.lanes x where x.tenant_id = u.tenant_id and x.job = p_job order by x.written_at desc limit 1
  ) lane
  -- Of a tenant that is just being deleted the lane is gone afterwards.
  cross join lateral (
    select from jobs.lane_keys k where k.tenant_id = u.tenant_id and k.job = p_job for key share
  ) held
  where lane.floor_at > u.run_at
    and not exists (select from jobs.lookbacks k where k.tenant_id = u.tenant_id and k.job = p_job and k.run_at <= u.run_at);
end
$function$;

create or replace function jobs.note_moved()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- Without waiting: a claim that has the guard may be waiting for this very item. Then it is noted in any case.
  if not pg_try_advisory_xact_lock_shared(jobs.guard_class(new.job), (jobs.guards_of(array[new.tenant_id]))[1]) then
    insert into jobs.lookbacks (tenant_id, job, run_at)
    select k.tenant_id, k.job, new.run_at from jobs.lane_keys k where k.tenant_id = new.tenant_id and k.job = new.job for key share;
  else
    perform jobs.note_lookbacks(new.job, array[new.tenant_id], array[new.run_at]);
  end if;
  return null;
end
$function$;

create or replace function jobs.pick (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_batch_id bigint,
  p_room integer,
  p_lanes integer,
  p_now timestamp with time zone,
  OUT picked integer,
  OUT tag double precision
)
  returns record
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_full uuid[];
  v_lanes uuid[];
  v_places tid[];
  v_paused boolean[];
  v_not_before timestamptz[];
  v_vtimes double precision[];
  v_head_ats timestamptz[];
  v_head_ids bigint[];
  v_since timestamptz[];
  v_floor_ats timestamptz[];
  -- From here on one element for each lane, in the order of v_lanes.
  v_rates integer[];
  v_items integer[];
  v_costs double precision[];
  v_to_ats timestamptz[];
  v_to_ids bigint[];
  v_refused boolean[];
  v_empty boolean[];
  v_reasons text[];
  v_details text[];
  v_wake_ats timestamptz[];
  v_next_ats timestamptz[];
  v_new_floor_ats timestamptz[];
  v_lookbacks bigint[];
begin
  -- A lane that has its share of this batch from an earlier round waits for the next batch.
  v_full := array(
    select e.tenant_id from jobs.leases e
    where e.batch_id = p_batch_id and e.open >= coalesce((
      select p.batch_share from public.plans p where p.plan_id = (select t.plan_id from public.tenants t where t.id = e.tenant_id)
    ), (p_definition).batch_size));
  -- The lanes that are furthest behind. They are read once and written once: each version of a row that is left behind is one
  -- more that all who look it up must step over while somebody keeps an old snapshot.
  select array_agg(l.tenant_id), array_agg(l.ctid), array_agg(l.paused), array_agg(l.not_before), array_agg(l.vtime),
    array_agg(case when l.is_fresh then l.head_at else '-infinity' end), array_agg(case when l.is_fresh then l.head_id else 0 end),
    array_agg(case when l.is_fresh then l.head_since else p_now end),
    array_agg(case when l.is_fresh and l.floor_at <= p_now then l.floor_at else '-infinity' end)
  into v_lanes, v_places, v_paused, v_not_before, v_vtimes, v_head_ats, v_head_ids, v_since, v_floor_ats
  from (
    select x.*, x.ctid, x.head_at is not null and x.head_since > p_now - interval '30 seconds' as is_fresh
    from jobs.lanes x
    where x.job = (p_definition).job and x.awake and x.vtime >= (p_clock).served_from and x.tenant_id <> all (v_full)
    order by x.vtime, x.tenant_id
    limit p_lanes
    for no key update skip locked
  ) l;
  if v_lanes is null then
    return;
  end if;
  -- Another job of the same provider draws on the same limits: whoever reads them next waits until we have written.
  if (p_definition).provider is not null then
    perform from jobs.rates r
    where r.tenant_id = any (v_lanes) and r.provider = (p_definition).provider
    order by r.tenant_id
    for update;
  end if;

  with lane as materialized (
    select u.n, u.tenant_id, u.vtime, j.weight, least(j.room, j.share - coalesce(e.open, 0)) as room, j.rate, j.reason, u.head_at, u.head_id
    from unnest(v_lanes, v_vtimes, v_head_ats, v_head_ids) with ordinality as u (tenant_id, vtime, head_at, head_id, n)
    join jobs.judge_lanes(p_definition, v_lanes, v_paused, (p_clock).oldest_batch, p_now) j on j.tenant_id = u.tenant_id
    -- What it got in an earlier round of this batch. Compared as rows, as there: no batch is later.
    left join lateral (
      select x.open from jobs.leases x
      where (x.tenant_id, x.job, x.batch_id) >= (u.tenant_id, (p_definition).job, p_batch_id)
        and (x.tenant_id, x.job) <= (u.tenant_id, (p_definition).job)
      offset 0
    ) e on true
  ),
  -- Each turn of a lane starts quantum ÷ weight after its turn before: the earliest turns.
  turn as (
    select lane.tenant_id
    from lane
    cross join lateral generate_series(0, least((least(lane.room, p_room) - 1) / (p_definition).quantum,
      -- As many lanes as turns: none has a turn that starts after the first one of the last lane.
      case when cardinality(v_lanes) = p_lanes
        then ceil((v_vtimes[p_lanes] - lane.vtime) * lane.weight / (p_definition).quantum) end)::integer) as turn (n)
    where lane.reason is null
    order by lane.vtime + turn.n * (p_definition).quantum / lane.weight, lane.tenant_id
    limit p_lanes
  ),
  share as materialized (
    select lane.tenant_id, lane.weight, lane.vtime, lane.rate, lane.head_at, lane.head_id,
      -- One more than there is room for tells a lane that holds more from one that is emptied.
      least(lane.room, turns.n * (p_definition).quantum, p_room + 1) as wanted
    from (select turn.tenant_id, count(*) as n from turn group by turn.tenant_id) turns
    join lane on lane.tenant_id = turns.tenant_id
  ),
  -- What these turns find: the oldest ready items of each lane, from its watermark on.
  found as materialized (
    select share.tenant_id, i.place, i.position,
      share.vtime + (i.position - 1) / (p_definition).quantum * (p_definition).quantum / share.weight as tag
    from share
    cross join lateral (
      select r.ctid as place, row_number() over (order by r.run_at, r.item_id) as position
      from jobs.items r
      where r.job = (p_definition).job and r.tenant_id = share.tenant_id
        and r.run_at <= p_now and (r.run_at, r.item_id) > (share.head_at, share.head_id)
      order by r.run_at, r.item_id
      limit share.wanted
    ) i
  ),
  candidate as materialized (
    select f.tenant_id, f.place, f.tag from found f order by f.tag, f.tenant_id, f.position limit p_room
  ),
  -- By their places: a join could begin with all items that wait.
  leased as materialized (
    delete from jobs.items i
    where i.ctid = any (array(select candidate.place from candidate))
    returning i.tenant_id, i.item_id, i.run_at, i as item
  ),
  served as materialized (
    select l.tenant_id, cardinality(l.list) as items, l.list, l.head_at, (l.list[cardinality(l.list)]).item_id as head_id
    from (
      select leased.tenant_id, array_agg(leased.item order by leased.run_at, leased.item_id) as list, max(leased.run_at) as head_at
      from leased
      group by leased.tenant_id
    ) l
  ),
  noted as (
    insert into jobs.leases as e (tenant_id, job, batch_id, open, items)
    select served.tenant_id, (p_definition).job, p_batch_id, served.items, served.list
    from served
    on conflict (tenant_id, job, batch_id) do update
      set items = e.items || excluded.items, open = e.open + excluded.open
  ),
  held as (
    select found.tenant_id, count(*) as items from found group by found.tenant_id
  )
  select coalesce(sum(served.items), 0), (select max(candidate.tag) from candidate), array_agg(lane.rate order by lane.n),
    array_agg(served.items order by lane.n), array_agg(served.items / lane.weight order by lane.n), array_agg(served.head_at order by lane.n), array_agg(served.head_id order by lane.n),
    array_agg(lane.reason is not null order by lane.n),
    -- No more than this is ready, or nothing may be served: these lanes need a closer look.
    array_agg(lane.reason is not null
      or (coalesce(held.items, 0) < share.wanted and coalesce(served.items, 0) = coalesce(held.items, 0)) order by lane.n)
  into picked, tag, v_rates, v_items, v_costs, v_to_ats, v_to_ids, v_refused, v_empty
  from lane
  left join share on share.tenant_id = lane.tenant_id
  left join held on held.tenant_id = lane.tenant_id
  left join served on served.tenant_id = lane.tenant_id;

  if (p_definition).provider is not null then
    insert into jobs.rates as r (tenant_id, provider, free_at)
    select u.tenant_id, (p_definition).provider, p_now + make_interval(secs => u.items * jobs.rate_interval(u.rate))
    from unnest(v_lanes, v_items, v_rates) as u (tenant_id, items, rate)
    where u.items is not null and u.rate is not null
    order by u.tenant_id
    on conflict (tenant_id, provider) do update
      set free_at = greatest(r.free_at, p_now) + (excluded.free_at - p_now);
  end if;

  if true = any (v_empty) then
    -- Only what was there before the look goes with it.
    v_lookbacks := array(select k.lookback_id from jobs.lookbacks k where k.tenant_id = any (v_lanes) and k.job = (p_definition).job);
    select array_agg(s.reason order by u.n), array_agg(s.detail order by u.n), array_agg(s.wake_at order by u.n), array_agg(s.head_at order by u.n),
      array_agg(s.floor_at order by u.n)
    into v_reasons, v_details, v_wake_ats, v_next_ats, v_new_floor_ats
    from unnest(v_lanes) with ordinality as u (tenant_id, n)
    left join (
      select h.*
      from (
        select array_agg(e.tenant_id) as tenant_ids, array_agg(e.is_refused) as refused, array_agg(e.paused) as paused,
          array_agg(e.not_before) as not_before, array_agg(e.floor_at) as floor_ats
        from unnest(v_lanes, v_refused, v_paused, v_not_before, v_floor_ats, v_empty) as e (tenant_id, is_refused, paused, not_before, floor_at, is_empty)
        where e.is_empty
      ) closer
      cross join lateral jobs.how_to_sleep(
        p_definition, p_clock, closer.tenant_ids, closer.refused, closer.paused, closer.not_before, closer.floor_ats, p_now) h
    ) s on s.tenant_id = u.tenant_id;
  end if;
  if v_lookbacks <> '{}' then
    perform jobs.drop_lookbacks((p_definition).job, v_lanes, v_new_floor_ats, v_lookbacks);
  end if;
  perform jobs.write_lanes(
    v_places, v_costs, v_to_ats, v_to_ids, v_since, v_empty, v_reasons, v_details, v_wake_ats, v_next_ats, v_new_floor_ats, p_now);
end
$function$;

create or replace function jobs.ring (
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_definition jobs.definitions;
  v_clock jobs.clocks;
  v_wanted integer;
  v_url text;
  v_secret text;
  v_count integer := 0;
begin
  for v_definition in select d.* from jobs.definitions d where d.kind <> 'sql' and not d.paused order by d.job loop
    -- From where on claims look, see jobs.next_batch.
    select c.* into v_clock from jobs.clocks c where c.job = v_definition.job order by c.revision desc limit 1;
    if (v_clock.looked_at between p_now - interval '30 seconds' and p_now) is not true then
      v_clock.served_from := '-infinity';
      v_clock.due_from := '-infinity';
    end if;
    -- As many drains as there are batches waiting. What is counted is bounded: up to as many lanes as max_drains full batches could
    -- have, and the items of a sample of them.
    -- There is at least one where not all lanes were looked at: the sample may be of lanes that turn out empty, before those with work.
    select least(v_definition.max_drains, greatest(
      case when min(waiting.lanes) >= least(100, v_definition.batch_size * v_definition.max_drains) then 1 else 0 end,
      ceil(coalesce(avg(ready.items) * min(waiting.lanes), 0) / v_definition.batch_size))) into v_wanted
    from (
      select lane.tenant_id, lane.head_at, row_number() over () as position, count(*) over () as lanes,
        greatest(v_definition.quantum, v_definition.batch_size * v_definition.max_drains / count(*) over ()) as most
      from (
        (select l.tenant_id, case when l.head_since > p_now - interval '30 seconds' then l.head_at end as head_at
          from jobs.lanes l where l.job = v_definition.job and l.awake and l.vtime >= v_clock.served_from
          order by l.vtime limit v_definition.batch_size * v_definition.max_drains)
        union all
        (select l.tenant_id, case when l.head_since > p_now - interval '30 seconds' then l.head_at end
          from jobs.lanes l where l.job = v_definition.job and l.wake_at <= p_now and l.wake_at >= v_clock.due_from
          order by l.wake_at limit v_definition.batch_size * v_definition.max_drains)
      ) lane
    ) waiting
    cross join lateral (
      -- From the watermark on, and only where nothing is there all of it.
      select coalesce(nullif((
          select count(*)
          from (
            select from jobs.items i
            where i.job = v_definition.job and i.tenant_id = waiting.tenant_id and i.run_at <= p_now and i.run_at >= waiting.head_at
            order by i.run_at, i.item_id
            limit waiting.most
          ) few), 0), (
          select count(*)
          from (
            select from jobs.items i
            where i.job = v_definition.job and i.tenant_id = waiting.tenant_id and i.run_at <= p_now
            order by i.run_at, i.item_id
            limit waiting.most
          ) few)) as items
    ) ready
    where waiting.position <= 100;
    continue when v_wanted = 0 or jobs.provider_room(v_definition.provider, 1, p_now) = 0;
    v_wanted := v_wanted - (
      select count(*) from jobs.drains d
      where d.job = v_definition.job and d.ended_at is null and jobs.drain_is_live(d, v_definition.lease_seconds, p_now));
    continue when v_wanted <= 0;

    v_url := coalesce(v_url, private.platform_secret('project_url'));
    v_secret := coalesce(v_secret, private.platform_secret('cron_secret'));
    if coalesce(v_url, '') = '' or length(coalesce(v_secret, '')) < 32 then
      perform jobs.open_alert(null, 'doorbell', 'Vault needs the secrets project_url and cron_secret (32 characters or more): no doorbell can be rung.');
      return v_count;
    end if;
    for v_n in 1..v_wanted loop
      perform jobs.ring_once(v_definition.job, v_url, v_secret, p_now);
      v_count := v_count + 1;
    end loop;
  end loop;
  -- All that was to be rung has been, or nothing waits. Then the alert is over as soon as the secrets are good, whether a bell is needed or not.
  if exists (select from jobs.alerts a where a.incident = 'doorbell' and a.tenant_id is null and a.closed_at is null) then
    v_url := coalesce(v_url, private.platform_secret('project_url'));
    v_secret := coalesce(v_secret, private.platform_secret('cron_secret'));
    perform jobs.close_alert(null, 'doorbell') where v_url <> '' and length(v_secret) >= 32;
  end if;
  return v_count;
end
$function$;

create or replace function jobs.run_result (
  run_id bigint
)
  returns jsonb
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select jsonb_build_object(
    'message', case when r.finished_at is null then 'Still running.' else r.message end,
    'results', jsonb_build_object('processed', c.processed, 'errors', c.errors),
    'timestamp', coalesce(r.finished_at, clock_timestamp()))
  from jobs.runs r
  cross join lateral jobs.run_counts(r.run_id) c
  where r.run_id = run_result.run_id
$function$;

create or replace function jobs.set_clock (
  p_clock jobs.clocks
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  update jobs.clocks c
  set revision = c.revision + 1, vtime = (p_clock).vtime, served_from = (p_clock).served_from, due_from = (p_clock).due_from,
    oldest_batch = (p_clock).oldest_batch, looked_at = (p_clock).looked_at, woken_to = (p_clock).woken_to, width = (p_clock).width
  where c.job = (p_clock).job and c.revision = (p_clock).revision;
end
$function$;

create or replace function jobs.settle (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_outcomes jsonb,
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_settled jobs.settled[];
  v_tenant_ids uuid[];
  v_told jobs.settled[];
  v_parked uuid[];
  v_comes_back boolean;
  v_back record;
begin
  -- Without its job nothing says what an outcome means: the items would be gone, neither done nor dead.
  if (p_definition).job is null then
    raise exception 'There is no job "%" any more. Its items stay where they are.', (p_batch).job using errcode = 'P0002';
  end if;
  v_tenant_ids := array(select distinct e.tenant_id from jobs.leases e where e.batch_id = (p_batch).batch_id order by e.tenant_id);
  perform jobs.take_guards((p_batch).job, v_tenant_ids);

  v_settled := jobs.match_outcomes(p_definition, p_batch, p_outcomes, p_now);
  if v_settled is null then
    return 0;
  end if;
  v_settled := jobs.end_items(p_definition, v_settled);

  -- First what concerns whole providers, so that two jobs of one provider take the rows of breakers and lanes in the same order.
  v_parked := '{}';
  if (p_definition).provider is not null then
    if jsonb_path_exists(p_outcomes, '$[*] ? (@.outcome == "throttled" || exists (@.hint))') then
      perform jobs.take_credentials(p_definition, v_settled);
      perform jobs.note_throttles(p_definition, p_batch, p_outcomes, v_settled, p_now);
    end if;
    v_parked := jobs.park_broken(p_definition, p_batch, v_settled);
    -- An item that could not be loaded says nothing about the provider.
    if exists (select from jobs.batches b where b.batch_id = (p_batch).batch_id and b.loaded) then
      perform jobs.count_failures(p_definition, v_settled, p_now);
    end if;
  end if;

  v_comes_back := exists (select from unnest(v_settled) u where not u.ends);
  -- From here on it is for the tenants to read. The platform has the words themselves in its throttles, its alerts and its drains.
  if v_comes_back and (p_definition).provider is not null then
    v_told := jobs.for_members(p_definition, p_outcomes, v_settled);
  end if;
  perform jobs.write_settled(p_batch, coalesce(v_told, v_settled));

  perform jobs.count_run(p_batch, v_settled);

  -- Lanes: places became free, items came back, a provider said not now. Only rows that change are locked, once, in tenant order.
  v_tenant_ids := array(select distinct u.tenant_id from unnest(v_settled) u order by u.tenant_id);
  if v_comes_back or (p_definition).cost_unit <> 'items' then
    perform from jobs.lanes l
    where l.job = (p_batch).job and l.tenant_id = any (v_tenant_ids)
      and (l.reason = 'cap' or (p_definition).cost_unit <> 'items' or (v_comes_back and
        exists (select from unnest(v_settled) u where u.tenant_id = l.tenant_id and not u.ends and (not l.awake or u.outcome = 'throttled'))))
    order by l.tenant_id for no key update;
  else
    -- By the index of these only: a lane leaves a version of its row behind each time it is served.
    perform from jobs.lanes l
    where l.job = (p_batch).job and l.reason = 'cap' and l.tenant_id = any (v_tenant_ids)
    order by l.tenant_id for no key update;
  end if;
  if found then
    update jobs.lanes l set wake_at = greatest(p_now, l.not_before), reason = 'waiting', detail = null
    where l.job = (p_batch).job and l.tenant_id = any (v_tenant_ids) and l.reason = 'cap';
  end if;

  if v_comes_back then
    for v_back in
      select s.waiting_for, array_agg(s.tenant_id order by s.tenant_id) as tenant_ids, array_agg(s.run_at order by s.tenant_id) as run_ats
      from (
        select u.tenant_id, min(u.run_at) as run_at, (array_agg(u.waiting_for order by u.run_at))[1] as waiting_for
        from unnest(v_settled) u
        where not u.ends and u.outcome <> 'throttled' and not (u.outcome = 'credential broken' and u.tenant_id = any (v_parked))
        group by u.tenant_id
      ) s
      group by s.waiting_for
    loop
      perform jobs.wake_lanes((p_batch).job, v_back.tenant_ids, v_back.run_ats,
        case when v_back.waiting_for in ('backoff', 'quiet hours') then v_back.waiting_for else 'waiting' end);
    end loop;

    -- Those of the others wake_lanes has noted.
    perform jobs.note_lookbacks((p_batch).job, array_agg(s.tenant_id), array_agg(s.run_at))
    from (
      select u.tenant_id, min(u.run_at) as run_at
      from unnest(v_settled) u
      where u.outcome in ('throttled', 'credential broken')
      group by u.tenant_id
    ) s;
    perform jobs.throttle_lanes((p_batch).job, coalesce(v_told, v_settled));
  end if;

  -- A lane was charged by items when they were handed out; where the job charges by another unit, the difference follows now.
  -- Under the claim lock: a claim that moves the clock meanwhile would no longer look where the lane is put.
  if (p_definition).cost_unit <> 'items' then
    perform jobs.claim_lock((p_batch).job);
    for v_back in
      select c.tenant_id, (c.cost - c.items) / coalesce((
          select p.weight from public.plans p where p.plan_id = (select t.plan_id from public.tenants t where t.id = c.tenant_id)
        ), 1)::double precision as cost
      from (
        select u.tenant_id, count(*) as items, sum(coalesce(u.cost, 1))::double precision as cost
        from unnest(v_settled) u
        where u.outcome <> 'held'
        group by u.tenant_id
      ) c
    loop
      -- Not below what claims look at.
      update jobs.lanes l set vtime = greatest((select c.vtime from jobs.clocks c where c.job = l.job order by c.revision desc limit 1), l.vtime + v_back.cost)
      where l.tenant_id = v_back.tenant_id and l.job = (p_batch).job and v_back.cost <> 0;
    end loop;
  end if;
  return cardinality(v_settled);
end
$function$;

create or replace function jobs.start_clock()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  insert into jobs.clocks (job) values (new.job);
  return null;
end
$function$;

create or replace function jobs.start_slot (
  p_definition jobs.definitions,
  p_slot timestamp with time zone,
  p_trigger text default 'schedule'::text
)
  returns bigint
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_run_id bigint;
  v_tenant_ids uuid[];
  v_behind uuid[] := '{}';
  v_wanted boolean;
  v_payload jsonb := jsonb_build_object('slot', p_slot);
begin
  if (p_definition).condition_function is not null and p_trigger = 'schedule' then
    execute format('select %s()', (p_definition).condition_function::regproc) into v_wanted;
    if v_wanted is not true then
      return null;
    end if;
  end if;
  -- The slot is unique: whoever comes second, a tick that overlaps or a catch-up, makes no second run.
  if p_trigger = 'schedule' then
    insert into jobs.slots (job, slot) values ((p_definition).job, p_slot) on conflict do nothing;
    if not found then
      return null;
    end if;
  end if;
  insert into jobs.runs (job, trigger, slot)
  values ((p_definition).job, p_trigger, case when p_trigger = 'schedule' then p_slot end)
  returning run_id into v_run_id;

  if (p_definition).scope = 'platform' then
    v_tenant_ids := array[jobs.platform_id()];
  elsif (p_definition).eligible_function is not null then
    -- The platform itself may be among them: its own credentials are looked after like any tenant's.
    execute format('select array(select distinct e from %s() e left join public.tenants t on t.id = e
        where t.status = ''active'' or e = jobs.platform_id() order by e)',
      (p_definition).eligible_function::regproc) into v_tenant_ids;
  else
    v_tenant_ids := array(select t.id from public.tenants t where t.status = 'active' order by t.id);
  end if;

  if cardinality(v_tenant_ids) > 0 then
    perform jobs.take_guards((p_definition).job, v_tenant_ids);
    if p_trigger = 'schedule' then
      v_behind := jobs.behind(p_definition, v_tenant_ids);
      v_tenant_ids := array(select u from unnest(v_tenant_ids) u where u <> all (v_behind) order by u);
    end if;
    insert into jobs.items (tenant_id, job, run_id, run_at, payload)
    select u, (p_definition).job, v_run_id, now(), v_payload from unnest(v_tenant_ids) u;
    perform jobs.wake_lanes((p_definition).job, v_tenant_ids, array(select now() from unnest(v_tenant_ids)));
  end if;
  update jobs.runs r
  set expected = cardinality(v_tenant_ids), message = case when v_behind <> '{}' then
    format('%s got nothing: %s earlier slots wait for each of them.', cardinality(v_behind), (p_definition).misfire_limit) end
  where r.run_id = v_run_id;
  if cardinality(v_tenant_ids) = 0 then
    perform jobs.finish_run(v_run_id);
  end if;
  return v_run_id;
end
$function$;

create or replace function jobs.wake_lanes (
  p_job text,
  p_tenant_ids uuid[],
  p_run_ats timestamp with time zone[],
  p_reason text default 'waiting'::text
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_early uuid[];
  v_early_ats timestamptz[];
  v_tenant_ids uuid[];
  v_written_ats timestamptz[];
  v_places tid[];
  v_run_ats timestamptz[];
  v_due_ats timestamptz[];
begin
  -- In a snapshot older than the guard the lane may look awake although it sleeps. Locking the row makes that an error
  -- (40001, the caller retries) instead of a lost wake-up. Read committed sees the newest row and needs no lock.
  if current_setting('transaction_isolation') <> 'read committed' then
    perform from jobs.lanes l where l.job = p_job and l.tenant_id = any (p_tenant_ids) order by l.tenant_id for share;
  end if;

  perform jobs.make_lanes(p_job, p_tenant_ids);
  -- Looked up one by one, whatever the planner believes: all lanes of the job are many. From their newest version on: else each time
  -- that a lane has slept is one more to step over while somebody keeps an old snapshot.
  select array_agg(w.tenant_id order by w.tenant_id) filter (where x.floor_at > w.run_at),
    array_agg(w.run_at order by w.tenant_id) filter (where x.floor_at > w.run_at),
    array_agg(w.tenant_id order by w.tenant_id) filter (where x.sleeps_too_long),
    array_agg(w.run_at order by w.tenant_id) filter (where x.sleeps_too_long),
    array_agg(w.due_at order by w.tenant_id) filter (where x.sleeps_too_long),
    array_agg(x.written_at order by w.tenant_id) filter (where x.sleeps_too_long)
  into v_early, v_early_ats, v_tenant_ids, v_run_ats, v_due_ats, v_written_ats
  from (
    -- Never in the past: a claim looks for lanes that became due since shortly before the last one.
    select u.tenant_id, min(u.run_at) as run_at, greatest(min(u.run_at), clock_timestamp()) as due_at
    from unnest(p_tenant_ids, p_run_ats) as u (tenant_id, run_at)
    group by u.tenant_id
  ) w
  cross join lateral (
    select l.floor_at, l.written_at, not l.awake and l.reason not in ('breaker', 'cap', 'paused')
      and (l.wake_at is null or l.wake_at > greatest(w.due_at, l.not_before) or l.head_at > w.run_at) as sleeps_too_long
    from jobs.lanes l
    where l.tenant_id = w.tenant_id and l.job = p_job
    order by l.written_at desc
    limit 1
  ) x;
  if v_early is not null then
    perform jobs.note_lookbacks(p_job, v_early, v_early_ats);
  end if;
  if v_tenant_ids is null then
    return;
  end if;
  -- One that a claim has woken meanwhile is left out. It sleeps no longer than a second while we have its guard.
  select array_agg(asleep.place), array_agg(w.run_at), array_agg(w.due_at)
  into v_places, v_run_ats, v_due_ats
  from (
    select u.*
    from unnest(v_tenant_ids, v_run_ats, v_due_ats, v_written_ats) as u (tenant_id, run_at, due_at, written_at)
    order by u.tenant_id
    offset 0
  ) w
  cross join lateral (
    select x.ctid as place
    from jobs.lanes x
    where x.tenant_id = w.tenant_id and x.job = p_job and x.written_at = w.written_at and not x.awake and x.reason not in ('breaker', 'cap', 'paused')
      and (x.wake_at is null or x.wake_at > greatest(w.due_at, x.not_before) or x.head_at > w.run_at)
    for no key update
  ) asleep;
  update jobs.lanes l
  set wake_at = least(l.wake_at, greatest(asleep.due_at, l.not_before)),
    reason = case
      -- It wakes early enough, but would not look so far back.
      when l.wake_at <= greatest(asleep.due_at, l.not_before) then l.reason
      when l.not_before > asleep.due_at then case when l.reason = 'rate limit' then 'rate limit' else 'cadence' end
      when asleep.run_at > now() then p_reason
      else 'waiting' end,
    detail = case
      when l.wake_at <= greatest(asleep.due_at, l.not_before) or l.reason = 'rate limit' and l.not_before > asleep.due_at then l.detail end,
    head_at = case when l.head_at > asleep.run_at then asleep.run_at else l.head_at end,
    head_id = case when l.head_at > asleep.run_at then 0 else l.head_id end
  from unnest(v_places, v_run_ats, v_due_ats) as asleep (place, run_at, due_at)
  -- The rows are locked, so they are where they were.
  where l.ctid = asleep.place;
end
$function$;

create or replace function jobs.write_lanes (
  p_places tid[],
  p_costs double precision[],
  p_to_ats timestamp with time zone[],
  p_to_ids bigint[],
  p_since timestamp with time zone[],
  p_empty boolean[],
  p_reasons text[],
  p_details text[],
  p_wake_ats timestamp with time zone[],
  p_next_ats timestamp with time zone[],
  p_floor_ats timestamp with time zone[],
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
begin
  update jobs.lanes l
  set written_at = p_now, vtime = l.vtime + coalesce(u.cost, 0),
    -- A lane that turns out to have more forgets its watermark: the ready item may lie before it.
    head_at = case when u.is_empty then u.next_at else u.to_at end,
    head_id = case when not u.is_empty then u.to_id when u.next_at is not null then 0 end, head_since = u.since,
    floor_at = coalesce(u.floor_at, l.floor_at), awake = u.reason is null, reason = u.reason, detail = u.detail, wake_at = u.wake_at
  from unnest(p_places, p_costs, p_to_ats, p_to_ids, p_since, p_empty, p_reasons, p_details, p_wake_ats, p_next_ats, p_floor_ats)
    as u (place, cost, to_at, to_id, since, is_empty, reason, detail, wake_at, next_at, floor_at)
  -- The rows are locked, so they are where they were.
  where l.ctid = u.place and (u.cost is not null or u.is_empty);
end
$function$;

alter table "jobs"."clocks"
  add constraint "clocks_pkey" primary key (job, revision);

alter table "jobs"."lookbacks"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "lookbacks_lane_fkey" foreign key (tenant_id, job) references jobs.lane_keys(tenant_id, job)
    on delete cascade;

alter table "jobs"."run_tenants"
  add constraint "run_tenants_pkey" primary key (tenant_id, run_id, drain_id, started_at, batch_id);

create trigger definitions_after_insert_clock
  after insert on jobs.definitions
  for each row
  execute function jobs.start_clock();

create trigger items_after_update_note
  after update of run_at on jobs.items
  for each row
  when (((new.run_at < old.run_at) AND (new.enqueued_at = old.enqueued_at)))
  execute function jobs.note_moved();

comment on column "jobs"."clocks"."revision" is 'Goes up with each claim. In the primary key, so that the row is found from its newest version on, and not by way of all that an old snapshot keeps.';

comment on column "jobs"."definitions"."misfire_limit" is 'How many missed slots are made up for at most where misfire is all. And, whatever it is, how many slots may wait for one tenant.';

comment on column "jobs"."lanes"."floor_at" is 'When a claim last saw that nothing of it is due: no item is due before, but for those that jobs.lookbacks tells of. Believed for as long as the watermark is.';

comment on column "jobs"."run_tenants"."batch_id" is 'The last batch that is counted here. In the primary key, so that the row is found from its newest version on, and not by way of all that an old snapshot keeps.';

comment on function "jobs"."behind"(jobs.definitions, uuid[]) is 'Those of these tenants for whom misfire_limit earlier slots of the job wait.';

comment on function "jobs"."drop_lookbacks"(text, uuid[], timestamp
  with time zone[], bigint[]) is 'Deletes these notes of the lanes that were looked at as a whole.';

comment on function "jobs"."end_items"(jobs.definitions, jobs.settled[]) is 'Tells the job''s apply function how items ended, then frees their dedupe keys; returns the items, those that could not be applied with what becomes of them.';

comment on function
  "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], boolean[], timestamp
  with time zone[], timestamp with time zone[], timestamp with time zone) is 'Of these lanes those that go to sleep, with reason and wake_at: until the next item is due, until the reason is gone, or until work arrives. head_at: where the next claim may begin to look. floor_at: before it nothing is due; null where somebody is just bringing work.';

comment on function "jobs"."note_lookbacks"(text, uuid[], timestamp
  with time zone[]) is 'Notes what is due before the floor of its lane and before all that is noted, so that it is found when the lane is found empty.';

comment on function "jobs"."note_moved"() is 'Trigger: an item is due earlier than it was.';

comment on function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp
  with time zone) is 'One round: leases up to p_room items to the batch from the p_lanes lanes that are furthest behind, charges them, puts empty ones to sleep. Answers how many items it picked, null when no lane is awake, and at which virtual time the last of their turns started.';

comment on function "jobs"."set_clock"(jobs.clocks) is 'Writes the clock of a job as its next revision. Under the claim lock.';

comment on function "jobs"."start_clock"() is 'Trigger: each job has its virtual clock.';

comment on function "jobs"."write_lanes"(tid[], double precision[], timestamp
  with time zone[],
  bigint[],
  timestamp with time zone[],
  boolean[],
  text[],
  text[],
  timestamp with time zone[],
  timestamp with time zone[],
  timestamp with time zone[], timestamp with time zone) is 'Charges the lanes at these places, moves their watermarks, and puts those to sleep that have a reason.';

comment on table "jobs"."lookbacks" is 'What is due before the floor of its lane. Nearly always empty. Who finds the lane empty looks from here on; when all of it was looked at the row goes.';

revoke all on function "jobs"."behind"(jobs.definitions, uuid[]) from public;

revoke all on function "jobs"."drop_lookbacks"(text, uuid[], timestamp with time zone[], bigint[]) from public;

revoke all on function "jobs"."end_items"(jobs.definitions, jobs.settled[]) from public;

revoke all
  on function "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], boolean[], timestamp
    with time zone[], timestamp with time zone[], timestamp with time zone)
  from public;

revoke all on function "jobs"."note_lookbacks"(text, uuid[], timestamp with time zone[]) from public;

revoke all on function "jobs"."note_moved"() from public;

revoke all
  on function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp with time zone)
  from public;

revoke all on function "jobs"."set_clock"(jobs.clocks) from public;

revoke all on function "jobs"."start_clock"() from public;

revoke all
  on function "jobs"."write_lanes"(tid[], double precision[], timestamp with time zone[], bigint[], timestamp
    with time zone[],
    boolean[],
    text[],
    text[],
    timestamp with time zone[],
    timestamp with time zone[], timestamp with time zone[], timestamp with time zone)
  from public;

grant select on table "jobs"."lookbacks" to "service_role";
