-- sql queue runs: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function jobs.begin_drain (
  p_job text
)
  returns uuid
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_drain_id uuid;
begin
  if not exists (select from jobs.lanes l where l.job = p_job and l.awake)
    and not exists (select from jobs.lanes l where l.job = p_job and l.wake_at <= clock_timestamp()) then
    return null;
  end if;
  insert into jobs.drains (job, run_id, answered_at, seen_at)
  values (p_job, jobs.open_run(p_job, 'queue'), clock_timestamp(), clock_timestamp())
  returning drain_id into v_drain_id;
  return v_drain_id;
end
$function$;

create or replace function jobs.work()
  returns boolean
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
declare
  v_definition jobs.definitions;
  v_drain_id uuid;
  v_batch jsonb;
begin
  for v_definition in
    select d.* from jobs.definitions d where d.kind = 'sql' and not d.paused order by d.job
  loop
    select d.drain_id into v_drain_id from jobs.drains d
    where d.job = v_definition.job and d.ended_at is null and d.request_id is null
      -- Not one that was started by hand: that has a run of its own.
      and d.run_id is not distinct from (select o.run_id from jobs.open_runs o where o.job = v_definition.job)
      and jobs.drain_is_live(d, v_definition.lease_seconds, clock_timestamp())
    limit 1;
    v_drain_id := coalesce(v_drain_id, jobs.begin_drain(v_definition.job));
    continue when v_drain_id is null;
    v_batch := jobs.next_batch(v_drain_id, v_definition.job, 1);
    if v_batch is not null then
      perform jobs.work_item(v_definition, (v_batch ->> 'batch_id')::bigint,
        (v_batch -> 'tenants' -> 0 ->> 'tenant_id')::uuid, (v_batch -> 'tenants' -> 0 -> 'items' -> 0 ->> 'item_id')::bigint);
      return true;
    end if;
    perform jobs.end_drain(v_drain_id);
  end loop;
  return false;
end
$function$;
