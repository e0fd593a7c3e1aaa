-- squawk-ignore-file constraint-missing-not-valid
-- tried a third time: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

drop trigger "definitions_after_update_wake" on "jobs"."definitions";

alter table "jobs"."definitions"
  drop constraint "backoff_is_positive";

alter table "jobs"."definitions"
  drop constraint "breaker_after_is_positive";

alter table "public"."plans"
  drop constraint "weight_is_positive";

drop function "jobs"."open_due_slots"(timestamp with time zone);

drop function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp with time zone);

drop function "jobs"."reap"(timestamp with time zone, integer);

drop function "jobs"."tick"();

drop function "jobs"."work"();

drop function "jobs"."work_batch"(uuid, text, integer);

drop function "jobs"."work_item"(jobs.definitions, bigint, uuid, bigint);

create table "jobs"."steps" (
  "step" text not null,
  "job" text not null,
  "began_at" timestamp with time zone not null,
  "tries" integer not null default 1,
  "retry_at" timestamp with time zone not null,
  constraint "step_is_one_of_the_known"
    check (((step = ('reap '::text || job)) OR (step = ('schedule '::text || job)))),
  constraint "steps_pkey" primary key (step)
);

alter table "jobs"."steps"
  enable row level security;

create table "jobs"."witnesses" (
  "tenant_id" uuid not null,
  "run_id" bigint not null,
  "job" text not null,
  "item_id" bigint not null,
  constraint "witnesses_pkey" primary key (tenant_id, run_id)
);

alter table "jobs"."witnesses"
  enable row level security;

create or replace function jobs.apply_ended (
  p_definition jobs.definitions,
  p_settled jobs.settled[]
)
  returns jobs.settled[]
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'on'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'on'
  set plan_cache_mode to 'auto'
  AS $function$
declare
  v_ended jobs.ended[];
  v_call text := format('select %s($1)', (p_definition).apply_function::regproc);
  v_one jobs.settled;
  v_result jobs.settled[] := '{}';
begin
  select array_agg((s.tenant_id, s.item_id, s.subject_id, coalesce(case when s.dies is not null then 'dead' end, s.outcome),
      s.result, s.error, s.credential_source)::jobs.ended)
  into v_ended
  from unnest(p_settled) s
  where s.ends;
  if v_ended is null then
    return p_settled;
  end if;

  begin
    execute v_call using v_ended;
    return p_settled;
  exception
    when serialization_failure or deadlock_detected or lock_not_available then
      raise;
    -- A failed ASSERT is not among the others.
    when assert_failure or others then
      null;
  end;

  foreach v_one in array p_settled loop
    if v_one.ends then
      begin
        execute v_call using array[
          (v_one.tenant_id, v_one.item_id, v_one.subject_id, coalesce(case when v_one.dies is not null then 'dead' end, v_one.outcome),
            v_one.result, v_one.error, v_one.credential_source)::jobs.ended];
      exception
        when serialization_failure or deadlock_detected or lock_not_available then
          raise;
        when assert_failure or others then
          -- The result could not be stored. What died stays dead; what was done is tried again, until its attempts are used up.
          v_one.error := left('The result could not be applied: ' || sqlerrm, 500);
          if v_one.dies is null then
            if v_one.outcome in ('unknown', 'cancelled') or v_one.attempts >= (p_definition).max_attempts then
              v_one.dies := 'its result could not be applied';
              v_one.outcome := 'refused';
            else
              v_one.ends := false;
              v_one.outcome := 'retry';
              v_one.waiting_for := 'backoff';
              v_one.run_at := clock_timestamp() + jobs.backoff(p_definition, v_one.attempts);
            end if;
          end if;
      end;
    end if;
    v_result := v_result || v_one;
  end loop;
  return v_result;
end
$function$;

create or replace function jobs.begin_drain (
  p_job text
)
  returns uuid
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_drain_id uuid;
  -- A time that an index can be asked with.
  v_now timestamptz := clock_timestamp();
begin
  if not exists (select from jobs.lanes l where l.job = p_job and l.awake)
    and not exists (select from jobs.lanes l where l.job = p_job and l.wake_at <= v_now) then
    return null;
  end if;
  insert into jobs.drains (job, run_id, answered_at, seen_at)
  values (p_job, jobs.open_run(p_job, 'queue'), clock_timestamp(), clock_timestamp())
  returning drain_id into v_drain_id;
  return v_drain_id;
end
$function$;

create or replace function jobs.begin_effects (
  batch_id bigint,
  items bigint[],
  request uuid default null::uuid
)
  returns bigint[]
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
#variable_conflict use_column
declare
  v_begun bigint[];
begin
  -- The batch row is locked, so the lease cannot expire between this check and the mark.
  perform from jobs.batches b where b.batch_id = begin_effects.batch_id and b.lease_until > clock_timestamp() for update;
  if not found then
    return '{}';
  end if;
  with marked as (
    insert into jobs.effects as x (batch_id, item_id, request)
    select i.batch_id, i.item_id, begin_effects.request
    from jobs.leased_items i
    where i.batch_id = begin_effects.batch_id and i.item_id = any (begin_effects.items)
      -- Nothing leaves any more for a tenant that was deleted meanwhile.
      and (i.tenant_id = jobs.platform_id() or exists (select from public.tenants t where t.id = i.tenant_id))
    on conflict on constraint effects_pkey do update set request = excluded.request where x.request = excluded.request
    returning x.item_id
  )
  select coalesce(array_agg(marked.item_id), '{}') into v_begun from marked;
  return v_begun;
end
$function$;

create or replace function jobs.call_load (
  p_definition jobs.definitions,
  p_items jobs.items[]
)
  returns jobs.loaded[]
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'on'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'on'
  set plan_cache_mode to 'auto'
  AS $function$
declare
  v_call text := format(
    'select array_agg(l) from (
       select array_agg(i.tenant_id) as t, array_agg(i.item_id) as i, array_agg(i.subject_id) as s, array_agg(i.payload) as p from unnest($1) i
     ) a cross join lateral %s(a.t, a.i, a.s, a.p) as l', (p_definition).load_function::regproc);
  v_loaded jobs.loaded[];
  v_one jobs.loaded[];
  v_item jobs.items;
begin
  begin
    execute v_call into v_loaded using p_items;
    return v_loaded;
  exception
    when serialization_failure or deadlock_detected or lock_not_available then
      raise;
    -- An ASSERT is none of the others.
    when assert_failure or others then
      null;
  end;
  v_loaded := '{}';
  foreach v_item in array p_items loop
    begin
      execute v_call into v_one using array[v_item];
      v_loaded := v_loaded || v_one;
    exception
      when serialization_failure or deadlock_detected or lock_not_available then
        raise;
      when assert_failure or others then
        -- No data and no wish to wait: the caller takes it as an attempt that failed.
        v_loaded := v_loaded || (v_item.item_id, null, null, left('The item could not be loaded: ' || sqlerrm, 500), null)::jobs.loaded;
    end;
  end loop;
  return v_loaded;
end
$function$;

create or replace function jobs.cancel (
  job text,
  tenant_id uuid default null::uuid,
  older_than interval default null::interval,
  dry_run boolean default true
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_tenant_ids uuid[];
  v_portion record;
  v_done record;
  v_count integer := 0;
  v_died integer := 0;
begin
  perform jobs.require_read_committed();
  select d.* into v_definition from jobs.definitions d where d.job = cancel.job;
  if not found then
    raise exception 'There is no job "%".', cancel.job using errcode = 'P0002';
  end if;
  -- Only a clear no is one.
  if cancel.dry_run is not false then
    return (
      select count(*) from jobs.items i
      where i.job = cancel.job and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
        and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than));
  end if;
  v_tenant_ids := array(
    select distinct i.tenant_id from jobs.items i
    where i.job = cancel.job and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
      and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than));
  perform jobs.take_lanes(cancel.job, v_tenant_ids);
  -- A thousand at a time: all of them with their payloads are more than an array holds. What is brought meanwhile, also by the domain
  -- when it is told, is not seen: the items are those of one moment.
  for v_portion in
    select array_agg(w.tenant_id) as tenant_ids, array_agg(w.item_id) as item_ids
    from (
      select i.tenant_id, i.item_id, (row_number() over (order by i.tenant_id, i.item_id) - 1) / 1000 as portion
      from jobs.items i
      where i.job = cancel.job and i.tenant_id = any (v_tenant_ids)
        and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than)
    ) w
    group by w.portion
    order by w.portion
  loop
    v_done := jobs.cancel_items(v_definition, v_portion.tenant_ids, v_portion.item_ids);
    v_count := v_count + v_done.cancelled;
    v_died := v_died + v_done.died;
  end loop;
  perform private.audit(cancel.tenant_id, 'items.cancelled', jsonb_build_object(
    'job', cancel.job, 'tenant_id', cancel.tenant_id, 'older_than', cancel.older_than, 'items', v_count, 'died', v_died));
  return v_count;
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
  ),
  -- Free from here on, so that an apply function can enqueue the next item of the same key.
  freed as (
    delete from jobs.dedupe_keys k
    using gone g
    where k.tenant_id = (g.item).tenant_id and k.job = (g.item).job and k.dedupe_key = (g.item).dedupe_key
  )
  select array_agg(g.item order by (g.item).tenant_id, (g.item).item_id) into v_items from gone g;
  perform jobs.expect_fewer(array_agg(g.run_id), array_agg(g.items))
  from (select i.run_id, count(*) as items from unnest(v_items) i where i.run_id is not null group by i.run_id) g;

  v_settled := array(
    select (i.tenant_id, i.item_id, i.subject_id, 'cancelled', true, null, null, 'cancelled by the platform', i.run_at, null,
      i.attempts, i.tries + 1, i.run_at, i.trace_id, null, i.run_id, null, i.dedupe_key)::jobs.settled
    from unnest(v_items) i);
  if (p_definition).apply_function is not null and v_items is not null then
    v_settled := jobs.apply_ended(p_definition, v_settled);
  end if;

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

