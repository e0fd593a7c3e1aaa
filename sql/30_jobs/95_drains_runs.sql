-- What functions call: answer a doorbell, end a drain, run by hand, and how things stand.

create function jobs.open_run(p_job text, p_trigger text)
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_run_id bigint;
begin
  if p_trigger = 'queue' then
    -- The items of a scheduled job have the run of their slot.
    if exists (select from jobs.definitions d where d.job = p_job and d.schedule is not null) then
      return null;
    end if;
    select o.run_id into v_run_id from jobs.open_runs o where o.job = p_job;
    if found then
      return v_run_id;
    end if;
    -- Of two that open one at once the second waits here for the first, and joins it.
    v_run_id := nextval('jobs.runs_run_id_seq');
    insert into jobs.open_runs (job, run_id) values (p_job, v_run_id) on conflict do nothing;
    if not found then
      select o.run_id into v_run_id from jobs.open_runs o where o.job = p_job;
      return v_run_id;
    end if;
    insert into jobs.runs (run_id, job, trigger) overriding system value values (v_run_id, p_job, 'queue');
    return v_run_id;
  end if;
  insert into jobs.runs (job, trigger) values (p_job, p_trigger) returning run_id into v_run_id;
  return v_run_id;
end
$$;

comment on function jobs.open_run(text, text) is 'Opens a run, or joins the one that is open for the queue of this job; null for a scheduled job.';

-- What a run has done so far: the sum of its drains.
create function jobs.run_counts(p_run_id bigint)
returns table (processed bigint, failed bigint, errors jsonb)
language sql stable
set search_path = ''
as $$
  select coalesce(sum(rt.processed), 0)::bigint, coalesce(sum(rt.failed), 0)::bigint,
    (select coalesce(jsonb_agg(x.error), '[]')
     from (
       select jsonb_build_object('drain_id', d.drain_id, 'error', d.error) as error
       from jobs.drains d
       where d.run_id = p_run_id and d.error is not null
       union all
       select e - 'run_id'
       from jobs.runs r
       join jobs.drains d on d.job = r.job and coalesce(d.ended_at, 'infinity') >= r.started_at
       cross join lateral jsonb_array_elements(d.errors) e
       where r.run_id = p_run_id and (e ->> 'run_id')::bigint = p_run_id
       limit 20
     ) x)
  from jobs.run_tenants rt
  where rt.run_id = p_run_id
$$;

comment on function jobs.run_counts(bigint) is 'Processed, failed and the first errors of a run so far, those of its drains before those of its items.';

create function jobs.finish_run(p_run_id bigint)
returns void
language sql
set search_path = ''
as $$
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
$$;

comment on function jobs.finish_run(bigint) is 'Ends a run: error when all failed, or its drain did and nothing was done; warning when something failed, else success.';

