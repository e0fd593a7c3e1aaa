-- failed drains: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function jobs.clean (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  update jobs.platform p set cleaned_at = p_now where p.cleaned_at < p_now - interval '1 hour';
  if not found then
    return;
  end if;
  perform jobs.make_partitions(p_now);
  perform private.learn_time_zones();
  delete from jobs.drains d where d.ended_at < p_now - interval '1 day';
  delete from jobs.slots s where s.slot < p_now - interval '90 days';
  -- What came before its partition was made; nearly always nothing.
  delete from jobs.runs_default r where r.finished_at < p_now - interval '90 days';
  delete from jobs.run_tenants_default r where r.started_at < p_now - interval '90 days';
  delete from jobs.attempts_default a where a.finished_at < p_now - interval '30 days';
  delete from jobs.alerts a where a.closed_at < p_now - interval '90 days';
  -- What a crash of the server cut off has no end.
  delete from cron.job_run_details d where coalesce(d.end_time, d.start_time) < p_now - interval '1 day';
  -- Answers to doorbells say nothing that the drains do not say. pg_net's own clean-up waits for its next request.
  delete from net._http_response r where r.created < p_now - interval '1 hour';
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
    message = case
      when c.processed = 0 and c.failed = 0 and c.errors = '[]' then 'Nothing to do.'
      else format('%s done, %s failed.', c.processed, c.failed) end
  from jobs.run_counts(p_run_id) c
  where r.run_id = p_run_id and r.finished_at is null
$function$;

create or replace function jobs.run_counts (
  p_run_id bigint
)
  returns table (
    processed bigint,
    failed bigint,
    errors jsonb
  )
  language sql
  stable
  set search_path to ''
  AS $function$
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
$function$;

create or replace function jobs.watch (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_bitmapscan to 'on'
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
        join jobs.items i on i.job = l.job and i.tenant_id = l.tenant_id and i.batch_id is null
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
        select i.run_at from jobs.items i where i.job = l.job and i.tenant_id = l.tenant_id and i.batch_id is null order by i.run_at, i.item_id limit 1) n on true
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
    or a.incident like 'schedule %' and not exists (
      select from jobs.definitions d where format('schedule %s', d.job) = a.incident and d.next_slot_at <= p_now and not d.paused));
end
$function$;

comment on function "jobs"."finish_run"(bigint) is 'Ends a run: error when all failed, or its drain did and nothing was done; warning when something failed, else success.';

comment on function "jobs"."run_counts"(bigint) is 'Processed, failed and the first errors of a run so far, those of its drains before those of its items.';
