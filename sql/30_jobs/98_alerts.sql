-- Alerts: what a person must know, once per incident, closed when it is over.

-- What was seen of each job a minute ago: from two looks follows whether its backlog grows.
create table jobs.backlogs (
  job text primary key,
  seen_at timestamptz not null,
  ready bigint not null,
  grown_for integer not null default 0,
  growth_per_minute numeric not null default 0,
  constraint backlogs_job_fkey foreign key (job) references jobs.definitions (job) on delete cascade
);

alter table jobs.backlogs enable row level security;
grant select on jobs.backlogs to service_role;

comment on table jobs.backlogs is 'Per job how many items were ready at the last look, by how many each minute they have grown since the one before, and for how many looks in a row.';

-- Looks at all queues, at most once in half a minute. What is counted is bounded: the items of the 200 lanes that are furthest behind, 500 each.
create function jobs.look_at_backlogs(p_now timestamptz)
returns void
language sql
set search_path = ''
as $$
  insert into jobs.backlogs as b (job, seen_at, ready)
  select d.job, p_now, coalesce(w.ready, 0)
  from jobs.definitions d
  left join lateral (
    select sum(i.ready) as ready
    from (select l.tenant_id from jobs.lanes l where l.job = d.job and l.awake order by l.vtime limit 200) l
    cross join lateral (
      select count(*) as ready
      from (
        select from jobs.items i
        where i.job = d.job and i.tenant_id = l.tenant_id and i.run_at <= p_now
        order by i.run_at, i.item_id
        limit 500
      ) few
    ) i
  ) w on true
  on conflict (job) do update
    set ready = excluded.ready, seen_at = excluded.seen_at,
      growth_per_minute = 60 * (excluded.ready - b.ready) / greatest(1, extract(epoch from excluded.seen_at - b.seen_at)),
      -- A look that comes much later than the one before tells nothing of a rate.
      grown_for = case when excluded.ready > b.ready and excluded.seen_at < b.seen_at + interval '5 minutes' then b.grown_for + 1 else 0 end
    where b.seen_at <= excluded.seen_at - interval '30 seconds'
$$;

comment on function jobs.look_at_backlogs(timestamptz) is 'Notes how many items of each job are ready, and how that has changed since the last look.';

-- When the promise of the strictest plan that waits will break: the wait is what is ready ÷ what is done per minute, and the backlog grows.
create function jobs.forecast(p_now timestamptz)
returns table (job text, ready bigint, growth_per_minute numeric, drained_per_minute numeric, target_seconds integer, breach_at timestamptz)
language sql stable
set search_path = ''
set enable_bitmapscan = on
as $$
  select f.job, f.ready, round(f.growth_per_minute, 1), round(f.drained, 1), f.target,
    -- What comes then waits for longer than the target, which is over a target later. Never further away than a year.
    p_now + make_interval(secs => f.target + 60 * least(525600, greatest(0, f.target / 60.0 * f.drained - f.ready) / f.growth_per_minute)::double precision)
  from (
    select b.job, b.ready, b.growth_per_minute, t.target,
      (select count(*) / 5.0 from jobs.attempts a
        where a.job = b.job and a.finished_at > p_now - interval '5 minutes' and a.outcome in ('done', 'unknown', 'refused', 'cancelled')) as drained
    from jobs.backlogs b
    cross join lateral (
      select coalesce(min(p.target_seconds), 600) as target
      from (select l.tenant_id from jobs.lanes l where l.job = b.job and l.awake order by l.vtime limit 200) l
      left join public.tenants x on x.id = l.tenant_id
      left join public.plans p on p.plan_id = x.plan_id
    ) t
    -- Two looks in a row: one burst, as each slot of a schedule is one, is no trend.
    where b.grown_for >= 2 and b.growth_per_minute > 0
  ) f
$$;

comment on function jobs.forecast(timestamptz) is
  'Jobs whose backlog grows faster than it drains, with the time at which the strictest target of the plans that wait is expected to break.';

create function jobs.watch(p_now timestamptz)
returns void
language plpgsql
set search_path = ''
set enable_bitmapscan = on
-- Where a table is locked, as by a migration, the next tick looks.
set lock_timeout = '500ms'
as $$
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
$$;

comment on function jobs.watch(timestamptz) is
  'Opens and closes the alerts that can be seen from the tables: failed, overdue, backlog (growing or too old), dead items, doorbells lost, steps without an end, tick missing. Called by the tick once a minute.';
