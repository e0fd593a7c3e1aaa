-- The tick: reap, open slots, ring. The only thing that pg_cron calls.

-- What calls a job's own SQL is a step of its own: 'reap <job>' or 'schedule <job>'. It is written down and committed before it is
-- taken, so that a step that hangs, or that takes its session with it, is known afterwards: the tick goes on without it for a while.
create table jobs.steps (
  step text primary key,
  job text not null,
  began_at timestamptz not null,
  tries integer not null default 1,
  retry_at timestamptz not null,
  constraint step_is_one_of_the_known check (step = 'reap ' || job or step = 'schedule ' || job)
);

alter table jobs.steps enable row level security;
grant select on jobs.steps to service_role;

comment on table jobs.steps is
  'Steps of the tick that run a job''s own SQL and have begun. One that came to its end has no row: what is left here was stopped, and is tried again at retry_at.';

-- Items of batches whose lease is over go back. Where a call without an idempotency key had begun, the item ends as unknown.
create function jobs.reap(p_now timestamptz, p_limit integer default 50, p_job text default null)
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
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
$$;

comment on function jobs.reap(timestamptz, integer, text) is 'Takes back the items of expired batches: each counts as a lost attempt, or as unknown where its call had begun.';

-- Drains that nobody has heard of are over; a stretch of work without a drain is a finished run.
create function jobs.finish_lost_drains(p_now timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
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
$$;

comment on function jobs.finish_lost_drains(timestamptz) is 'Ends drains that did not answer or fell silent, runs without a drain, and scheduled runs whose items have all ended.';

-- A rung doorbell has 10 seconds to be answered; a drain is heard of at every batch, and heartbeats renew its lease.
create function jobs.drain_is_live(p_drain jobs.drains, p_lease_seconds integer, p_now timestamptz)
returns boolean
language sql immutable
set search_path = ''
as $$
  select (p_drain).ended_at is null and case
    when (p_drain).answered_at is null then (p_drain).rung_at > p_now - interval '10 seconds'
    -- A worker extends its lease at every third of it. Not much longer than one: what it held is back by then, and waits for a free drain.
    else greatest((p_drain).answered_at, (p_drain).seen_at) > p_now - make_interval(secs => p_lease_seconds + least(p_lease_seconds, 10)) end
$$;

comment on function jobs.drain_is_live(jobs.drains, integer, timestamptz) is 'True while a doorbell may still be answered or its drain was heard of within a lease and ten seconds.';

-- Rings as many doorbells as there are waiting lanes and free drains. Two index probes per job when idle.
create function jobs.ring(p_now timestamptz)
returns integer
language plpgsql
set search_path = ''
as $$
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
$$;

comment on function jobs.ring(timestamptz) is 'Wakes workers through pg_net for every job with waiting lanes and free drains; returns how many doorbells were rung.';

create function jobs.ring_once(p_job text, p_url text, p_secret text, p_now timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_ticket uuid := gen_random_uuid();
  v_body jsonb := jsonb_build_object('ticket', v_ticket);
  v_seconds text := floor(extract(epoch from p_now))::bigint::text;
  v_request_id bigint;
begin
  v_request_id := net.http_post(
    url := rtrim(p_url, '/') || '/functions/v1/worker',
    body := v_body,
    headers := jsonb_build_object(
      'Content-Type', 'application/json',
      -- pg_net sends exactly the text of the jsonb, so that is what is signed. The secret itself never enters the queue.
      'x-onecron-signature', format('t=%s,v1=%s', v_seconds,
        encode(extensions.hmac(convert_to(v_seconds || '.' || v_body::text, 'UTF8'), convert_to(p_secret, 'UTF8'), 'sha256'), 'hex'))),
    timeout_milliseconds := 2000);
  insert into jobs.drains (drain_id, job, rung_at, request_id) values (v_ticket, p_job, p_now, v_request_id);
end
$$;

comment on function jobs.ring_once(text, text, text, timestamptz) is 'Sends one signed doorbell. It may get lost: then nobody answers, and a later tick rings again.';

-- The server's clock was set back: what was written down under the later time must not stand still until it has come again.
-- Slots that have had their run are known, so none is opened twice.
create function jobs.follow_clock(p_now timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
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
$$;

comment on function jobs.follow_clock(timestamptz) is
  'After the server''s clock was set back: schedules, sleeping lanes, leases, drains and watches go by the new time. Called by the tick that sees it.';

-- The steps that are due, by name: first what is to be taken back, then slots. Nothing starts while everything is stopped.
create function jobs.due_steps(p_now timestamptz)
returns setof text
language sql stable
set search_path = ''
as $$
  select distinct 'reap ' || b.job from jobs.batches b where b.lease_until <= p_now
  union all
  select 'schedule ' || d.job from jobs.definitions d
  where d.next_slot_at <= p_now and not d.paused and not (select p.stopped from jobs.platform p)
$$;

comment on function jobs.due_steps(timestamptz) is 'The steps of the tick that are due: jobs with expired leases, jobs with a slot.';

create function jobs.next_step(p_after text default '', p_now timestamptz default clock_timestamp())
returns text
language plpgsql
set search_path = ''
set enable_seqscan = off
set lock_timeout = '2s'
as $$
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
$$;

comment on function jobs.next_step(text, timestamptz) is
  'The next step of a tick after the one named, written down as begun; null when none is left. The caller commits, and then takes it.';

create function jobs.step_message(p_step jobs.steps, p_why text)
returns text
language sql stable
set search_path = ''
as $$
  select format('%s: %s. It is tried again after %s UTC; the other jobs go on.',
    case when (p_step).step like 'reap %' then format('Batches of %s could not be taken back', (p_step).job) else format('The slot of %s could not be started', (p_step).job) end,
    p_why, to_char((p_step).retry_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'))
$$;

comment on function jobs.step_message(jobs.steps, text) is 'What an alert says of a step that has no end.';

create function jobs.take_step(p_step text, p_limit text default null, p_now timestamptz default clock_timestamp())
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set enable_material = off
set plan_cache_mode = force_generic_plan
set jit = off
set lock_timeout = '2s'
as $$
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
$$;

comment on function jobs.take_step(text, text, timestamptz) is
  'Takes a step: items taken back, or runs opened. Null when it was cancelled: then the caller must take no other. '
  'The limit (such as 60s) ends the session; where Postgres is older than 17 there is none but statement_timeout.';

-- Doorbells; what goes wrong with them is an alert and stops nothing else.
create function jobs.try_ring(p_now timestamptz default clock_timestamp())
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set enable_material = off
set plan_cache_mode = force_generic_plan
set jit = off
set lock_timeout = '2s'
as $$
begin
  if (select p.stopped from jobs.platform p) then
    return 0;
  end if;
  return jobs.ring(p_now);
exception when assert_failure or others then
  perform jobs.open_alert(null, 'doorbell', 'No doorbell could be rung: ' || sqlerrm);
  return 0;
end
$$;

comment on function jobs.try_ring(timestamptz) is 'Rings unless everything is stopped; an error opens the alert doorbell.';

-- Why this is no time for a tick; null when it is.
create function jobs.reason_to_skip(p_now timestamptz)
returns text
language plpgsql
set search_path = ''
as $$
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
$$;

comment on function jobs.reason_to_skip(timestamptz) is 'Takes the tick''s lock, and follows the clock where it was set back. Null: this tick may go on.';

-- What a tick does without any job's own SQL: drains that are lost, doorbells, alerts, history.
create function jobs.tend(p_now timestamptz)
returns integer
language plpgsql
set search_path = ''
as $$
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
$$;

comment on function jobs.tend(timestamptz) is 'Ends lost drains, rings doorbells, watches for incidents, keeps history small. Returns how many doorbells were rung.';

-- A caller that commits each step by itself, as pg_cron's entry does, leaves them out here, so that no job's own SQL can hold the rest up.
create function jobs.tick(steps boolean default true)
returns jsonb
language plpgsql security definer
set search_path = ''
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set enable_material = off
set plan_cache_mode = force_generic_plan
set jit = off
set lock_timeout = '2s'
as $$
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
$$;

grant execute on function jobs.tick(boolean) to service_role;
comment on function jobs.tick(boolean) is 'One short transaction: takes back expired leases, opens due slots, rings doorbells where work waits, keeps history small. '
  'Without steps (what runs a job''s own SQL: the first two) it is how the one pg_cron entry begins, which then takes and commits them one by one. '
  'Definer: the engine''s tables, Vault''s cron secret and pg_net are the owner''s.';

-- Old history away, the extensions' own logs small.
create function jobs.forget_old(p_now timestamptz)
returns void
language plpgsql
set search_path = ''
-- It waits for rows, and nobody waits behind it; but the tick does.
set lock_timeout = '500ms'
as $$
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
$$;

comment on function jobs.forget_old(timestamptz) is 'Removes old drains, runs, slots and alerts, and what pg_cron and pg_net remember of ticks and doorbells.';

-- Once an hour. What fails is tried again five minutes later, not at every tick, and stops nothing else.
create function jobs.clean(p_now timestamptz)
returns void
language plpgsql
set search_path = ''
-- Once an hour, over whole tables: not as the tick looks a row up.
set enable_seqscan = on
set enable_hashjoin = on
set plan_cache_mode = auto
-- Others wait behind the one who waits for a table: whoever reads history for long is not worth that, partitions are made days ahead.
set lock_timeout = '100ms'
as $$
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
$$;

comment on function jobs.clean(timestamptz) is 'At most once an hour: makes and drops history partitions, forgets what is old. After an error again in five minutes.';

-- One partition, unless it is there. It cannot be made for a time that already has rows in the default partition; those stay there.
create function jobs.make_partition(p_table text, p_column text, p_name text, p_from date, p_until date)
returns void
language plpgsql
set search_path = ''
as $$
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
$$;

comment on function jobs.make_partition(text, text, text, date, date) is 'Makes a partition of history for the time from p_from until p_until (UTC days), if it is missing and nothing is in its place.';

create function jobs.make_partitions(p_now timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_today date := (p_now at time zone 'UTC')::date;
  v_month date := date_trunc('month', p_now at time zone 'UTC')::date;
  v_day date;
  v_name text;
begin
  for v_day in select d::date from generate_series(v_today, v_today + 3, interval '1 day') d loop
    perform jobs.make_partition('attempts', 'finished_at', format('attempts_%s', to_char(v_day, 'YYYYMMDD')), v_day, v_day + 1);
  end loop;
  for v_day in select d::date from generate_series(v_month, v_month + interval '1 month', interval '1 month') d loop
    perform jobs.make_partition('runs', 'started_at', format('runs_%s', to_char(v_day, 'YYYYMM')), v_day, (v_day + interval '1 month')::date);
    perform jobs.make_partition('run_tenants', 'started_at', format('run_tenants_%s', to_char(v_day, 'YYYYMM')), v_day, (v_day + interval '1 month')::date);
  end loop;
  for v_name in
    select c.relname from pg_catalog.pg_inherits h join pg_catalog.pg_class c on c.oid = h.inhrelid
    where (h.inhparent = 'jobs.attempts'::regclass and c.relname ~ '^attempts_[0-9]{8}$'
        and c.relname < format('attempts_%s', to_char(v_today - 30, 'YYYYMMDD')))
      -- A month goes when its last day is 90 days ago.
      or (h.inhparent = 'jobs.runs'::regclass and c.relname ~ '^runs_[0-9]{6}$' and c.relname < format('runs_%s', to_char(v_today - 90, 'YYYYMM')))
      or (h.inhparent = 'jobs.run_tenants'::regclass and c.relname ~ '^run_tenants_[0-9]{6}$'
        and c.relname < format('run_tenants_%s', to_char(v_today - 90, 'YYYYMM')))
  loop
    execute format('drop table jobs.%I', v_name);
  end loop;
end
$$;

comment on function jobs.make_partitions(timestamptz) is
  'History partitions: of attempts today and three days ahead are there, those older than 30 days are dropped; of runs this month and the next, those older than 90 days are dropped.';

-- The one entry of pg_cron. Seconds need pg_cron 1.5; an older one ticks every minute.
create function jobs.start_tick(seconds integer default null)
returns text
language plpgsql security definer
set search_path = ''
as $$
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
$$;

grant execute on function jobs.start_tick(integer) to service_role;
comment on function jobs.start_tick(integer) is 'Makes or changes the one pg_cron entry: a tick every so many seconds (default: as set before, 10); every minute where pg_cron is older than 1.5. '
  'Definer: pg_cron''s entries belong to the owner.';