-- Ends the runs of which as many items have ended as they have; returns those that may go on for all that is known. The counts of a run
-- are one row per tenant and drain, and a run stays open for as long as one lane is paused: many tenants times many runs, at every tick.
-- So they are added up only where the run's witness has ended. Two statements: else each would be added up.
create function jobs.finish_ended_runs(p_job text default null)
returns bigint[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
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
$$;

comment on function jobs.finish_ended_runs(text) is
  'Ends the scheduled runs (of one job, or of all) whose items have all ended. Returns those that are not over and have no witness of it.';

create function jobs.answer_doorbell(ticket uuid)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_drain jobs.drains;
begin
  update jobs.drains d
  set answered_at = clock_timestamp(), seen_at = clock_timestamp()
  where d.drain_id = answer_doorbell.ticket and d.answered_at is null and d.ended_at is null
    and d.rung_at > clock_timestamp() - interval '300 seconds'
  returning * into v_drain;
  if not found then
    return null;
  end if;
  update jobs.drains d set run_id = jobs.open_run(v_drain.job, 'queue') where d.drain_id = v_drain.drain_id returning d.run_id into v_drain.run_id;
  -- For the log. The items of a scheduled job have runs of their own: mostly one is open.
  return jsonb_build_object('drain_id', v_drain.drain_id, 'job', v_drain.job, 'run_id', coalesce(v_drain.run_id,
    (select max(r.run_id) from jobs.runs r where r.job = v_drain.job and r.finished_at is null)));
end
$$;

grant execute on function jobs.answer_doorbell(uuid) to service_role;
comment on function jobs.answer_doorbell(uuid) is
  'A worker answers a doorbell: {"drain_id","job","run_id"}. Null when the ticket is unknown, older than 300 s or answered before: a doorbell that comes twice drains once. '
  'Definer: the engine''s tables are written by its functions only.';

-- Tries the lock of ticks and lets go of it at once: whatever a subtransaction took goes with it. Kept to the end of a caller's
-- transaction it would keep out every tick for as long as that is open. Shared, so that two who ask do not take one another for a tick.
create function jobs.is_ticking()
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  if pg_try_advisory_xact_lock_shared(hashtextextended('onecron tick', 0)) then
    raise exception 'No tick is running.' using errcode = 'OC000';
  end if;
  return true;
exception when sqlstate 'OC000' then
  return false;
end
$$;

comment on function jobs.is_ticking() is 'True while a tick of another session is running.';

-- Of two callers at once one rings. A tick does not ask: rings that a caller has not committed it does not see, and may ring for the
-- same work. Then a drain too many comes, and finds what the caps leave it; that is better than none for as long as he takes.
create function jobs.ring_soon()
returns void
language plpgsql
set search_path = ''
as $$
begin
  if not (select p.stopped from jobs.platform p) and not jobs.is_ticking() and pg_try_advisory_xact_lock(hashtextextended('onecron ring', 0)) then
    begin
      perform jobs.ring(clock_timestamp());
    exception when assert_failure or others then
      null; -- the tick will ring, and says why when it cannot
    end;
  end if;
end
$$;

comment on function jobs.ring_soon() is 'Rings for work that waits, unless a tick or another caller is just doing it. Keeps no tick out.';

-- A drain that waits for a moment is worth it: a number that may send four messages a second would else send one per tick.
create function jobs.next_wake(job text)
returns double precision
language plpgsql stable security definer
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  if (select p.stopped from jobs.platform p) or (select d.paused from jobs.definitions d where d.job = next_wake.job) is not false then
    return null;
  end if;
  return (
    select extract(epoch from l.wake_at - clock_timestamp())
    from jobs.lanes l
    where l.job = next_wake.job and l.wake_at > clock_timestamp()
    order by l.wake_at
    limit 1);
end
$$;

grant execute on function jobs.next_wake(text) to service_role;
comment on function jobs.next_wake(text) is 'In how many seconds the next sleeping lane of a job wakes; null when none does by itself, or the job may not run. '
  'Definer: the engine''s tables are its own.';

create function jobs.end_drain(drain_id uuid, error text default null)
returns void
language plpgsql security definer
set search_path = ''
as $$
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
$$;

grant execute on function jobs.end_drain(uuid, text) to service_role;
comment on function jobs.end_drain(uuid, text) is 'A drain is over; the last one ends its run. Rings for other work that waits. '
  'Definer: the engine''s tables are written by its functions only.';

-- What every start by hand begins with: it may start, and does not wait for the cadence.
create function jobs.begin_by_hand(p_job text)
returns jobs.definitions
language plpgsql
set search_path = ''
as $$
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
$$;

comment on function jobs.begin_by_hand(text) is 'The definition of a job that may be started by hand; lanes that rest wake. Errors: P0002 no such job, 55000 paused, or everything stopped.';

-- From the SQL editor, and for whoever does not drain.
create function jobs.start(job text)
returns bigint
language plpgsql security definer
set search_path = ''
as $$
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
$$;

grant execute on function jobs.start(text) to service_role;
comment on function jobs.start(text) is 'Starts a job now, without waiting for it: a worker, or jobs.work after the next tick, does what there is. Returns the run of a scheduled job; null for a queue, whose work has a run of its own. '
  'Errors: P0002 no such job, 55000 paused, or everything stopped. Definer: the engine''s tables are written by its functions only.';

create function jobs.run_now(job text)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
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
$$;

grant execute on function jobs.run_now(text) to service_role;
comment on function jobs.run_now(text) is 'For who drains the job: {"run_id","drain_id","kind"} (a SQL job by jobs.work_batch). Whoever does not calls jobs.start. Errors: P0002 no such job, 55000 paused, or everything stopped. '
  'Definer: the engine''s tables are written by its functions only.';

create function jobs.run_result(run_id bigint)
returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_build_object(
    'message', case when r.finished_at is null then 'Still running.' else r.message end,
    'results', jsonb_build_object('processed', c.processed, 'errors', c.errors),
    'timestamp', coalesce(r.finished_at, clock_timestamp()))
  from jobs.runs r
  cross join lateral jobs.run_counts(r.run_id) c
  where r.run_id = run_result.run_id
$$;

grant execute on function jobs.run_result(bigint) to service_role;
comment on function jobs.run_result(bigint) is 'A run in the one shape: {"message","results":{"processed","errors"},"timestamp"}. '
  'Definer: reads definitions and history without a grant on each.';

create function jobs.list()
returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
      'job', d.job, 'meaning', d.meaning, 'kind', d.kind, 'scope', d.scope, 'paused', d.paused,
      'schedule', d.schedule, 'time_zone', d.time_zone, 'next_slot_at', d.next_slot_at,
      'last_run', (
        select jsonb_build_object('run_id', r.run_id, 'trigger', r.trigger, 'status', r.status, 'started_at', r.started_at,
          'finished_at', r.finished_at, 'processed', r.processed, 'failed', r.failed, 'message', r.message)
        from jobs.runs r where r.job = d.job order by r.started_at desc limit 1)
    ) order by d.job), '[]')
  from jobs.definitions d
