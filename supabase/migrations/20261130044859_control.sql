-- control: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

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
  v_items jobs.items[];
  v_count integer;
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
      where i.job = cancel.job and i.batch_id is null and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
        and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than));
  end if;
  with gone as (
    delete from jobs.items i
    where i.job = cancel.job and i.batch_id is null and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
      and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than)
    returning i.*
  ),
  remembered as (
    insert into jobs.attempts (tenant_id, item_id, try, job, subject_id, run_id, outcome, error, due_at, started_at, trace_id)
    select g.tenant_id, g.item_id, g.tries + 1, g.job, g.subject_id, g.run_id, 'cancelled', 'cancelled by the platform', g.run_at, now(), g.trace_id
    from gone g
  )
  select array_agg(g), count(*) into v_items, v_count from gone g;
  perform jobs.expect_fewer(array_agg(g.run_id), array_agg(g.items))
  from (select i.run_id, count(*) as items from unnest(v_items) i where i.run_id is not null group by i.run_id) g;
  if v_definition.apply_function is not null and v_count > 0 then
    execute format('select %s($1)', v_definition.apply_function::regproc) using (
      select array_agg((i.tenant_id, i.item_id, i.subject_id, 'cancelled', null, 'cancelled by the platform', null)::jobs.ended) from unnest(v_items) i);
  end if;
  perform private.audit(cancel.tenant_id, 'items.cancelled', jsonb_build_object(
    'job', cancel.job, 'tenant_id', cancel.tenant_id, 'older_than', cancel.older_than, 'items', v_count));
  return v_count;
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
  insert into jobs.clocks (job) values (define.job) on conflict do nothing;
  perform private.audit(null, 'job.defined', jsonb_build_object('job', define.job, 'settings', settings));
  return v_definition;
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
    return (
      select count(*) from jobs.dead_items d
      where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id)
        and (replay.reason is null or d.reason = replay.reason) and (replay.died_after is null or d.died_at >= replay.died_after));
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
  back as (
    insert into jobs.items (tenant_id, item_id, job, subject_id, run_at, enqueued_at, tries, last_error, dedupe_key, trace_id, payload)
    overriding system value
    select r.tenant_id, r.item_id, r.job, r.subject_id, now(), r.enqueued_at, r.tries, r.last_error, r.dedupe_key, r.trace_id, r.payload
    from revived r
    on conflict do nothing
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