create or replace function jobs.clean (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'on'
  set enable_hashjoin to 'on'
  set plan_cache_mode to 'auto'
  set lock_timeout to '100ms'
  AS $function$
declare
  v_is_done boolean := true;
  v_error text;
begin
  if not exists (select from jobs.platform p where p.cleaned_at < p_now - interval '1 hour') then
    return;
  end if;
  begin
    perform jobs.make_partitions(p_now);
  exception
    when lock_not_available or deadlock_detected then
      v_is_done := false;
      -- There are days left for it, unless there are not.
      if to_regclass(format('jobs.attempts_%s', to_char(p_now at time zone 'UTC' + interval '1 day', 'YYYYMMDD'))) is null then
        v_error := sqlerrm;
      end if;
    when assert_failure or others then
      v_error := sqlerrm;
  end;
  begin
    perform jobs.forget_old(p_now);
  exception
    when lock_not_available or deadlock_detected then
      v_is_done := false; -- somebody has one of the rows; they can go five minutes later
    when assert_failure or others then
      v_error := coalesce(v_error, sqlerrm);
  end;
  v_is_done := v_is_done and v_error is null;
  if v_error is not null then
    perform jobs.open_alert(null, 'housekeeping', 'The tick could not look after its history: ' || v_error);
  elsif v_is_done then
    perform jobs.close_alert(null, 'housekeeping');
  end if;
  update jobs.platform p set cleaned_at = case when v_is_done then p_now else p_now - interval '55 minutes' end;
end
$function$;

create or replace function jobs.drain_is_live (
  p_drain jobs.drains,
  p_lease_seconds integer,
  p_now timestamp with time zone
)
  returns boolean
  language sql
  immutable
  set search_path to ''
  AS $function$
  select (p_drain).ended_at is null and case
    when (p_drain).answered_at is null then (p_drain).rung_at > p_now - interval '10 seconds'
    -- A worker extends its lease at every third of it. Not much longer than one: what it held is back by then, and waits for a free drain.
    else greatest((p_drain).answered_at, (p_drain).seen_at) > p_now - make_interval(secs => p_lease_seconds + least(p_lease_seconds, 10)) end
$function$;

create or replace function jobs.due_steps (
  p_now timestamp with time zone
)
  returns SETOF text
  language sql
  stable
  set search_path to ''
  AS $function$
  select distinct 'reap ' || b.job from jobs.batches b where b.lease_until <= p_now
  union all
  select 'schedule ' || d.job from jobs.definitions d
  where d.next_slot_at <= p_now and not d.paused and not (select p.stopped from jobs.platform p)
$function$;

create or replace function jobs.end_drain (
  drain_id uuid,
  error text default null::text
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_drain jobs.drains;
begin
  update jobs.drains d
  set ended_at = clock_timestamp(), error = left(end_drain.error, 500)
  where d.drain_id = end_drain.drain_id and d.ended_at is null
  returning * into v_drain;
  if not found then
    return;
  end if;
  -- The last one of a run ends it. The run is locked, so that of two that end at once one sees the other gone.
  perform from jobs.runs r where r.run_id = v_drain.run_id and r.expected is null for update;
  if found and not exists (select from jobs.drains d where d.run_id = v_drain.run_id and d.ended_at is null) then
    perform jobs.finish_run(v_drain.run_id);
  end if;
  perform jobs.finish_ended_runs(v_drain.job);
  -- What this drain has made ready (a message for what it verified) need not wait for the tick.
  perform jobs.ring_soon();
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

  perform jobs.take_guards(enqueue_many.job, tenant_ids);

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

create or replace function jobs.finish_ended_runs (
  p_job text default null::text
)
  returns bigint[]
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_doubtful bigint[];
  v_over bigint[];
begin
  v_doubtful := array(
    select r.run_id
    from jobs.runs r
    where r.finished_at is null and r.expected is not null and (p_job is null or r.job = p_job)
      -- One that died and was replayed is not the run's any more.
      and not exists (
        select from jobs.witnesses w join jobs.items i on i.tenant_id = w.tenant_id and i.item_id = w.item_id
        where w.run_id = r.run_id and i.run_id = r.run_id)
      and not exists (
        select from jobs.witnesses w join jobs.leases e on e.tenant_id = w.tenant_id and e.job = w.job cross join lateral unnest(e.items) u
        where w.run_id = r.run_id and u.item_id = w.item_id and u.run_id = r.run_id));
  if v_doubtful = '{}' then
    return v_doubtful;
  end if;
  -- Whoever holds a run is about to end it, or takes items from it: then the next tick looks again.
  v_over := array(
    select r.run_id
    from jobs.runs r
    where r.run_id = any (v_doubtful) and r.finished_at is null
      and r.expected <= (select coalesce(sum(rt.processed + rt.failed), 0) from jobs.run_tenants rt where rt.run_id = r.run_id)
    for no key update skip locked);
  perform jobs.finish_run(u) from unnest(v_over) u;
  return array(select u from unnest(v_doubtful) u where u <> all (v_over));
end
$function$;

create or replace function jobs.finish_lost_drains (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_run_ids bigint[];
begin
  -- What somebody holds, in a transaction that he keeps open perhaps, is left to the next tick.
  update jobs.drains d
  set ended_at = p_now, error = case when d.answered_at is null then 'the doorbell was not answered' else 'the worker was lost' end
  from (
    select y.drain_id
    from jobs.drains y
    join jobs.definitions x on x.job = y.job
    where y.ended_at is null and not jobs.drain_is_live(y, x.lease_seconds, p_now) and y.rung_at < p_now - interval '10 seconds'
    for no key update of y skip locked
  ) lost
  where d.drain_id = lost.drain_id;

  -- Mostly one at the end of the job's queue bears witness, which is found at once and served late. Else one that is out with a
  -- worker, and only then whichever waits. They are looked for in this order, for as long as none is found.
  v_run_ids := jobs.finish_ended_runs();
  if v_run_ids <> '{}' then
    -- Theirs, and those of runs that are over or gone.
    delete from jobs.witnesses w
    where w.run_id = any (v_run_ids) or not exists (select from jobs.runs r where r.run_id = w.run_id and r.finished_at is null);
  end if;
  insert into jobs.witnesses (run_id, job, tenant_id, item_id)
  select r.run_id, r.job, found.tenant_id, found.item_id
  from (select x.run_id, x.job from jobs.runs x where x.run_id = any (v_run_ids) offset 0) r
  cross join lateral (
    (select last.tenant_id, last.item_id
      from (
        select i.tenant_id, i.item_id, i.run_id from jobs.items i where i.job = r.job
        order by i.tenant_id desc, i.run_at desc, i.item_id desc limit 1000
      ) last
      where last.run_id = r.run_id
      limit 1)
    union all
    (select u.tenant_id, u.item_id from jobs.leases e cross join lateral unnest(e.items) u where e.job = r.job and u.run_id = r.run_id limit 1)
    union all
    (select i.tenant_id, i.item_id from jobs.items i where i.job = r.job and i.run_id = r.run_id limit 1)
    limit 1
  ) found;

  perform jobs.finish_run(o.run_id)
  from (
    select r.run_id
    from jobs.runs r
    where r.finished_at is null and r.expected is null
      and r.started_at < p_now - interval '10 seconds'
      and not exists (select from jobs.drains d where d.run_id = r.run_id and d.ended_at is null)
    for no key update skip locked
  ) o;
end
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
  -- All that sleep until a time are looked at; those that still have a reason sleep on.
  update jobs.lanes l set wake_at = p_now, not_before = '-infinity', head_at = null, head_id = null
  from (
    select x.tenant_id, x.job from jobs.lanes x where x.wake_at > p_now order by x.job, x.tenant_id for no key update
  ) asleep
  where l.tenant_id = asleep.tenant_id and l.job = asleep.job;
end
$function$;

create or replace function jobs.for_members (
  p_definition jobs.definitions,
  p_outcomes jsonb,
  p_settled jobs.settled[]
)
  returns jobs.settled[]
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_of_account bigint[];
  v_one jobs.settled;
  v_result jobs.settled[];
begin
  if not exists (
    select from unnest(p_settled) u where u.credential_source = 'platform' and u.outcome in ('throttled', 'credential broken')
  ) then
    return p_settled;
  end if;
  v_of_account := array(select (o ->> 'item_id')::bigint from jsonb_array_elements(p_outcomes) o where o ->> 'scope' = 'account');
  foreach v_one in array p_settled loop
    if v_one.credential_source = 'platform' then
      v_one.error := case
        when v_one.outcome = 'credential broken' then format('the platform''s %s credential does not work', (p_definition).provider)
        when v_one.outcome = 'throttled' and v_one.item_id <> all (v_of_account)
          then format('the platform''s %s credential is throttled', (p_definition).provider)
        else v_one.error end;
    end if;
    v_result := v_result || v_one;
  end loop;
  return v_result;
end
$function$;

create or replace function jobs.forget_old (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  set lock_timeout to '500ms'
  AS $function$
begin
  perform private.learn_time_zones();
  perform jobs.forget_strays();
  delete from jobs.slots s where s.slot < p_now - interval '90 days';
  -- What came before its partition was made; nearly always nothing.
  delete from jobs.runs_default r where r.finished_at < p_now - interval '90 days';
  delete from jobs.run_tenants_default r where r.started_at < p_now - interval '90 days';
  delete from jobs.attempts_default a where a.finished_at < p_now - interval '30 days';
  delete from jobs.alerts a where a.closed_at < p_now - interval '90 days';
  -- Of jobs that were paused or lost their schedule.
  delete from jobs.steps s where s.retry_at < p_now - interval '1 day';
  -- Only of the tick: other entries of pg_cron are not ours. What a crash of the server cut off has no end, and perhaps no start.
  delete from cron.job_run_details d
  where d.command like '%jobs.tick(%' and d.runid <= (
    select max(r.runid) from cron.job_run_details r
    where r.command like '%jobs.tick(%' and coalesce(r.end_time, r.start_time) < p_now - interval '1 day');
  -- Answers to doorbells say nothing that the drains do not say; others are for whoever asked. pg_net's own clean-up waits for its next request.
  begin
    delete from net._http_response r
    using jobs.drains d
    -- Numbers of requests begin anew after a crash of the server.
    where r.id = d.request_id and r.created < p_now - interval '1 hour'
      and r.created between d.rung_at and d.rung_at + interval '10 minutes';
  exception when insufficient_privilege then
    null; -- pg_net before 0.12 lets nobody; it keeps its answers for six hours
  end;
  delete from jobs.drains d where d.ended_at < p_now - interval '1 day';
end
$function$;

create or replace function jobs.forget_strays()
  returns void
  language sql
  set search_path to ''
  AS $function$
  with recursive busy as (
    (select i.tenant_id from jobs.items i order by i.tenant_id limit 1)
    union all
    select (select i.tenant_id from jobs.items i where i.tenant_id > b.tenant_id order by i.tenant_id limit 1) from busy b where b.tenant_id is not null
  ),
  known as (
    (select k.tenant_id from jobs.lane_keys k order by k.tenant_id limit 1)
    union all
    select (select k.tenant_id from jobs.lane_keys k where k.tenant_id > n.tenant_id order by k.tenant_id limit 1) from known n where n.tenant_id is not null
  )
  select jobs.forget_tenant(stray.tenant_id)
  from (select b.tenant_id from busy b union select n.tenant_id from known n) stray
  where stray.tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = stray.tenant_id)
$function$;

create or replace function jobs.how_to_sleep (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_tenant_ids uuid[],
  p_refused boolean[],
  p_paused boolean[],
  p_not_before timestamp with time zone[],
  p_now timestamp with time zone
)
  returns table (
    tenant_id uuid,
    reason text,
    detail text,
    wake_at timestamp with time zone,
    head_at timestamp with time zone
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
begin
  v_held := array(
    select g.guard
    from (select distinct u as guard from unnest(v_guards) u) g
    where pg_try_advisory_xact_lock(v_class, g.guard)
  );
  -- The guard of the job's caps: whoever is just raising one has it.
  v_caps_stay := not true = any (p_refused) or pg_try_advisory_xact_lock(v_class, 256);
  -- A new statement: its snapshot has everything that was committed by anyone who held a guard before us.
  return query
  select s.tenant_id, s.reason, s.detail,
    case
      when s.guard = any (v_held) and (v_caps_stay or s.reason <> 'cap') then s.wake_at
      -- Somebody is just bringing work or freeing a place: look again in a second, not when the next known item is due or never.
      else least(s.wake_at, greatest(s.not_before, p_now + interval '1 second')) end,
    s.head_at
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
    from unnest(p_tenant_ids, p_not_before, v_guards) as l (tenant_id, not_before, guard)
    -- Those that may not be served are judged anew: what held them back may be over by now.
    left join jobs.judge_lanes(p_definition,
      array(select u.tenant_id from unnest(p_tenant_ids, p_refused) as u (tenant_id, is_refused) where u.is_refused),
      array(select u.paused from unnest(p_paused, p_refused) as u (paused, is_refused) where u.is_refused),
      (p_clock).oldest_batch, p_now) j on j.tenant_id = l.tenant_id
    left join lateral (
      select i.run_at,
        case when i.waiting_for in ('delay', 'backoff', 'quiet hours', 'rate limit') then i.waiting_for end as waiting_for
      from jobs.items i
      where i.job = (p_definition).job and i.tenant_id = l.tenant_id
      order by i.run_at, i.item_id
      limit 1
    ) n on true
    -- Work that is ready now keeps its lane awake (it arrived just now, or its place under the cap became free).
    where j.reason is not null or n.run_at is null or n.run_at > p_now
  ) s;
end
$function$;

create or replace function jobs.hurry (
  p_job text,
  p_tenant_id uuid,
  p_subject_ids uuid[]
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_count integer;
begin
  perform jobs.take_guards(p_job, array[p_tenant_id]);
  if not exists (
    select from jobs.items i
    where i.job = p_job and i.tenant_id = p_tenant_id and i.run_at > clock_timestamp() and i.subject_id = any (p_subject_ids)
  ) then
    return 0;
  end if;
  perform jobs.take_lanes(p_job, array[p_tenant_id]);
  update jobs.items i
  set run_at = clock_timestamp(), waiting_for = null
  where i.job = p_job and i.tenant_id = p_tenant_id and i.run_at > clock_timestamp() and i.subject_id = any (p_subject_ids);
  get diagnostics v_count = row_count;
  if v_count > 0 then
    perform jobs.wake_lanes(p_job, array[p_tenant_id], array[now()]);
  end if;
  return v_count;
end
$function$;

create or replace function jobs.hurry_or_enqueue (
  p_job text,
  p_tenant_id uuid,
  p_subject_ids uuid[],
  p_dedupe_keys text[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  perform jobs.take_guards(p_job, array[p_tenant_id]);
  perform jobs.take_lanes(p_job, array[p_tenant_id]);
  update jobs.items i
  set run_at = now(), waiting_for = null
  from jobs.dedupe_keys k
  where k.tenant_id = p_tenant_id and k.job = p_job and k.dedupe_key = any (p_dedupe_keys)
    and i.tenant_id = k.tenant_id and i.item_id = k.item_id and i.run_at > now();
  perform jobs.enqueue_many(p_job, array(select p_tenant_id from unnest(p_subject_ids)), p_subject_ids, now(), p_dedupe_keys);
end
$function$;

create or replace function jobs.is_ticking()
  returns boolean
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if pg_try_advisory_xact_lock_shared(hashtextextended('onecron tick', 0)) then
    raise exception 'No tick is running.' using errcode = 'OC000';
  end if;
  return true;
exception when sqlstate 'OC000' then
  return false;
end
$function$;

create or replace function jobs.keep_definition()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if exists (select from jobs.items i where i.job = old.job) or exists (select from jobs.leases e where e.job = old.job)
    or exists (select from jobs.dead_items d where d.job = old.job)
  then
    raise exception 'The job "%" has items that wait, are out with a worker, or are dead. Pause it, cancel what waits (jobs.cancel), let what is out come '
      'back, and replay or delete what is dead. Then it can go.', old.job using errcode = '23503';
  end if;
  return old;
end
$function$;

create or replace function jobs.keep_refreshed_token (
  batch_id bigint,
  item_id bigint,
  token text,
  expires_at timestamp with time zone
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_tenant_id uuid;
  v_fingerprint text;
  v_credential public.credentials;
  v_secret jsonb;
  v_new text;
begin
  if coalesce(keep_refreshed_token.token, '') !~ '^[!-~]+$' or octet_length(keep_refreshed_token.token) > 4000 then
    raise exception 'This is not a token.' using errcode = '22023';
  end if;
  -- The batch row is locked, so the lease cannot expire between this check and the change.
  perform from jobs.batches b
  where b.batch_id = keep_refreshed_token.batch_id and b.job = 'refresh-meta-tokens' and b.lease_until > clock_timestamp()
  for update;
  if not found then
    return false;
  end if;
  select i.tenant_id, i.credential_fingerprint into v_tenant_id, v_fingerprint
  from jobs.leased_items i
  where i.batch_id = keep_refreshed_token.batch_id and i.item_id = keep_refreshed_token.item_id and i.credential_source = 'tenant';
  if not found then
    return false;
  end if;
  select c.* into v_credential from public.credentials c where c.tenant_id = v_tenant_id and c.provider = 'meta' for update;
  if not found then
    return false;
  end if;
  v_secret := private.read_secret_json(v_credential.secret_id) || jsonb_build_object('access_token', keep_refreshed_token.token);
  -- It cannot be read: what else belongs to the token is not known any more, and a member has to enter it again.
  if v_secret is null then
    return false;
  end if;
  v_new := left(encode(sha256(convert_to(v_secret::text || v_tenant_id::text, 'UTF8')), 'hex'), 12);
  -- The same call again, because its answer was lost.
  if v_credential.fingerprint = v_new and v_fingerprint <> v_new then
    return true;
  end if;
  -- What a member entered in the meantime is newer than what was renewed.
  if v_credential.fingerprint is distinct from v_fingerprint then
    return false;
  end if;
  perform vault.update_secret(v_credential.secret_id, v_secret::text);
  update public.credentials c
  set fingerprint = v_new, secret_at = now(), expires_at = keep_refreshed_token.expires_at,
    health = 'healthy', state = 'ok', health_reason = null, checked_at = now()
  where c.tenant_id = v_tenant_id and c.provider = 'meta';
  perform jobs.unpark(v_tenant_id, 'meta');
  perform private.warn_of_credential(v_tenant_id, 'meta', null);
  perform private.audit(v_tenant_id, 'credential.refreshed',
    jsonb_build_object('provider', 'meta', 'kind', v_credential.kind, 'fingerprint', v_new));
  return true;
end
$function$;

create or replace function jobs.load_batch (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_now timestamp with time zone
)
  returns json
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_items jobs.items[];
  v_loaded jobs.loaded[];
  v_outcomes jsonb;
begin
  if (p_definition).load_function is not null then
    v_items := array(select i from jobs.leases e cross join lateral unnest(e.items) i where e.batch_id = (p_batch).batch_id);
    v_loaded := jobs.call_load(p_definition, v_items);
    -- One answer for each item: a second one would send it twice, and one without would stay in the batch for ever.
    if array(select i.item_id from unnest(v_items) i order by i.item_id) is distinct from
      array(select l.item_id from unnest(v_loaded) l order by l.item_id) then
      v_loaded := array(
        select coalesce(a.answer, (i.item_id, null, null, 'The load function did not answer for this item.', null)::jobs.loaded)
        from unnest(v_items) i
        left join (
          select distinct on (l.item_id) l.item_id, (l.item_id, l.data, l.hold_until, l.reason, l.cancel)::jobs.loaded as answer
          from unnest(v_loaded) with ordinality as l (item_id, data, hold_until, reason, cancel, n)
          order by l.item_id, l.n
        ) a on a.item_id = i.item_id);
    end if;
    select jsonb_agg(case
        when l.cancel is null then jsonb_build_object('item_id', l.item_id, 'outcome', 'retry', 'error', l.reason)
        when l.cancel then jsonb_build_object('item_id', l.item_id, 'outcome', 'cancelled', 'error', l.reason)
        -- A time that is over would bring it back into this very claim, and the next one.
        else jsonb_build_object('item_id', l.item_id, 'outcome', 'held', 'until', greatest(l.hold_until, p_now + interval '1 second'), 'reason', l.reason) end)
    into v_outcomes
    from unnest(v_loaded) l
    where l.cancel is not false or l.hold_until is not null;
    if v_outcomes is not null then
      perform jobs.settle(p_definition, p_batch, v_outcomes, p_now);
    end if;
  end if;

  if (p_definition).provider is not null then
    -- Which credential goes out with the batch: an answer about it concerns that one, not a newer one.
    update jobs.leases e
    set credential_source = case when exists (
        select from public.credentials c where c.tenant_id = e.tenant_id and c.provider = (p_definition).provider) then 'tenant' else 'platform' end,
      credential_fingerprint = coalesce(
        (select c.fingerprint from public.credentials c where c.tenant_id = e.tenant_id and c.provider = (p_definition).provider),
        (select pc.fingerprint from private.platform_credentials pc where pc.provider = (p_definition).provider))
    where e.batch_id = (p_batch).batch_id;
  end if;

  return (
    select json_agg(json_build_object(
        'tenant_id', work.tenant_id,
        'slug', (select t.slug from public.tenants t where t.id = work.tenant_id),
        'credential', case when (p_definition).provider is not null
          then private.credential_for(work.tenant_id, (p_definition).provider, (p_definition).platform_allowed) end,
        'items', work.list)
      order by work.tenant_id)
    from (
      select i.tenant_id, json_agg(row_to_json(answer) order by i.run_at, i.item_id) as list
      from (
        select x.tenant_id, x.item_id, x.tries, x.trace_id, x.subject_id, x.run_at, l.data
        from jobs.leased_items x
        join unnest(v_loaded) l on l.item_id = x.item_id and not l.cancel and l.hold_until is null
        where x.batch_id = (p_batch).batch_id
        union all
        -- Without a load function an item comes with what was enqueued, or with the command of its job.
        select x.tenant_id, x.item_id, x.tries, x.trace_id, x.subject_id, x.run_at,
          case when (p_definition).command is not null then jsonb_build_object('command', (p_definition).command) else x.payload end
        from jobs.leased_items x
        where x.batch_id = (p_batch).batch_id and (p_definition).load_function is null
      ) i
      cross join lateral (
        select i.item_id, i.tries + 1 as attempt, replace(i.trace_id::text, '-', '') as trace_id, i.subject_id, i.data
      ) answer
      group by i.tenant_id
    ) work
  );
end
$function$;

create or replace function jobs.make_partition (
  p_table text,
  p_column text,
  p_name text,
  p_from date,
  p_until date
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_from timestamptz := p_from::timestamp at time zone 'UTC';
  v_until timestamptz := p_until::timestamp at time zone 'UTC';
  v_is_taken boolean;
begin
  if to_regclass(format('jobs.%I', p_name)) is not null then
    return;
  end if;
  execute format('select exists (select from jobs.%I x where x.%I >= $1 and x.%I < $2)', p_table || '_default', p_column, p_column)
    into v_is_taken using v_from, v_until;
  if not v_is_taken then
    -- Made beside the table and then attached: "partition of" would wait for all who read history, and all who write it would wait behind it.
    execute format('create table jobs.%I (like jobs.%I including all excluding identity excluding comments)', p_name, p_table);
    execute format('alter table jobs.%I enable row level security', p_name);
    execute format('alter table jobs.%I attach partition jobs.%I for values from (%L) to (%L)', p_table, p_name, v_from, v_until);
  end if;
end
$function$;

create or replace function jobs.match_outcomes (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_outcomes jsonb,
  p_now timestamp with time zone
)
  returns jobs.settled[]
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_settled jobs.settled[];
begin
  with held as materialized (
    select l.credential_source, l.is_forgotten, u.*
    from (
      select e.credential_source, e.items,
        e.tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = e.tenant_id) as is_forgotten
      from jobs.leases e
      where e.batch_id = (p_batch).batch_id
      offset 0
    ) l
    cross join lateral unnest(l.items) u
  ),
  -- By its fields: a record of them costs half as much again.
  given as materialized (
    select distinct on ((g ->> 'item_id')::bigint) (g ->> 'item_id')::bigint as item_id, g ->> 'outcome' as outcome, g -> 'result' as result,
      g ->> 'error' as error, g ->> 'reason' as reason, (g ->> 'seconds')::numeric as seconds,
      (g ->> 'after_seconds')::numeric as after_seconds, (g ->> 'until')::timestamptz as until, (g ->> 'cost')::numeric as cost
    from jsonb_array_elements(p_outcomes) g
  )
  select array_agg((s.tenant_id, s.item_id, s.subject_id, s.class,
      s.class in ('done', 'unknown', 'refused', 'cancelled') or s.used_up,
      case when s.class = 'refused' then 'refused' when s.used_up then 'attempts used up' end,
      s.result, s.error,
      case s.class
        when 'retry' then p_now + greatest(jobs.backoff(p_definition, s.attempts), make_interval(secs => coalesce(s.after_seconds, 0)))
        when 'lost' then p_now + jobs.backoff(p_definition, s.attempts)
        when 'snoozed' then coalesce(s.until, p_now + make_interval(secs => coalesce(s.seconds, 60)))
        when 'held' then s.until
        when 'throttled' then p_now + make_interval(secs => coalesce(s.seconds, 60))
        else p_now end,
      case s.class when 'retry' then 'backoff' when 'lost' then 'backoff' when 'throttled' then 'rate limit'
        when 'credential broken' then null else left(s.reason, 200) end,
      s.attempts, s.tries, s.due_at, s.trace_id, s.credential_source, s.run_id, s.cost, s.dedupe_key)::jobs.settled)
  into v_settled
  from (
    select m.*, m.class in ('retry', 'lost') and m.attempts >= (p_definition).max_attempts as used_up
    from (
      select
        e.tenant_id, e.item_id, e.subject_id, e.run_at as due_at, e.trace_id, e.credential_source, e.dedupe_key,
        coalesce(e.run_id, (p_batch).run_id) as run_id, case when o.cost is not null then least(greatest(o.cost, 0), 1e9) end as cost,
        o.result, left(o.error, 500) as error, o.reason,
        -- Waiting times come from outside: never negative, never longer than 30 days, or than 400 where a day is named. (least and greatest
        -- skip nulls.)
        least(greatest(coalesce(o.seconds, 60), 0), 2592000) as seconds, least(greatest(o.after_seconds, 0), 2592000) as after_seconds,
        case when o.until is not null then greatest(least(o.until, p_now + interval '400 days'), p_now) end as until,
        -- Nobody is left to whom it would matter.
        case when e.is_forgotten then 'cancelled' else case o.outcome
          when 'done' then case when o.result ->> 'status' = 'unknown' then 'unknown' else 'done' end
          when 'snooze' then 'snoozed'
          when 'credential_broken' then 'credential broken'
          else o.outcome end end as class,
        (e.attempts + case when o.outcome in ('done', 'retry', 'refused', 'lost') then 1 else 0 end)::smallint as attempts,
        (e.tries + case when o.outcome = 'held' and not e.is_forgotten then 0 else 1 end) as tries
      from held e
      join given o on o.item_id = e.item_id
      -- What each item becomes is worked out once, not wherever it is used.
      offset 0
    ) m
  ) s;
  return v_settled;
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
  select c.* into v_clock from jobs.clocks c where c.job = next_batch.job;
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
    v_got := jobs.pick(v_definition, v_clock, v_batch.batch_id, v_room, v_looks_at, v_now);
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
    update jobs.clocks c
    set due_from = v_clock.due_from, woken_to = v_clock.woken_to, served_from = v_clock.served_from, oldest_batch = v_clock.oldest_batch,
      looked_at = v_clock.looked_at
    where c.job = next_batch.job;
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
  v_width := least(64, ceil(v_lanes / greatest(20, ceil(v_size::numeric / v_definition.quantum))));
  if v_width <> v_clock.width then
    update jobs.clocks c set width = v_width where c.job = next_batch.job;
  end if;
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

create or replace function jobs.next_slots (
  schedule text,
  time_zone text default 'UTC'::text,
  after timestamp with time zone default now(),
  count integer default 5
)
  returns SETOF timestamp with time zone
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_variable
declare
  v_cron jobs.cron := jobs.parse_cron(schedule);
  v_day date;
  v_slot timestamptz;
  v_slots timestamptz[] := '{}';
  v_moved timestamptz[] := '{}';
  v_found integer := 0;
  v_wanted integer := coalesce(count, 5);
begin
  if v_wanted > 1000 then
    raise exception 'At most 1,000 slots at once, not %.', v_wanted using errcode = '22023';
  end if;
  if not isfinite(after) then
    raise exception 'after must be a time, not infinity.' using errcode = '22008';
  end if;
  if time_zone is null or not private.is_time_zone(time_zone) then
    raise exception '"%" is not an IANA time zone. Use a name like Europe/Berlin.', time_zone using errcode = '22023';
  end if;
  -- A slot that a clock change moved may belong to the day before. February 29 is at most eight years away.
  for v_day in
    select d::date
    from generate_series((after at time zone time_zone)::date - 1, (after at time zone time_zone)::date + 2930, interval '1 day') d
    where jobs.is_slot_day(v_cron, d::date)
      and (d::date >= (after at time zone time_zone)::date
        or jobs.first_moment(d::date + 1, time_zone) - jobs.first_moment(d::date, time_zone) <> interval '24 hours')
  loop
    -- A time that the clock skips may be moved past midnight: it takes its turn among those of the next day.
    v_slots := array(
      select u from (select unnest(v_moved) as u union select s from jobs.slots_of_day(v_cron, time_zone, v_day) s) x where u > after order by u);
    v_moved := array(select u from unnest(v_slots) u where u >= jobs.first_moment(v_day + 1, time_zone));
    foreach v_slot in array v_slots[:cardinality(v_slots) - cardinality(v_moved)] loop
      exit when v_found >= v_wanted;
      v_found := v_found + 1;
      return next v_slot;
    end loop;
    exit when v_found >= v_wanted;
  end loop;
end
$function$;

create or replace function jobs.next_step (
  p_after text default ''::text,
  p_now timestamp with time zone default clock_timestamp()
)
  returns text
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set lock_timeout to '2s'
  AS $function$
declare
  v_step text;
begin
  -- Another tick is under way: the rest is its.
  if not pg_try_advisory_xact_lock(hashtextextended('onecron tick', 0)) then
    return null;
  end if;
  select due into v_step
  from jobs.due_steps(p_now) due
  where due collate "C" > p_after and not exists (select from jobs.steps s where s.step = due and s.retry_at > p_now)
  order by due collate "C" limit 1;
  if v_step is not null then
    insert into jobs.steps as s (step, job, began_at, retry_at)
    values (v_step, split_part(v_step, ' ', 2), p_now, p_now + interval '2 minutes')
    -- It began before and has no end. The longer this goes on, the less of the tick's time it gets.
    on conflict (step) do update
      set began_at = p_now, tries = s.tries + 1, retry_at = p_now + least(interval '30 minutes', interval '2 minutes' * 2 ^ least(s.tries, 10));
  end if;
  return v_step;
end
$function$;

create or replace function jobs.open_due_slots (
  p_now timestamp with time zone,
  p_job text default null::text
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_definition jobs.definitions;
  v_zone text;
  v_slots timestamptz[];
  v_slot timestamptz;
  v_opened integer;
  v_count integer := 0;
begin
  for v_definition in
    select d.* from jobs.definitions d where d.next_slot_at <= p_now and not d.paused and (p_job is null or d.job = p_job)
    order by d.next_slot_at for update skip locked
  loop
    begin
      v_opened := 0;
      v_zone := coalesce(v_definition.time_zone, private.setting('default_time_zone'), 'UTC');
      v_slots := array(
        select s from jobs.latest_slots(v_definition.schedule, v_zone, v_definition.next_slot_at, p_now,
          case v_definition.misfire when 'all' then v_definition.misfire_limit else 1 end) s order by s);
      if v_slots = '{}' then
        v_slots := array[v_definition.next_slot_at];
      end if;
      if v_definition.misfire = 'skip' and v_slots[1] < p_now - interval '2 minutes' then
        v_slots := '{}';
      end if;
      foreach v_slot in array v_slots loop
        if jobs.start_slot(v_definition, v_slot) is not null then
          v_opened := v_opened + 1;
        end if;
      end loop;
      update jobs.definitions d
      set next_slot_at = (select s from jobs.next_slots(v_definition.schedule, v_zone, p_now, 1) s)
      where d.job = v_definition.job;
      v_count := v_count + v_opened;
      perform jobs.close_alert(null, format('schedule %s', v_definition.job));
    exception
      when lock_not_available or deadlock_detected then
        null; -- the next tick
      -- "Others" is without a failed assert. What is cancelled is take_step's.
      when assert_failure or others then
        -- One job whose condition or eligibility raises must not stop the others. Its slot stays due: every tick tries again, and
        -- when it works again the misfire policy says what becomes of what was missed.
        perform jobs.open_alert(null, format('schedule %s', v_definition.job),
          format('The slot %s of %s could not be started: %s', v_definition.next_slot_at, v_definition.job, sqlerrm));
    end;
  end loop;
  return v_count;
end
$function$;

create or replace function jobs.park (
  p_tenant_id uuid,
  p_provider public.provider,
  p_fingerprint text,
  p_reason text
)
  returns boolean
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- Only the credential that was refused. The row lock makes this wait for a change that is being made.
  if p_tenant_id = jobs.platform_id() then
    update private.platform_credentials c
    set health = 'broken', state = private.credential_state(p_reason), health_reason = left(p_reason, 500), checked_at = now()
    where c.provider = p_provider and c.fingerprint = p_fingerprint;
  else
    update public.credentials c
    set health = 'broken', state = private.credential_state(p_reason), health_reason = left(p_reason, 500), checked_at = now()
    where c.tenant_id = p_tenant_id and c.provider = p_provider and c.fingerprint = p_fingerprint;
  end if;
  if not found then
    return false;
  end if;
  insert into jobs.breakers as b (tenant_id, provider, state, reason)
  values (p_tenant_id, p_provider, 'parked', left(p_reason, 500))
  on conflict (tenant_id, provider) do update set state = 'parked', open_until = null, reason = excluded.reason, since = now();
  update jobs.lanes l
  set awake = false, wake_at = null, reason = 'breaker', detail = left(p_reason, 200), head_at = null, head_id = null
  from (
    select x.tenant_id, x.job
    from jobs.lanes x
    join jobs.definitions d on d.job = x.job and d.provider = p_provider
    where x.tenant_id = p_tenant_id and x.reason is distinct from 'paused'
    order by x.job
    for no key update of x
  ) parked
  where l.tenant_id = parked.tenant_id and l.job = parked.job;
  perform jobs.open_alert(nullif(p_tenant_id, jobs.platform_id()), format('credential %s', p_provider),
    format('The %s credential does not work: %s. Its work is parked until it is set again.', p_provider, rtrim(p_reason, '.')));
  return true;
end
$function$;

create or replace function jobs.pause (
  job text,
  tenant_id uuid default null::uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
begin
  if pause.tenant_id is null then
    update jobs.definitions d set paused = true where d.job = pause.job;
    if not found then
      raise exception 'There is no job "%".', pause.job using errcode = 'P0002';
    end if;
  else
    perform jobs.require_job_and_tenant(pause.job, pause.tenant_id);
    perform jobs.make_lanes(pause.job, array[pause.tenant_id]);
    update jobs.lanes l
    set paused = true, awake = false, wake_at = null, reason = 'paused', detail = 'this lane is paused', head_at = null, head_id = null
    where l.tenant_id = pause.tenant_id and l.job = pause.job;
  end if;
  perform private.audit(pause.tenant_id, 'job.paused', jsonb_build_object('job', pause.job, 'tenant_id', pause.tenant_id));
end
$function$;

create or replace function jobs.pick (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_batch_id bigint,
  p_room integer,
  p_lanes integer,
  p_now timestamp with time zone
)
  returns integer
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
  v_tag double precision;
  v_picked integer;
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
    array_agg(case when l.is_fresh then l.head_since else p_now end)
  into v_lanes, v_places, v_paused, v_not_before, v_vtimes, v_head_ats, v_head_ids, v_since
  from (
    select x.*, x.ctid, x.head_at is not null and x.head_since > p_now - interval '30 seconds' as is_fresh
    from jobs.lanes x
    where x.job = (p_definition).job and x.awake and x.vtime >= (p_clock).served_from and x.tenant_id <> all (v_full)
    order by x.vtime, x.tenant_id
    limit p_lanes
    for no key update skip locked
  ) l;
  if v_lanes is null then
    return null;
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
    -- What it got in an earlier round of this batch. Compared as a row, which only the primary key can answer: there is no later batch.
    left join lateral (
      select x.open from jobs.leases x
      where x.tenant_id = u.tenant_id and x.job = (p_definition).job
        and (x.tenant_id, x.job, x.batch_id) >= (u.tenant_id, (p_definition).job, p_batch_id)
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
  into v_picked, v_tag, v_rates, v_items, v_costs, v_to_ats, v_to_ids, v_refused, v_empty
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
    select array_agg(s.reason order by u.n), array_agg(s.detail order by u.n), array_agg(s.wake_at order by u.n), array_agg(s.head_at order by u.n)
    into v_reasons, v_details, v_wake_ats, v_next_ats
    from unnest(v_lanes) with ordinality as u (tenant_id, n)
    left join (
      select h.*
      from (
        select array_agg(e.tenant_id) as tenant_ids, array_agg(e.is_refused) as refused, array_agg(e.paused) as paused,
          array_agg(e.not_before) as not_before
        from unnest(v_lanes, v_refused, v_paused, v_not_before, v_empty) as e (tenant_id, is_refused, paused, not_before, is_empty)
        where e.is_empty
      ) closer
      cross join lateral jobs.how_to_sleep(
        p_definition, p_clock, closer.tenant_ids, closer.refused, closer.paused, closer.not_before, p_now) h
    ) s on s.tenant_id = u.tenant_id;
  end if;
  perform jobs.write_lanes(
    v_places, v_costs, v_to_ats, v_to_ids, v_since, v_empty, v_reasons, v_details, v_wake_ats, v_next_ats, p_now);
  if v_picked > 0 then
    -- The start of the last turn served: a lane that wakes now is at most one turn ahead of the others, not a batch.
    update jobs.clocks c
    set vtime = greatest(c.vtime, v_tag), due_from = (p_clock).due_from, woken_to = (p_clock).woken_to, served_from = (p_clock).served_from,
      oldest_batch = (p_clock).oldest_batch, looked_at = (p_clock).looked_at
    where c.job = (p_definition).job;
  end if;
  return v_picked;
end
$function$;

create or replace function jobs.reap (
  p_now timestamp with time zone,
  p_limit integer default 50,
  p_job text default null::text
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
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_outcomes jsonb;
  v_count integer := 0;
begin
  for v_batch in
    select b.* from jobs.batches b where b.lease_until <= p_now and (p_job is null or b.job = p_job)
    order by b.lease_until limit p_limit for update skip locked
  loop
    -- A batch that cannot be taken back now (a client holds one of its lanes) must not stop the tick.
    begin
      perform set_config('lock_timeout', '200ms', true);
      select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
      select jsonb_agg(case
          when v_definition.effects and exists (
            select from jobs.effects x where x.batch_id = v_batch.batch_id and x.item_id = i.item_id) then jsonb_build_object('item_id', i.item_id, 'outcome', 'done', 'result',
            jsonb_build_object('status', 'unknown', 'reason', 'the worker was lost after the call began'))
          else jsonb_build_object('item_id', i.item_id, 'outcome', 'lost', 'error', 'the lease ran out') end)
      into v_outcomes
      from jobs.leased_items i
      where i.batch_id = v_batch.batch_id;
      if v_outcomes is not null then
        v_count := v_count + jobs.settle(v_definition, v_batch, v_outcomes, p_now);
      end if;
      delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    exception
      when lock_not_available or deadlock_detected then
        null; -- the next tick
      -- The job's own SQL may fail in any way; "others" is without a failed assert. What is cancelled is take_step's.
      when assert_failure or others then
        perform jobs.open_alert(null, format('reap %s', v_batch.job), format('A batch of %s could not be taken back: %s', v_batch.job, sqlerrm),
          jsonb_build_object('batch_id', v_batch.batch_id));
        -- Others get their turn first.
        update jobs.batches b set lease_until = p_now + interval '1 minute' where b.batch_id = v_batch.batch_id;
    end;
  end loop;
  perform set_config('lock_timeout', '2s', true);
  return v_count;
end
$function$;

create or replace function jobs.reason_to_skip (
  p_now timestamp with time zone
)
  returns text
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- An overlapping tick leaves at once.
  if not pg_try_advisory_xact_lock(hashtextextended('onecron tick', 0)) then
    return 'another tick is running';
  end if;
  perform jobs.require_read_committed();
  if (select p.last_tick_at > p_now + interval '10 seconds' from jobs.platform p) then
    perform jobs.follow_clock(p_now);
    return 'the clock was set back';
  end if;
  return null;
end
$function$;

create or replace function jobs.recover_from_backup (
  jobs text[] default null::text[],
  dry_run boolean default true
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_variable
declare
  v_doubtful jsonb := '{"outcome": "done", "result": {"status": "unknown", "reason": "restored from a backup: it may have been sent since"}}';
  -- Mails have keys against a second sending, but the keys of those that left together since are not in the backup.
  v_jobs text[] := coalesce(jobs, array(select d.job from jobs.definitions d where d.effects or d.provider = 'email' and d.scope = 'tenant'));
  v_job text;
  v_definition jobs.definitions;
  v_batch jobs.batches;
  v_tenant_ids uuid[];
  v_count integer := 0;
begin
  perform jobs.require_read_committed();
  select u into v_job from unnest(v_jobs) u where not exists (select from jobs.definitions d where d.job = u) limit 1;
  if found then
    raise exception 'There is no job "%".', v_job using errcode = 'P0002';
  end if;
  if recover_from_backup.dry_run is not false then
    return (select count(*) from jobs.items i where i.job = any (v_jobs) and i.run_at <= now())
      + (select count(*) from jobs.leased_items i where i.job = any (v_jobs));
  end if;
  if not (select p.stopped from jobs.platform p) then
    raise exception 'Work goes on meanwhile. Stop it first: select jobs.stop_all(true).' using errcode = '55000';
  end if;

  perform setval('jobs.items_item_id_seq', nextval('jobs.items_item_id_seq') + 1000000);
  perform setval('jobs.batches_batch_id_seq', nextval('jobs.batches_batch_id_seq') + 1000000);
  perform setval('jobs.runs_run_id_seq', nextval('jobs.runs_run_id_seq') + 1000000);
  foreach v_job in array v_jobs loop
    select d.* into v_definition from jobs.definitions d where d.job = v_job;
    perform jobs.claim_lock(v_job);
    -- What was out when the backup was made, then what waited, as batches of a thousand.
    for v_batch in select b.* from jobs.batches b where b.job = v_job order by b.batch_id for update loop
      v_count := v_count + jobs.settle(v_definition, v_batch, (
        select jsonb_agg(v_doubtful || jsonb_build_object('item_id', i.item_id)) from jobs.leased_items i where i.batch_id = v_batch.batch_id
      ), clock_timestamp());
      delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    end loop;
    loop
      insert into jobs.batches (job, drain_id, lease_until) values (v_job, gen_random_uuid(), clock_timestamp()) returning * into v_batch;
      with taken as (
        delete from jobs.items i
        where i.ctid = any (array(
          select x.ctid from jobs.items x where x.job = v_job and x.run_at <= clock_timestamp() limit 1000 for update))
        returning i as item
      ),
      leased as (
        insert into jobs.leases (tenant_id, job, batch_id, open, items)
        select (t.item).tenant_id, v_job, v_batch.batch_id, count(*), array_agg(t.item order by (t.item).item_id)
        from taken t
        group by (t.item).tenant_id
        returning tenant_id
      )
      select array_agg(leased.tenant_id) into v_tenant_ids from leased;
      if v_tenant_ids is not null then
        v_count := v_count + jobs.settle(v_definition, v_batch, (
          select jsonb_agg(v_doubtful || jsonb_build_object('item_id', i.item_id)) from jobs.leased_items i where i.batch_id = v_batch.batch_id
        ), clock_timestamp());
      end if;
      delete from jobs.batches b where b.batch_id = v_batch.batch_id;
      exit when v_tenant_ids is null;
    end loop;
  end loop;
  perform private.audit(null, 'platform.recovered', jsonb_build_object('jobs', v_jobs, 'items', v_count));
  return v_count;
end
$function$;

create or replace function jobs.replay (
  job text,
  tenant_id uuid default null::uuid,
  reason text default null::text,
  died_after timestamp with time zone default null::timestamp with time zone,
  dry_run boolean default true
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_tenants uuid[];
  v_count integer;
begin
  perform jobs.require_read_committed();
  if not exists (select from jobs.definitions d where d.job = replay.job) then
    raise exception 'There is no job "%".', replay.job using errcode = 'P0002';
  end if;
  if replay.dry_run is not false then
    -- Of those with the same dedupe key one comes back, and none while the key is in use.
    return (
      select count(*)
      from (
        select distinct d.tenant_id, coalesce('key ' || d.dedupe_key, 'item ' || d.item_id)
        from jobs.dead_items d
        where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id)
          and (replay.reason is null or d.reason = replay.reason) and (replay.died_after is null or d.died_at >= replay.died_after)
          and not exists (
            select from jobs.dedupe_keys k where k.tenant_id = d.tenant_id and k.job = d.job and k.dedupe_key = d.dedupe_key)
      ) back);
  end if;
  v_tenants := array(
    select distinct d.tenant_id from jobs.dead_items d
    where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id) order by 1);
  perform jobs.take_guards(replay.job, v_tenants);
  -- Whoever deletes the dead row revives it: of two replays at once, one finds it gone.
  with revived as (
    delete from jobs.dead_items d
    where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id)
      and (replay.reason is null or d.reason = replay.reason) and (replay.died_after is null or d.died_at >= replay.died_after)
      and d.tenant_id = any (v_tenants)
    returning d.*
  ),
  keyed as (
    insert into jobs.dedupe_keys as k (tenant_id, job, dedupe_key, item_id)
    select r.tenant_id, r.job, r.dedupe_key, r.item_id
    from revived r
    where r.dedupe_key is not null
    order by r.tenant_id, r.dedupe_key, r.item_id
    on conflict do nothing
    returning k.tenant_id, k.item_id
  ),
  back as (
    insert into jobs.items (tenant_id, item_id, job, subject_id, run_at, enqueued_at, tries, last_error, dedupe_key, trace_id, payload)
    overriding system value
    select r.tenant_id, r.item_id, r.job, r.subject_id, now(), r.enqueued_at, r.tries, r.last_error, r.dedupe_key, r.trace_id, r.payload
    from revived r
    where r.dedupe_key is null or exists (select from keyed k where k.tenant_id = r.tenant_id and k.item_id = r.item_id)
    returning items.tenant_id, items.item_id
  ),
  -- One whose dedupe key is in use again stays dead: its work is under way already.
  still_dead as (
    insert into jobs.dead_items
    select r.* from revived r where not exists (select from back b where b.tenant_id = r.tenant_id and b.item_id = r.item_id)
  )
  select count(*), array_agg(distinct b.tenant_id order by b.tenant_id) into v_count, v_tenants from back b;
  if v_count > 0 then
    perform jobs.wake_lanes(replay.job, v_tenants, array(select now() from unnest(v_tenants)));
  end if;
  perform private.audit(replay.tenant_id, 'items.replayed', jsonb_build_object(
    'job', replay.job, 'tenant_id', replay.tenant_id, 'reason', replay.reason, 'died_after', replay.died_after, 'items', v_count));
  return v_count;
end
$function$;

create or replace function jobs.require_job_and_tenant (
  p_job text,
  p_tenant_id uuid
)
  returns void
  language plpgsql
  stable
  set search_path to ''
  AS $function$
begin
  if not exists (select from jobs.definitions d where d.job = p_job) then
    raise exception 'There is no job "%".', p_job using errcode = 'P0002';
  end if;
  if p_tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = p_tenant_id) then
    raise exception 'There is no tenant %.', p_tenant_id using errcode = 'P0002';
  end if;
end
$function$;

create or replace function jobs.resume (
  job text,
  tenant_id uuid default null::uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
begin
  if resume.tenant_id is null then
    update jobs.definitions d set paused = false where d.job = resume.job;
    if not found then
      raise exception 'There is no job "%".', resume.job using errcode = 'P0002';
    end if;
  else
    perform jobs.require_job_and_tenant(resume.job, resume.tenant_id);
    perform jobs.take_guards(resume.job, array[resume.tenant_id]);
    update jobs.lanes l set paused = false, wake_at = greatest(clock_timestamp(), l.not_before), reason = 'waiting', detail = null
    where l.tenant_id = resume.tenant_id and l.job = resume.job and l.paused;
  end if;
  perform private.audit(resume.tenant_id, 'job.resumed', jsonb_build_object('job', resume.job, 'tenant_id', resume.tenant_id));
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
  v_wanted integer;
  v_url text;
  v_secret text;
  v_count integer := 0;
begin
  for v_definition in select d.* from jobs.definitions d where d.kind <> 'sql' and not d.paused order by d.job loop
    -- As many drains as there are batches waiting. What is counted is bounded: up to as many lanes as max_drains full batches could
    -- have, and the items of a sample of them.
    -- There is at least one where not all lanes were looked at: the sample may be of lanes that turn out empty, before those with work.
    select least(v_definition.max_drains, greatest(
      case when min(waiting.lanes) >= least(100, v_definition.batch_size * v_definition.max_drains) then 1 else 0 end,
      ceil(coalesce(avg(ready.items) * min(waiting.lanes), 0) / v_definition.batch_size))) into v_wanted
    from (
      select lane.tenant_id, row_number() over () as position, count(*) over () as lanes
      from (
        (select l.tenant_id from jobs.lanes l where l.job = v_definition.job and l.awake
          order by l.vtime limit v_definition.batch_size * v_definition.max_drains)
        union all
        (select l.tenant_id from jobs.lanes l where l.job = v_definition.job and l.wake_at <= p_now
          order by l.wake_at limit v_definition.batch_size * v_definition.max_drains)
      ) lane
    ) waiting
    cross join lateral (
      select count(*) as items
      from (
        select from jobs.items i
        where i.job = v_definition.job and i.tenant_id = waiting.tenant_id and i.run_at <= p_now
        order by i.run_at, i.item_id
        limit greatest(v_definition.quantum, v_definition.batch_size * v_definition.max_drains / waiting.lanes)
      ) few
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

create or replace function jobs.ring_soon()
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if not (select p.stopped from jobs.platform p) and not jobs.is_ticking() and pg_try_advisory_xact_lock(hashtextextended('onecron ring', 0)) then
    begin
      perform jobs.ring(clock_timestamp());
    exception when assert_failure or others then
      null; -- the tick will ring, and says why when it cannot
    end;
  end if;
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
  v_keyed boolean;
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
  -- First the domain's rows, then the dedupe keys: that is the order of a client that makes a change and then enqueues. An apply function
  -- can enqueue the next item of a key that ends with it: enqueue_many lets go of these keys as they are asked for.
  v_keyed := exists (select from unnest(v_settled) u where u.dedupe_key is not null);
  if (p_definition).apply_function is not null then
    if v_keyed then
      perform set_config('onecron.ending', array(select u.item_id from unnest(v_settled) u where u.ends and u.dedupe_key is not null)::text, true);
    end if;
    v_settled := jobs.apply_ended(p_definition, v_settled);
    if v_keyed then
      perform set_config('onecron.ending', '', true);
    end if;
  end if;
  if v_keyed then
    delete from jobs.dedupe_keys k
    using (select u.tenant_id, u.dedupe_key, u.item_id from unnest(v_settled) u where u.ends and u.dedupe_key is not null) freed
    where k.tenant_id = freed.tenant_id and k.job = (p_batch).job and k.dedupe_key = freed.dedupe_key and k.item_id = freed.item_id;
  end if;

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
      update jobs.lanes l set vtime = greatest((select c.vtime from jobs.clocks c where c.job = l.job), l.vtime + v_back.cost)
      where l.tenant_id = v_back.tenant_id and l.job = (p_batch).job and v_back.cost <> 0;
    end loop;
  end if;
  return cardinality(v_settled);
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
    insert into jobs.items (tenant_id, job, run_id, run_at, payload)
    select u, (p_definition).job, v_run_id, now(), v_payload from unnest(v_tenant_ids) u;
    perform jobs.wake_lanes((p_definition).job, v_tenant_ids, array(select now() from unnest(v_tenant_ids)));
  end if;
  update jobs.runs r set expected = cardinality(v_tenant_ids) where r.run_id = v_run_id;
  if cardinality(v_tenant_ids) = 0 then
    perform jobs.finish_run(v_run_id);
  end if;
  return v_run_id;
end
$function$;

create or replace function jobs.start_tick (
  seconds integer default null::integer
)
  returns text
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_version integer[] := (
    select regexp_split_to_array(substring(e.extversion from '^[0-9]+\.[0-9]+'), '\.')::integer[]
    from pg_catalog.pg_extension e where e.extname = 'pg_cron');
  v_seconds integer;
  v_schedule text;
begin
  if start_tick.seconds not between 1 and 60 then
    raise exception 'The tick comes every 1 to 60 seconds.' using errcode = '22023';
  end if;
  v_seconds := coalesce(start_tick.seconds, (select p.tick_seconds from jobs.platform p));
  if v_version < array[1, 5] or v_seconds = 60 then
    v_seconds := 60;
    v_schedule := '* * * * *';
  else
    v_schedule := format('%s seconds', v_seconds);
  end if;
  update jobs.platform p set tick_seconds = v_seconds;
  -- First what needs no job's own SQL, committed at once, so that doorbells ring whatever comes after. Then the steps, each committed before
  -- and after; from Postgres 17 on none takes its session for longer than a minute, before that statement_timeout is the limit. Last the
  -- SQL jobs, item by item for half of the time between two ticks, so that no tick is late for them.
  perform cron.schedule('onecron', v_schedule, format(
    'do $tick$ declare until timestamptz := clock_timestamp() + interval ''%s seconds''; step text := ''''; taken boolean := false; batch bigint; begin '
    'perform jobs.tick(false); commit; '
    'loop step := jobs.next_step(step); commit; exit when step is null; '
    'if jobs.take_step(step, ''60s'') is null then return; end if; taken := true; commit; end loop; '
    'if taken then perform jobs.try_ring(); commit; end if; '
    'loop batch := jobs.work(batch); commit; exit when batch is null or clock_timestamp() >= until; end loop; '
    'perform jobs.return_batch(batch); end $tick$', greatest(1, v_seconds / 2)));
  return v_schedule;
end
$function$;

create or replace function jobs.step_message (
  p_step jobs.steps,
  p_why text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select format('%s: %s. It is tried again after %s UTC; the other jobs go on.',
    case when (p_step).step like 'reap %' then format('Batches of %s could not be taken back', (p_step).job) else format('The slot of %s could not be started', (p_step).job) end,
    p_why, to_char((p_step).retry_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'))
$function$;

create or replace function jobs.take_credentials (
  p_definition jobs.definitions,
  p_settled jobs.settled[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if exists (select from unnest(p_settled) u where u.outcome = 'credential broken' and u.credential_source = 'platform') then
    perform from private.platform_credentials c where c.provider = (p_definition).provider for no key update;
  end if;
  perform from public.credentials c
  where c.provider = (p_definition).provider and c.tenant_id = any (array(
    select u.tenant_id from unnest(p_settled) u where u.outcome = 'credential broken' and u.credential_source is distinct from 'platform'))
  order by c.tenant_id
  for no key update;
end
$function$;

create or replace function jobs.take_lanes (
  p_job text,
  p_tenant_ids uuid[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  perform from jobs.lanes l where l.job = p_job and l.tenant_id = any (p_tenant_ids) order by l.tenant_id for no key update;
end
$function$;

create or replace function jobs.take_step (
  p_step text,
  p_limit text default null::text,
  p_now timestamp with time zone default clock_timestamp()
)
  returns integer
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  set lock_timeout to '2s'
  AS $function$
declare
  v_has_limit boolean := p_limit is not null and current_setting('server_version_num')::integer >= 170000;
  v_count integer;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('onecron tick', 0)) then
    delete from jobs.steps s where s.step = p_step;
    return null;
  end if;
  -- A statement cannot shorten its own statement_timeout. This limit counts from here, and ends the session.
  perform set_config('transaction_timeout', p_limit, true) where v_has_limit;
  begin
    v_count := case when p_step like 'reap %' then jobs.reap(p_now, 50, split_part(p_step, ' ', 2)) else jobs.open_due_slots(p_now, split_part(p_step, ' ', 2)) end;
  exception when query_canceled then
    -- Its row stays. The statement's time is used up: nothing would stop the next step that hangs, so there is none.
    perform jobs.open_alert(null, p_step, jobs.step_message(s, sqlerrm)) from jobs.steps s where s.step = p_step;
    return null;
  end;
  perform set_config('transaction_timeout', '0', true) where v_has_limit;
  delete from jobs.steps s where s.step = p_step;
  return v_count;
end
$function$;

create or replace function jobs.tend (
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_rung integer;
begin
  -- Somebody holds a drain or a run: the next tick.
  begin
    perform jobs.finish_lost_drains(p_now);
  exception when lock_not_available or deadlock_detected then
    null;
  end;
  v_rung := jobs.try_ring(p_now);
  begin
    update jobs.platform p set watched_at = p_now where p.watched_at < p_now - interval '1 minute';
    if found then
      perform jobs.watch(p_now);
      delete from jobs.breakers b where b.state = 'recovering' and b.since < p_now - interval '1 minute';
      perform jobs.close_alert(null, 'watch');
    end if;
  exception
    when lock_not_available or deadlock_detected then
      null; -- the next tick
    when assert_failure or others then
      perform jobs.open_alert(null, 'watch', 'The tick could not look for incidents: ' || sqlerrm);
  end;
  perform jobs.clean(p_now);
  update jobs.platform p
  set last_tick_at = p_now, last_tick_ms = round(extract(epoch from clock_timestamp() - p_now) * 1000, 3);
  return v_rung;
end
$function$;

create or replace function jobs.tick (
  steps boolean default true
)
  returns jsonb
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
  set lock_timeout to '2s'
  AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_skipped text := jobs.reason_to_skip(v_now);
  v_step text := '';
  v_count integer;
  v_reaped integer := 0;
  v_opened integer := 0;
begin
  if v_skipped is not null then
    return jsonb_build_object('skipped', v_skipped);
  end if;
  while tick.steps is not false loop
    v_step := jobs.next_step(v_step, v_now);
    exit when v_step is null;
    v_count := jobs.take_step(v_step, null, v_now);
    exit when v_count is null;
    if v_step like 'reap %' then
      v_reaped := v_reaped + v_count;
    else
      v_opened := v_opened + v_count;
    end if;
  end loop;
  return jsonb_build_object('reaped', v_reaped, 'opened', v_opened, 'rung', jobs.tend(v_now));
end
$function$;

create or replace function jobs.try_ring (
  p_now timestamp with time zone default clock_timestamp()
)
  returns integer
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  set lock_timeout to '2s'
  AS $function$
begin
  if (select p.stopped from jobs.platform p) then
    return 0;
  end if;
  return jobs.ring(p_now);
exception when assert_failure or others then
  perform jobs.open_alert(null, 'doorbell', 'No doorbell could be rung: ' || sqlerrm);
  return 0;
end
$function$;

create or replace function jobs.wake_job()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  if new.provider is distinct from old.provider then
    -- What held its lanes was the old provider's; the next claim looks at the new one.
    perform jobs.wake_blocked(new.job, null, 'breaker');
    perform jobs.wake_blocked(new.job, null, 'rate limit');
  elsif new.platform_allowed and not old.platform_allowed then
    perform jobs.wake_blocked(new.job, null, 'breaker');
  end if;
  return null;
end
$function$;

create or replace function jobs.watch (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_bitmapscan to 'on'
  set lock_timeout to '500ms'
  AS $function$
declare
  v_found record;
  v_open text[] := '{}';
  -- What somebody has stopped is late for a reason that is known.
  v_stopped text[] := array(select d.job from jobs.definitions d where d.paused or (select p.stopped from jobs.platform p));
begin
  perform jobs.look_at_backlogs(p_now);
  for v_found in
    -- A run that ended in error.
    select format('failed %s', r.job) as incident,
      format('The last run of %s failed: %s', r.job, coalesce(jsonb_path_query_first(r.errors, '$[*] ? (exists (@.drain_id)).error') #>> '{}', r.message)) as message, '{}'::jsonb as details
    from jobs.definitions d
    cross join lateral (
      select x.* from jobs.runs x where x.job = d.job and x.finished_at is not null order by x.started_at desc limit 1) r
    where r.status = 'error'
    union all
    -- A scheduled run that should be over. One that waits for paused or parked lanes only is late for a reason that is known.
    select format('overdue %s', r.job), format('A run of %s started at %s and is not over.', r.job, r.started_at), '{}'
    from jobs.runs r
    where r.finished_at is null and r.trigger = 'schedule' and r.started_at < p_now - interval '1 hour' and r.job <> all (v_stopped)
      and r.expected - (select coalesce(sum(rt.processed + rt.failed), 0) from jobs.run_tenants rt where rt.run_id = r.run_id) > (
        select count(*)
        from jobs.lanes l
        join jobs.items i on i.job = l.job and i.tenant_id = l.tenant_id
        where l.job = r.job and l.reason in ('paused', 'breaker') and i.run_id = r.run_id)
    union all
    -- More comes than goes: within the hour the wait will be longer than the plans promise.
    select format('growth %s', f.job),
      format('%s: the backlog grows faster than it drains: %s items are ready, %s more each minute, %s are done per minute. '
        'At this rate the target of %s s will be broken at %s UTC.', f.job, f.ready, f.growth_per_minute, f.drained_per_minute, f.target_seconds,
        to_char(f.breach_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI')),
      to_jsonb(f)
    from jobs.forecast(p_now) f
    where f.breach_at <= p_now + interval '1 hour' and f.job <> all (v_stopped)
    union all
    -- Work waits longer than the plans promise.
    select format('backlog %s', b.job), format('%s: the oldest ready item waits since %s; the target of its plan is %s s. Drained per minute: %s.',
      b.job, b.since, b.target_seconds, b.per_minute),
      jsonb_build_object('job', b.job, 'since', b.since, 'target_seconds', b.target_seconds, 'drained_per_minute', b.per_minute)
    from (
      select l.job, min(n.run_at) as since, min(coalesce(p.target_seconds, 600)) as target_seconds,
        (select count(*) / 5 from jobs.attempts a where a.job = l.job and a.finished_at > p_now - interval '5 minutes') as per_minute
      from jobs.definitions d
      -- Of each job, for each has a virtual time of its own; also lanes that are due and that no worker has come to wake.
      cross join lateral (
        (select x.tenant_id, x.job from jobs.lanes x where x.job = d.job and x.awake order by x.vtime limit 200)
        union all
        (select x.tenant_id, x.job from jobs.lanes x where x.job = d.job and x.wake_at <= p_now order by x.wake_at limit 200)
      ) l
      join lateral (
        select i.run_at from jobs.items i where i.job = l.job and i.tenant_id = l.tenant_id order by i.run_at, i.item_id limit 1) n on true
      left join public.tenants t on t.id = l.tenant_id
      left join public.plans p on p.plan_id = t.plan_id
      where n.run_at < p_now - make_interval(secs => coalesce(p.target_seconds, 600)) and d.job <> all (v_stopped)
      group by l.job
    ) b
    union all
    -- Items died within the last hour.
    select format('dead %s', d.job), format('%s items of %s died within the last hour. jobs.why(item_id) tells why; jobs.replay tries them again.', count(*), d.job), '{}'
    from jobs.dead_items d where d.died_at > p_now - interval '1 hour' group by d.job
    union all
    -- Doorbells that nobody answers.
    select format('doorbells %s', d.job), format('%s of the last doorbells of %s were not answered within 10 s.', count(*) filter (where d.answered_at is null), d.job), '{}'
    from jobs.drains d
    where d.rung_at between p_now - interval '5 minutes' and p_now - interval '10 seconds'
    group by d.job
    having count(*) filter (where d.answered_at is null) >= 3 and count(*) filter (where d.answered_at is null) > count(*) filter (where d.answered_at is not null)
    union all
    -- A step of the tick that began and has no end. What was cancelled the tick tells itself; this is what lost its session.
    select s.step, jobs.step_message(s, 'it ran for longer than a minute, or its session ended'), '{}'
    from jobs.steps s
    where s.began_at < p_now - interval '1 minute' and s.step in (select jobs.due_steps(p_now))
    union all
    -- The clock stood still: this tick came much later than it should.
    select 'tick', format('No tick came between %s and %s.', p.last_tick_at, p_now), '{}'
    from jobs.platform p where p.last_tick_at < p_now - make_interval(secs => 5 * p.tick_seconds + 60)
  loop
    v_open := v_open || v_found.incident;
    perform jobs.open_alert(null, v_found.incident, v_found.message, v_found.details);
  end loop;
  -- What this looks for and does not find any more is over.
  update jobs.alerts a set closed_at = p_now
  where a.closed_at is null and a.tenant_id is null and a.incident ~ '^(failed|overdue|growth|backlog|dead|doorbells|tick)( |$)' and a.incident <> all (v_open);
  -- So is the trouble with a batch that is not there any more, and with the schedule of a job that has none.
  update jobs.alerts a set closed_at = p_now
  where a.closed_at is null and a.tenant_id is null and (
    a.incident like 'reap %' and not exists (select from jobs.batches b where b.batch_id = (a.details ->> 'batch_id')::bigint)
      and not exists (select from jobs.steps s where s.step = a.incident and s.step in (select jobs.due_steps(p_now)))
    or a.incident like 'schedule %' and not exists (
      select from jobs.definitions d where format('schedule %s', d.job) = a.incident and d.next_slot_at <= p_now and not d.paused));
end
$function$;

create or replace function jobs.webhook_secrets (
  tenant text,
  provider text
)
  returns jsonb
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
declare
  v_tenant_id uuid := private.webhook_tenant(webhook_secrets.tenant);
  v_secret jsonb;
begin
  if v_tenant_id is null or webhook_secrets.provider not in ('meta', 'whatsapp') then
    return null;
  end if;
  select private.read_secret_json(c.secret_id) into v_secret
  from (
    select c.secret_id from public.credentials c
    where c.tenant_id = v_tenant_id and c.provider::text = webhook_secrets.provider and c.kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud')
    union all
    select p.secret_id from private.platform_credentials p
    where v_tenant_id = jobs.platform_id() and p.provider::text = webhook_secrets.provider
      and p.kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud')
  ) c;
  -- Who has neither secret cannot be told apart from who does not exist.
  if coalesce(v_secret ->> 'app_secret', '') = '' and coalesce(v_secret ->> 'verify_token', '') = '' then
    return null;
  end if;
  return jsonb_build_object('tenant_id', v_tenant_id,
    'app_secrets', case when coalesce(v_secret ->> 'app_secret', '') = '' then '[]' else jsonb_build_array(v_secret ->> 'app_secret') end,
    'verify_token', nullif(v_secret ->> 'verify_token', ''));
end
$function$;

create or replace function jobs.why (
  item_id bigint,
  tenant_id uuid default null::uuid
)
  returns text
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_item jobs.items;
  v_batch record;
  v_lane jobs.lanes;
  v_definition jobs.definitions;
  v_dead jobs.dead_items;
  v_last jobs.attempts;
  v_judged record;
  v_behind bigint;
  v_rate numeric;
  v_stuck text;
begin
  select i.* into v_item from jobs.items i where i.item_id = why.item_id and (why.tenant_id is null or i.tenant_id = why.tenant_id);
  if not found then
    select b.batch_id, b.lease_until into v_batch
    from jobs.leased_items i join jobs.batches b on b.batch_id = i.batch_id
    where i.item_id = why.item_id and (why.tenant_id is null or i.tenant_id = why.tenant_id);
    if found then
      return case when v_batch.lease_until > clock_timestamp()
        then format('It is running: batch %s, lease until %s.', v_batch.batch_id, v_batch.lease_until)
        else format('Its worker was lost: the lease of batch %s ended at %s. The next tick takes it back.', v_batch.batch_id, v_batch.lease_until) end;
    end if;
    select d.* into v_dead from jobs.dead_items d where d.item_id = why.item_id and (why.tenant_id is null or d.tenant_id = why.tenant_id);
    if found then
      return format('Dead since %s after %s attempts: %s. Last error: %s. It can be replayed.', v_dead.died_at, v_dead.attempts, v_dead.reason,
        coalesce(v_dead.last_error, 'none'));
    end if;
    select a.* into v_last from jobs.attempts a
    where a.item_id = why.item_id and (why.tenant_id is null or a.tenant_id = why.tenant_id) order by a.finished_at desc limit 1;
    if found then
      return format('It ended at %s: %s%s.', v_last.finished_at, v_last.outcome, coalesce(' (' || v_last.error || ')', ''));
    end if;
    return 'There is no such item.';
  end if;

  select d.* into v_definition from jobs.definitions d where d.job = v_item.job;
  if (select p.stopped from jobs.platform p) then
    return 'All background work is stopped by the platform''s switch.';
  elsif v_definition.paused then
    return format('The job %s is paused.', v_item.job);
  end if;

  select l.* into v_lane from jobs.lanes l where l.tenant_id = v_item.tenant_id and l.job = v_item.job;
  select j.* into v_judged from jobs.judge(v_definition, array[v_item.tenant_id], clock_timestamp()) j;
  if v_judged.reason = 'paused' then
    return format('Its lane is paused: %s.', v_judged.detail);
  elsif v_judged.reason = 'breaker' then
    return format('The breaker of its lane is open: %s%s.', v_judged.detail,
      case when v_judged.wake_at is not null then format(', next look at %s', v_judged.wake_at) else '; it waits until the credential changes' end);
  elsif jobs.provider_is_down(v_definition.provider) then
    return (
      select format('The provider %s does not answer for anybody. One item of one tenant probes it, %s; then the others go on.', v_definition.provider,
        case when b.open_until > clock_timestamp() then format('not before %s', b.open_until) else 'now' end)
      from jobs.breakers b where b.tenant_id = jobs.everyone_id() and b.provider = v_definition.provider);
  -- The lane sleeps for a reason that is over: nobody has woken it yet.
  elsif v_lane.reason in ('breaker', 'rate limit') and v_lane.reason is distinct from v_judged.reason
    and coalesce(v_lane.wake_at, 'infinity') > greatest(v_item.run_at, clock_timestamp()) then
    return format('Its lane is asleep %s because of: %s%s.', coalesce('until ' || v_lane.wake_at, 'until something wakes it,'), v_lane.reason,
      coalesce(' (' || v_lane.detail || ')', ''));
  elsif v_item.run_at > clock_timestamp() then
    return format('It is not due before %s%s%s.', v_item.run_at,
      case when v_item.waiting_for is not null then ' because of: ' || v_item.waiting_for else '' end,
      case when v_item.attempts > 0 then format(' (attempt %s of %s failed: %s)', v_item.attempts, v_definition.max_attempts, v_item.last_error) else '' end);
  elsif v_judged.reason = 'cap' and exists (
    select from jobs.breakers b where b.tenant_id = v_item.tenant_id and b.provider = v_definition.provider and b.state = 'open'
  ) then
    return 'The breaker of its lane is open, and another item probes the provider; it goes on when that one is answered.';
  elsif v_judged.reason = 'cap' then
    return format('Its tenant has as many items of %s in flight as its plan allows; it goes on when one of them ends.', v_item.job);
  elsif v_judged.reason = 'rate limit' then
    return format('It waits until %s for a rate limit: %s.', v_judged.wake_at, coalesce(v_judged.detail, 'that of its plan is used up for the moment'));
  elsif not v_lane.awake and coalesce(v_lane.wake_at, 'infinity') > clock_timestamp() then
    return format('Its lane is asleep %s because of: %s%s.', coalesce('until ' || v_lane.wake_at, 'until something wakes it,'), v_lane.reason,
      coalesce(' (' || v_lane.detail || ')', ''));
  elsif v_definition.cap <= (select coalesce(sum(e.open), 0) from jobs.leases e where e.job = v_item.job) then
    return format('The job %s has as many items in flight as it may have for all tenants together; it goes on when one of them ends.', v_item.job);
  elsif (
    select jobs.rate_room(p.rate_per_minute, r.free_at, clock_timestamp()) <= 0
    from jobs.provider_limits p join jobs.rates r on r.tenant_id = jobs.everyone_id() and r.provider = p.provider
    where p.provider = v_definition.provider
  ) then
    return format('The limit of %s for all tenants together is used up for the moment.', v_definition.provider);
  end if;

  select count(*) into v_behind
  from (
    select from jobs.items i
    where i.job = v_item.job and i.tenant_id = v_item.tenant_id and (i.run_at, i.item_id) < (v_item.run_at, v_item.item_id)
    order by i.run_at, i.item_id
    limit 100000
  ) earlier;
  -- What the lane got in the last five minutes tells what it will get.
  select count(*) / 300.0 into v_rate from jobs.attempts a
  where a.tenant_id = v_item.tenant_id and a.job = v_item.job and a.finished_at > clock_timestamp() - interval '5 minutes';
  v_stuck := case
    when coalesce((select p.last_tick_at < clock_timestamp() - make_interval(secs => 3 * p.tick_seconds + 5) from jobs.platform p), true)
      then format('No tick has come%s: nothing starts before one does.', (select ' since ' || p.last_tick_at from jobs.platform p))
    when (
      select count(*) >= 3 and bool_and(d.error is not distinct from 'the doorbell was not answered') from jobs.drains d
      where d.job = v_item.job and (d.ended_at > clock_timestamp() - interval '5 minutes' or (d.ended_at is null and d.answered_at is not null))
    ) then 'No worker answers the doorbells of its job: it starts when one does.'
    when v_definition.kind <> 'sql' and exists (select from jobs.alerts a where a.tenant_id is null and a.incident = 'doorbell' and a.closed_at is null)
      then 'No doorbell can be rung: it starts when one can.'
    when (
      select count(*) >= 3 and bool_and(d.error is not null) from (
        select x.error from jobs.drains x
        where x.job = v_item.job and x.ended_at > clock_timestamp() - interval '5 minutes' order by x.ended_at desc limit 3
      ) d
    ) and not exists (select from jobs.drains d where d.job = v_item.job and d.ended_at is null and d.answered_at is not null) then 'The workers of its job fail: it starts when one succeeds.' end;
  return format('It is ready, behind %s items of its own tenant%s. %s', v_behind,
    -- How many other tenants there are, and how busy, is none of a tenant's business.
    case when private.is_platform() then format('; %s other lanes are awake',
      (select count(*) from (select from jobs.lanes l where l.job = v_item.job and l.awake and l.tenant_id <> v_item.tenant_id limit 1000) o)) end,
    case
      when v_stuck is not null then v_stuck
      when v_rate > 0
        then format('Expected start: about %s.', date_trunc('second', clock_timestamp() + make_interval(secs => (v_behind / v_rate)::double precision)))
      when v_behind < least(v_judged.share, v_definition.batch_size) then 'Expected start: with the next drain.'
      else 'Expected start: not known, nothing of its lane was served in the last five minutes.' end);
end
$function$;

create or replace function jobs.work (
  batch_id bigint default null::bigint
)
  returns bigint
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
  v_last text;
  v_definition jobs.definitions;
  v_drain_id uuid;
  v_batch_id bigint;
  v_has_limit boolean := current_setting('server_version_num')::integer >= 170000;
begin
  select b.job, d.lease_seconds into v_last, v_definition.lease_seconds
  from jobs.batches b join jobs.definitions d on d.job = b.job
  where b.batch_id = work.batch_id;
  if found then
    -- The lease is how long an item may take. From Postgres 17 on this ends the session, so that the next tick can come.
    perform set_config('transaction_timeout', format('%ss', v_definition.lease_seconds), true) where v_has_limit;
    perform jobs.work_off(work.batch_id);
    perform set_config('transaction_timeout', '0', true) where v_has_limit;
  end if;
  -- In turn, beginning after the job that was served last, so that no job waits for another one to be empty.
  v_last := coalesce(v_last, (select d.job from jobs.definitions d where d.kind = 'sql' order by random() limit 1));
  for v_definition in
    select d.* from jobs.definitions d where d.kind = 'sql' and not d.paused order by d.job <= v_last, d.job
  loop
    select d.drain_id into v_drain_id from jobs.drains d
    where d.job = v_definition.job and d.ended_at is null and d.request_id is null
      -- Not one that was started by hand: that has a run of its own.
      and d.run_id is not distinct from (select o.run_id from jobs.open_runs o where o.job = v_definition.job)
      and jobs.drain_is_live(d, v_definition.lease_seconds, clock_timestamp())
    limit 1;
    v_drain_id := coalesce(v_drain_id, jobs.begin_drain(v_definition.job));
    continue when v_drain_id is null;
    v_batch_id := (jobs.next_batch(v_drain_id, v_definition.job, 1) ->> 'batch_id')::bigint;
    if v_batch_id is not null then
      return v_batch_id;
    end if;
    perform jobs.end_drain(v_drain_id);
  end loop;
  return null;
end
$function$;

create or replace function jobs.work_batch (
  drain_id uuid,
  job text,
  batch_id bigint default null::bigint
)
  returns bigint
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
begin
  if not exists (select from jobs.definitions d where d.job = work_batch.job and d.kind = 'sql') then
    raise exception 'There is no SQL job "%".', work_batch.job using errcode = 'P0002';
  end if;
  if exists (
    select from jobs.batches b where b.batch_id = work_batch.batch_id and (b.job, b.drain_id) is distinct from (work_batch.job, work_batch.drain_id)
  ) then
    raise exception 'Batch % is another drain''s.', work_batch.batch_id using errcode = '22023';
  end if;
  perform jobs.work_off(work_batch.batch_id);
  return (jobs.next_batch(work_batch.drain_id, work_batch.job, 1) ->> 'batch_id')::bigint;
end
$function$;

create or replace function jobs.work_item (
  p_definition jobs.definitions,
  p_item jobs.items
)
  returns jsonb
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_result jsonb;
  v_outcome jsonb;
  v_began timestamptz := clock_timestamp();
begin
  begin
    execute format('select to_jsonb(%s($1, $2, $3))', (p_definition).work_function::regproc)
      into v_result using (p_item).tenant_id, (p_item).subject_id, (p_item).payload;
    v_outcome := jsonb_build_object('item_id', (p_item).item_id, 'outcome', 'done', 'result', coalesce(v_result, 'null'));
  exception
    when query_canceled or admin_shutdown or crash_shutdown then
      raise;
    when assert_failure or others then
      v_outcome := jsonb_build_object('item_id', (p_item).item_id, 'outcome', 'retry', 'error', left(format('%s (%s)', sqlerrm, sqlstate), 500));
  end;
  if (p_definition).cost_unit = 'milliseconds' then
    v_outcome := v_outcome || jsonb_build_object('cost', 1000 * extract(epoch from clock_timestamp() - v_began));
  end if;
  return v_outcome;
end
$function$;

create or replace function jobs.work_off (
  p_batch_id bigint
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_outcomes jsonb;
begin
  -- Locked, so that nobody takes it back meanwhile.
  select b.* into v_batch from jobs.batches b where b.batch_id = p_batch_id for update;
  if not found then
    return;
  end if;
  select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
  if v_definition.kind <> 'sql' then
    raise exception 'Batch % is for a worker, not for the database.', p_batch_id using errcode = '22023';
  end if;
  select jsonb_agg(jobs.work_item(v_definition, i)) into v_outcomes
  from jobs.leases e
  cross join lateral unnest(e.items) i
  where e.batch_id = p_batch_id;
  perform jobs.close_batch(p_batch_id, v_outcomes);
end
$function$;

create or replace function private.credential_for (
  p_tenant_id uuid,
  p_provider public.provider,
  p_platform_allowed boolean
)
  returns jsonb
  language sql
  stable
  set search_path to ''
  AS $function$
  select jsonb_build_object(
    'credential_id', c.id, 'provider', p_provider, 'kind', c.kind, 'source', c.source, 'account', c.account,
    'secret', private.read_secret_json(c.secret_id))
  from (
    select own.id, own.kind, 'tenant' as source, own.account, own.secret_id
    from public.credentials own
    where own.tenant_id = p_tenant_id and own.provider = p_provider
    union all
    select null, shared.kind, 'platform', shared.account, shared.secret_id
    from private.platform_credentials shared
    where p_platform_allowed and shared.provider = p_provider
      and not exists (select from public.credentials own where own.tenant_id = p_tenant_id and own.provider = p_provider)
  ) c
$function$;

create or replace function private.read_secret_json (
  p_id uuid
)
  returns jsonb
  language plpgsql
  stable
  set search_path to ''
  AS $function$
declare
  v_secret text := private.read_secret(p_id);
begin
  return v_secret::jsonb;
exception when data_exception then
  return null;
end
$function$;

create or replace function private.take_signals (
  p_tenant_id uuid,
  p_signals jsonb,
  p_via text,
  p_credential_source text default null::text
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
declare
  v_given integer := case when jsonb_typeof(p_signals) = 'array' then jsonb_array_length(p_signals) else 0 end;
  v_valid integer;
  v_signal_ids uuid[];
  v_new private.signals[];
  v_linked uuid[];
  v_waiting uuid[];
begin
  if v_given = 0 or not exists (select from public.tenants t where t.id = p_tenant_id) then
    return jsonb_build_object('recorded', 0, 'skipped', v_given, 'decided', 0);
  end if;

  with given as materialized (
    select e.value ->> 'surface' as surface, e.value ->> 'kind' as kind, e.value ->> 'external_id' as external_id,
      nullif(e.value ->> 'author_id', '') as author_id, e.value ->> 'author_username' as author_username,
      nullif(e.value ->> 'target_id', '') as target_id, left(e.value ->> 'text', 10000) as text, left(e.value ->> 'referral', 200) as referral,
      e.value -> 'codes' as codes, e.value -> 'details' as details, e.value ->> 'happened_at' as happened_at
    from jsonb_array_elements(p_signals) e
    where jsonb_typeof(e.value) = 'object'
  ),
  -- A time is taken only when it can be one: a cast must not raise for the sake of one bad entry.
  timed as materialized (
    select g.*,
      case
        when g.happened_at is null then now()
        when g.happened_at !~ '^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])$'
          then null
        when substr(g.happened_at, 9, 2)::integer > extract(day from (substr(g.happened_at, 1, 7) || '-01')::date + interval '1 month - 1 day') then null
        else g.happened_at::timestamptz end as at
    from given g
  ),
  valid as materialized (
    select t.*
    from timed t
    where (t.surface, t.kind) in (('instagram', 'comment'), ('facebook', 'comment'), ('instagram', 'mention'), ('instagram', 'story_mention'),
        ('instagram', 'message'), ('facebook', 'message'), ('whatsapp', 'message'), ('facebook', 'reaction'), ('link', 'visit'), ('link', 'sign_up'))
      and t.external_id ~ '^[!-~]+$' and octet_length(t.external_id) <= 300
      and (t.author_id ~ '^[!-~]{1,200}$') is not false and (t.target_id ~ '^[!-~]{1,200}$') is not false
      and t.at <= now() + interval '1 day'
  ),
  recorded as (
    insert into private.signals (
      tenant_id, surface, kind, external_id, author_id, author_username, target_id, codes, message, details, via, happened_at)
    select distinct on (v.surface, v.kind, v.external_id)
      p_tenant_id, v.surface, v.kind, v.external_id, v.author_id,
      substring(lower(ltrim(btrim(v.author_username), '@')) from '^[a-z0-9._]{1,30}$'), v.target_id,
      case when v.kind in ('visit', 'sign_up') then private.codes_in(v.external_id)
        when v.text is not null or v.referral is not null then private.codes_in(concat_ws(' ', v.text, v.referral))
        when jsonb_typeof(v.codes) = 'array' and v.codes <> '[]' then private.codes_in(left(v.codes::text, 1000))
        else '{}' end,
      case when v.kind = 'message' then nullif(left(v.text, 200), '') end,
      case when v.kind = 'mention' then jsonb_strip_nulls(jsonb_build_object(
        'media_id', substring(v.details ->> 'media_id' from '^[!-~]{1,100}$'),
        'comment_id', substring(v.details ->> 'comment_id' from '^[!-~]{1,100}$'))) end,
      case when v.surface = 'link' then 'link' else p_via end, v.at
    from valid v
    order by v.surface, v.kind, v.external_id, v.at
    on conflict on constraint a_thing_is_seen_once do nothing
    returning *
  )
  select (select count(*) from valid), array_agg(r), array_agg(r.id) into v_valid, v_new, v_signal_ids from recorded r;
  if v_new is null then
    return jsonb_build_object('recorded', 0, 'skipped', v_given - v_valid, 'decided', 0);
  end if;

  insert into private.signal_codes (tenant_id, code, signal_id)
  select p_tenant_id, u.code, n.id from unnest(v_new) n cross join lateral unnest(n.codes) as u (code);

  v_linked := private.link_accounts(p_tenant_id, v_new);
  -- Who was asked to write to the account may be linked already, by a comment: the message is what counts.
  perform private.wake_claims(p_tenant_id, v_linked || array(
    select a.participant_id
    from unnest(v_new) n
    cross join lateral (
      select x.participant_id from public.linked_accounts x
      where x.tenant_id = p_tenant_id and x.platform = n.surface and x.external_id = n.author_id offset 0
    ) a
    where n.kind = 'message'));

  -- A mention names nobody: whoever waits for one has it read.
  if exists (select from unnest(v_new) n where n.kind = 'mention') then
    v_waiting := array(
      select c.id
      from public.social_tasks t
      join public.completions c on c.tenant_id = t.tenant_id and c.task_id = t.id
      where t.tenant_id = p_tenant_id and t.kind::text = 'instagram_mention' and c.status = 'pending' and c.route = 'api'
      order by c.claimed_at
      limit 1000);
    if cardinality(v_waiting) > 0 then
      -- The item that an earlier mention woke is not due before long.
      perform jobs.hurry_or_enqueue('verify-social-tasks', p_tenant_id, v_waiting, array(select 'mention/' || w from unnest(v_waiting) w));
    end if;
  end if;

  return jsonb_build_object('recorded', cardinality(v_new), 'skipped', v_given - v_valid,
    'decided', private.decide_by_signals(p_tenant_id, v_signal_ids, v_linked, null, p_credential_source));
end
$function$;

create or replace function private.wake_capped()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_job text;
begin
  -- First the guard of each job's caps, and then a look: a claim may be about to put a lane to sleep for the old cap. Not the guards of the
  -- tenants: of all jobs together those would be thousands of locks.
  for v_job in select d.job from jobs.definitions d order by d.job loop
    perform pg_advisory_xact_lock_shared(jobs.guard_class(v_job), 256);
    perform jobs.wake_blocked(v_job, array(
      select l.tenant_id from jobs.lanes l join public.tenants t on t.id = l.tenant_id
      where l.job = v_job and l.reason = 'cap' and t.plan_id = new.plan_id), 'cap');
  end loop;
  return null;
end
$function$;

create or replace function private.wake_claims (
  p_tenant_id uuid,
  p_participant_ids uuid[]
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
declare
  v_awake uuid[];
begin
  if coalesce(cardinality(p_participant_ids), 0) = 0 then
    return;
  end if;
  with waiting as (
    update public.completions c
    set status = 'pending', reason = null, settle_at = greatest(c.deadline, now()) + interval '1 day'
    where c.tenant_id = p_tenant_id and c.participant_id = any (p_participant_ids) and c.status::text = 'needs_user_action'
    returning c.id
  )
  select array_agg(w.id) into v_awake from waiting w;
  if v_awake is not null then
    -- Where the person is asked about from time to time, that is done now.
    perform jobs.hurry_or_enqueue('verify-social-tasks', p_tenant_id, v_awake, array(select 'asked/' || w from unnest(v_awake) w));
  end if;
end
$function$;

alter table "jobs"."definitions"
  add constraint "backoff_is_positive_and_at_most_a_year"
    check
    (((backoff_seconds > (0)::numeric) AND (backoff_limit_seconds >= backoff_seconds) AND
    (backoff_limit_seconds <= (31536000)::numeric)));

alter table "jobs"."definitions"
  add constraint "breaker_after_is_between_1_and_a_million"
    check (((breaker_after >= 1) AND (breaker_after <= 1000000)));

alter table "public"."plans"
  add constraint "weight_is_a_positive_number"
    check (((weight > (0)::numeric) AND (weight < 'Infinity'::numeric)));

create index witnesses_run_id_idx on jobs.witnesses using btree (run_id);

create trigger definitions_after_update_wake
  after update of platform_allowed, provider on jobs.definitions
  for each row
  execute function jobs.wake_job();

create trigger definitions_before_delete_keep
  before delete on jobs.definitions
  for each row
  execute function jobs.keep_definition();

comment on function "jobs"."begin_effects"(bigint, bigint[], uuid) is 'To be called right before calls that have no idempotency key. Returns the items that may be sent: still leased to this batch, of a tenant that is still there, and not begun before. With the same request (the caller''s own id of this call) a repeated call is answered as the first one: nothing was sent between the two. If the worker is lost after this, they end as unknown and are not sent again. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."cancel"(text, uuid, interval, boolean) is 'Cancels waiting items of a job, of one tenant or of all, only older ones if asked. dry_run (the default) says how many it would be. Returns how many. Those whose end the job''s apply function cannot take die instead, and can be replayed. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."cancel_items"(jobs.definitions, uuid[], bigint[]) is 'Cancels these waiting items, whose lanes are held. Returns how many, and how many of them died because the apply function failed for them.';

comment on function "jobs"."clean"(timestamp with time zone) is 'At most once an hour: makes and drops history partitions, forgets what is old. After an error again in five minutes.';

comment on function "jobs"."drain_is_live"(jobs.drains, integer, timestamp
  with time zone) is 'True while a doorbell may still be answered or its drain was heard of within a lease and ten seconds.';

comment on function "jobs"."due_steps"(timestamp with time zone) is 'The steps of the tick that are due: jobs with expired leases, jobs with a slot.';

comment on function "jobs"."enqueue_many"(text, uuid[], uuid[], timestamp
  with time zone, text[], jsonb[]) is 'Adds one item per element, in the caller''s transaction; returns how many were new (a dedupe key that is waiting or running already adds none). run_at defaults to now plus the job''s start delay. Errors: P0002 no such job, 23503 no such tenant, 22001 a dedupe key of more than 2,000 bytes. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."finish_ended_runs"(text) is 'Ends the scheduled runs (of one job, or of all) whose items have all ended. Returns those that are not over and have no witness of it.';

comment on function "jobs"."for_members"(jobs.definitions, jsonb, jobs.settled[]) is 'The same items; where the platform''s credential was throttled or refused, in general words instead of the provider''s.';

comment on function "jobs"."forget_old"(timestamp with time zone) is 'Removes old drains, runs, slots and alerts, and what pg_cron and pg_net remember of ticks and doorbells.';

comment on function "jobs"."hurry_or_enqueue"(text, uuid, uuid[], text[]) is 'Makes the waiting items of these keys due now, and enqueues those that are not there. One subject for each key.';

comment on function "jobs"."is_ticking"() is 'True while a tick of another session is running.';

comment on function "jobs"."keep_definition"() is 'Trigger: a job with items, leases or dead items stays.';

comment on function "jobs"."load_batch"(jobs.definitions, jobs.batches, timestamp
  with time zone) is 'The batch as the worker gets it: items with data, grouped by tenant, each group with its credential; null when all of them must wait or were ended. An item for which the load function did not answer counts as an attempt that failed; of two answers for one the first counts.';

comment on function "jobs"."next_batch"(uuid, text, integer, uuid) is 'The next batch for a drain: {"batch_id","job","now","lease_until","lease_seconds","cost_unit","tenants":[{"tenant_id","slug","credential","items":[{"item_id","attempt","trace_id","subject_id","data"}]}]}, or null when nothing is awake. Without tenants it is no batch: all that was found within 300 ms must wait, and there is more, so ask again. With a request (the caller''s own id of this call) it can be repeated: the batch of an answer that was lost is handed out again. The only place where secrets leave the database. Definer: writes the engine''s tables and reads the tenants'' secrets in Vault, which service_role must not do row by row.';

comment on function "jobs"."next_slots"(text, text, timestamp
  with time zone, integer) is 'The next times of a schedule in a time zone after a moment: five, or as many as asked for, up to 1,000. Errors: 22023 with what is wrong in the expression, the zone or the count. Definer: the functions that take an expression apart are granted to nobody.';

comment on function "jobs"."next_step"(text, timestamp with time zone) is 'The next step of a tick after the one named, written down as begun; null when none is left. The caller commits, and then takes it.';

comment on function "jobs"."open_due_slots"(timestamp with time zone, text) is 'Starts the runs of all slots that are due; missed ones by the job''s misfire policy. Returns how many runs.';

comment on function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp
  with time zone) is 'One round: leases up to p_room items to the batch from the p_lanes lanes that are furthest behind, charges them, puts empty ones to sleep. Returns how many; null when no lane is awake.';

comment on function "jobs"."reap"(timestamp with time zone, integer, text) is 'Takes back the items of expired batches: each counts as a lost attempt, or as unknown where its call had begun.';

comment on function "jobs"."reason_to_skip"(timestamp with time zone) is 'Takes the tick''s lock, and follows the clock where it was set back. Null: this tick may go on.';

comment on function "jobs"."recover_from_backup"(text[], boolean) is 'After a restore from a backup, while everything is stopped: what was due or running in these jobs (default: all that send messages for tenants) ends as unknown, because it may have been sent since; ids move on. dry_run (the default) says how many it would be. Returns how many. Errors: P0002 no such job, 55000 not stopped. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."require_job_and_tenant"(text, uuid) is 'Raises P0002 when there is no such job or tenant.';

comment on function "jobs"."resume"(text, uuid) is 'Ends a pause; what waited is served by its turn. P0002: no such job or tenant. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."ring_soon"() is 'Rings for work that waits, unless a tick or another caller is just doing it. Keeps no tick out.';

comment on function "jobs"."step_message"(jobs.steps, text) is 'What an alert says of a step that has no end.';

comment on function "jobs"."take_credentials"(jobs.definitions, jobs.settled[]) is 'Locks the credentials that were refused, in the order in which they are parked.';

comment on function "jobs"."take_lanes"(text, uuid[]) is 'Keeps claims away from the lanes of these tenants until the end of the transaction.';

comment on function "jobs"."take_step"(text, text, timestamp with time zone) is 'Takes a step: items taken back, or runs opened. Null when it was cancelled: then the caller must take no other. The limit (such as 60s) ends the session; where Postgres is older than 17 there is none but statement_timeout.';

comment on function "jobs"."tend"(timestamp with time zone) is 'Ends lost drains, rings doorbells, watches for incidents, keeps history small. Returns how many doorbells were rung.';

comment on function "jobs"."tick"(boolean) is 'One short transaction: takes back expired leases, opens due slots, rings doorbells where work waits, keeps history small. Without steps (what runs a job''s own SQL: the first two) it is how the one pg_cron entry begins, which then takes and commits them one by one. Definer: the engine''s tables, Vault''s cron secret and pg_net are the owner''s.';

comment on function "jobs"."try_ring"(timestamp with time zone) is 'Rings unless everything is stopped; an error opens the alert doorbell.';

comment on function "jobs"."wake_job"() is 'Trigger: a job that may use the platform''s credential from now on wakes the lanes that had none; one that changes its provider, all that the old one held. Definer: lanes belong to the engine.';

comment on function "jobs"."watch"(timestamp with time zone) is 'Opens and closes the alerts that can be seen from the tables: failed, overdue, backlog (growing or too old), dead items, doorbells lost, steps without an end, tick missing. Called by the tick once a minute.';

comment on function "jobs"."work"(bigint) is 'Works off the item of a SQL job that the last call claimed (its batch_id), and claims the next one: its batch_id, null when none waits. Commit after each call, and give what you do not work off back by jobs.return_batch. From Postgres 17 on an item that takes longer than its lease ends the session. Called by the one pg_cron entry after each tick until its time is up. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."work_batch"(uuid, text, bigint) is 'Works off the item of a SQL job that the last call claimed (its batch_id), and claims the next one: its batch_id, null when none waits. For drains that come over HTTP. Errors: P0002 no such SQL job, 22023 not a batch of this drain. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."work_item"(jobs.definitions, jobs.items) is 'Runs the work function for one item and returns its outcome: done, or retry with the error.';

comment on function "jobs"."work_off"(bigint) is 'Works off a batch of a SQL job and closes it; nothing when it was taken back meanwhile.';

comment on function "private"."read_secret_json"(uuid) is 'The secret of a credential, or null when there is none or it cannot be read. Callable by its owner only.';

comment on table "jobs"."steps" is 'Steps of the tick that run a job''s own SQL and have begun. One that came to its end has no row: what is left here was stopped, and is tried again at retry_at.';

comment on table "jobs"."witnesses" is 'An item of each open scheduled run that had not ended when a tick last looked. While it is there its run is not over, and nothing needs to be counted.';

revoke all on function "jobs"."cancel_items"(jobs.definitions, uuid[], bigint[]) from public;

revoke all on function "jobs"."due_steps"(timestamp with time zone) from public;

revoke all on function "jobs"."finish_ended_runs"(text) from public;

revoke all on function "jobs"."for_members"(jobs.definitions, jsonb, jobs.settled[]) from public;

revoke all on function "jobs"."forget_old"(timestamp with time zone) from public;

revoke all on function "jobs"."hurry_or_enqueue"(text, uuid, uuid[], text[]) from public;

revoke all on function "jobs"."is_ticking"() from public;

revoke all on function "jobs"."keep_definition"() from public;

revoke all on function "jobs"."next_step"(text, timestamp with time zone) from public;

revoke all on function "jobs"."open_due_slots"(timestamp with time zone, text) from public;

revoke all
  on function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp with time zone)
  from public;

revoke all on function "jobs"."reap"(timestamp with time zone, integer, text) from public;

revoke all on function "jobs"."reason_to_skip"(timestamp with time zone) from public;

revoke all on function "jobs"."require_job_and_tenant"(text, uuid) from public;

revoke all on function "jobs"."step_message"(jobs.steps, text) from public;

revoke all on function "jobs"."take_credentials"(jobs.definitions, jobs.settled[]) from public;

revoke all on function "jobs"."take_lanes"(text, uuid[]) from public;

revoke all on function "jobs"."take_step"(text, text, timestamp with time zone) from public;

revoke all on function "jobs"."tend"(timestamp with time zone) from public;

revoke all on function "jobs"."tick"(boolean) from public;

grant execute on function "jobs"."tick"(boolean) to "service_role";

revoke all on function "jobs"."try_ring"(timestamp with time zone) from public;

revoke all on function "jobs"."work"(bigint) from public;

grant execute on function "jobs"."work"(bigint) to "service_role";

revoke all on function "jobs"."work_batch"(uuid, text, bigint) from public;

grant execute on function "jobs"."work_batch"(uuid, text, bigint) to "service_role";

revoke all on function "jobs"."work_item"(jobs.definitions, jobs.items) from public;

revoke all on function "jobs"."work_off"(bigint) from public;

revoke all on function "private"."read_secret_json"(uuid) from public;

grant select on table "jobs"."steps" to "service_role";

grant select on table "jobs"."witnesses" to "service_role";