$$;

grant execute on function jobs.list() to service_role;
comment on function jobs.list() is 'All jobs with their last run. Definer: reads definitions and history without a grant on each.';

create function jobs.health()
returns jsonb
language sql stable security definer
set search_path = ''
as $$
  with fact as (
    select clock_timestamp() as now, p.stopped, p.last_tick_at, p.tick_seconds from jobs.platform p
  ),
  reason as (
    select 'No tick has come yet.' as text from fact where fact.last_tick_at is null
    union all
    select format('The last tick came %s seconds ago; it should come every %s.',
      round(extract(epoch from fact.now - fact.last_tick_at)), fact.tick_seconds)
    from fact where fact.last_tick_at < fact.now - make_interval(secs => 3 * fact.tick_seconds + 5)
    union all
    select 'All background work is stopped by the platform''s switch.' from fact where fact.stopped
    union all
    select 'Vault lacks project_url or a cron_secret of 32 characters or more.'
    where length(coalesce(private.platform_secret('cron_secret'), '')) < 32 or coalesce(private.platform_secret('project_url'), '') = ''
    union all
    select format('%s of the last doorbells of %s were not answered.', count(*), d.job)
    from jobs.drains d, fact
    where d.rung_at > fact.now - interval '5 minutes' and d.error = 'the doorbell was not answered'
    group by d.job
    having count(*) >= 3 and count(*) > (
      select count(*) from jobs.drains ok, fact f where ok.job = d.job and ok.rung_at > f.now - interval '5 minutes' and ok.answered_at is not null)
    union all
    select format('Alert: %s', a.incident) from jobs.alerts a where a.closed_at is null and a.tenant_id is null
  )
  select jsonb_build_object(
    'healthy', not exists (select from reason),
    'reasons', coalesce((select jsonb_agg(reason.text) from reason), '[]'),
    'checked_at', clock_timestamp())
$$;

grant execute on function jobs.health() to service_role;
comment on function jobs.health() is 'Healthy or not, and why: {"healthy","reasons","checked_at"}. Names no tenant. '
  'Definer: looks at what pg_cron and the engine have, which no API role may.';
