-- start by hand: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

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
  select d.* into v_definition from jobs.definitions d where d.job = p_job;
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
  perform jobs.finish_run(r.run_id)
  from jobs.runs r
  where r.job = v_drain.job and r.finished_at is null
    and r.expected <= (select coalesce(sum(rt.processed + rt.failed), 0) from jobs.run_tenants rt where rt.run_id = r.run_id);
  -- What this drain has made ready (a message for what it verified) need not wait for the tick.
  perform jobs.ring_soon();
end
$function$;

create or replace function jobs.ring_soon()
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if not (select p.stopped from jobs.platform p) and pg_try_advisory_xact_lock(hashtextextended('onecron tick', 0)) then
    begin
      perform jobs.ring(clock_timestamp());
    exception when others then
      null; -- the tick will ring, and says why when it cannot
    end;
  end if;
end
$function$;

create or replace function jobs.run_now (
  job text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions := jobs.begin_by_hand(run_now.job);
  v_run_id bigint;
  v_drain_id uuid;
begin
  -- A scheduled job has nothing waiting between its slots: by hand it gets one of its own.
  v_run_id := case when v_definition.schedule is null then jobs.open_run(run_now.job, 'manual')
    else jobs.start_slot(v_definition, clock_timestamp(), 'manual') end;
  insert into jobs.drains (job, run_id, answered_at, seen_at) values (run_now.job, v_run_id, clock_timestamp(), clock_timestamp())
  returning drains.drain_id into v_drain_id;
  perform private.audit(null, 'job.run_now', jsonb_build_object('job', run_now.job, 'run_id', v_run_id));
  return jsonb_build_object('run_id', v_run_id, 'drain_id', v_drain_id, 'kind', v_definition.kind);
end
$function$;

create or replace function jobs.start (
  job text
)
  returns bigint
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions := jobs.begin_by_hand(start.job);
  v_run_id bigint;
begin
  if v_definition.schedule is not null then
    v_run_id := jobs.start_slot(v_definition, clock_timestamp(), 'manual');
  end if;
  perform private.audit(null, 'job.started', jsonb_build_object('job', start.job, 'run_id', v_run_id));
  perform jobs.ring_soon();
  return v_run_id;
end
$function$;

comment on function "jobs"."begin_by_hand"(text) is 'The definition of a job that may be started by hand; lanes that rest wake. Errors: P0002 no such job, 55000 paused, or everything stopped.';

comment on function "jobs"."ring_soon"() is 'Rings for work that waits, unless a tick is just doing it.';

comment on function "jobs"."run_now"(text) is 'For who drains the job: {"run_id","drain_id","kind"} (a SQL job by jobs.work_batch). Whoever does not calls jobs.start. Errors: P0002 no such job, 55000 paused, or everything stopped. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."start"(text) is 'Starts a job now, without waiting for it: a worker, or jobs.work after the next tick, does what there is. Returns the run of a scheduled job; null for a queue, whose work has a run of its own. Errors: P0002 no such job, 55000 paused, or everything stopped. Definer: the engine''s tables are written by its functions only.';

revoke all on function "jobs"."begin_by_hand"(text) from public;

revoke all on function "jobs"."ring_soon"() from public;

revoke all on function "jobs"."start"(text) from public;

grant execute on function "jobs"."start"(text) to "service_role";
