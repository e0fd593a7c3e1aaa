-- Alerts: what a person must know, once per incident, closed when it is over.

create function jobs.watch(p_now timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_found record;
  v_open text[] := '{}';
begin
  for v_found in
    -- A run that ended in error.
    select format('failed %s', r.job) as incident,
      format('The last run of %s failed: %s done, %s failed.', r.job, r.processed, r.failed) as message
    from jobs.definitions d
    cross join lateral (
      select x.* from jobs.runs x where x.job = d.job and x.finished_at is not null order by x.started_at desc limit 1) r
    where r.status = 'error'
    union all
    -- A scheduled run that should be over.
    select format('overdue %s', r.job), format('A run of %s started at %s and is not over.', r.job, r.started_at)
    from jobs.runs r
    where r.finished_at is null and r.trigger = 'schedule' and r.started_at < p_now - interval '1 hour'
    union all
    -- Work waits longer than the plans promise, and more comes than goes.
    select format('backlog %s', b.job), format('%s: the oldest ready item waits since %s; the target of its plan is %s s. Drained per minute: %s.',
      b.job, b.since, b.target_seconds, b.per_minute)
    from (
      select l.job, min(n.run_at) as since, min(coalesce(p.target_seconds, 600)) as target_seconds,
        (select count(*) / 5 from jobs.attempts a where a.job = l.job and a.finished_at > p_now - interval '5 minutes') as per_minute
      from (select x.* from jobs.lanes x where x.awake order by x.vtime limit 200) l
      join lateral (
        select i.run_at from jobs.items i where i.job = l.job and i.tenant_id = l.tenant_id and i.batch_id is null order by i.run_at, i.item_id limit 1) n on true
      left join public.tenants t on t.id = l.tenant_id
      left join public.plans p on p.plan_id = t.plan_id
      where n.run_at < p_now - make_interval(secs => coalesce(p.target_seconds, 600))
      group by l.job
    ) b
    union all
    -- Items died within the last hour.
    select format('dead %s', d.job), format('%s items of %s died within the last hour. jobs.why(item_id) tells why; jobs.replay tries them again.', count(*), d.job)
    from jobs.dead_items d where d.died_at > p_now - interval '1 hour' group by d.job
    union all
    -- Doorbells that nobody answers.
    select format('doorbells %s', d.job), format('%s of the last doorbells of %s were not answered within 10 s.', count(*) filter (where d.answered_at is null), d.job)
    from jobs.drains d
    where d.rung_at between p_now - interval '5 minutes' and p_now - interval '10 seconds'
    group by d.job
    having count(*) filter (where d.answered_at is null) >= 3 and count(*) filter (where d.answered_at is null) > count(*) filter (where d.answered_at is not null)
    union all
    -- The clock stood still: this tick came much later than it should.
    select 'tick', format('No tick came between %s and %s.', p.last_tick_at, p_now)
    from jobs.platform p where p.last_tick_at < p_now - make_interval(secs => 5 * p.tick_seconds + 60)
  loop
    v_open := v_open || v_found.incident;
    perform jobs.open_alert(null, v_found.incident, v_found.message);
  end loop;
  -- What this looks for and does not find any more is over.
  update jobs.alerts a set closed_at = p_now
  where a.closed_at is null and a.tenant_id is null and a.incident ~ '^(failed|overdue|backlog|dead|doorbells|tick)( |$)' and a.incident <> all (v_open);
end
$$;

comment on function jobs.watch(timestamptz) is
  'Opens and closes the alerts that can be seen from the tables: failed, overdue, backlog, dead items, doorbells lost, tick missing. Called by the tick once a minute.';
