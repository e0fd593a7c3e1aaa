-- Explain and look: why an item is not running, how the queues stand, whether the plans' promises are kept.

create function jobs.why(item_id bigint, tenant_id uuid default null)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
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
$$;

create function jobs.provider_is_down(p_provider public.provider)
returns boolean
language sql stable
set search_path = ''
as $$
  select exists (
    select from jobs.breakers b where b.tenant_id = jobs.everyone_id() and b.provider = p_provider and b.state = 'open')
$$;

grant execute on function jobs.why(bigint, uuid) to service_role;
comment on function jobs.why(bigint, uuid) is
  'Why an item is not running, in words: running, stopped, paused, breaker, due at, capped (its tenant, or the job or provider for all), rate limited, asleep until because, behind n items with the expected start, no tick or worker comes, dead, or ended how. '
  'Definer: reads definitions and history without a grant on each.';
comment on function jobs.provider_is_down(public.provider) is 'True while the breaker of the provider as a whole is open.';

-- Why, for members: their own tenant's items only.
create function private.why(p_tenant_id uuid, p_item_id bigint)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
begin
  perform private.require_role(p_tenant_id, 'viewer');
  return jobs.why(p_item_id, p_tenant_id);
end
$$;

grant execute on function private.why(uuid, bigint) to authenticated;
comment on function private.why(uuid, bigint) is 'Behind public.why. Definer: items belong to the engine. Checks that the caller is a member.';

create function public.why(tenant_id uuid, item_id bigint)
returns text
language sql stable
set search_path = ''
as $$
  select private.why(why.tenant_id, why.item_id)
$$;

grant execute on function public.why(uuid, bigint) to authenticated;
comment on function public.why(uuid, bigint) is 'For members: why an item of their tenant is not running.';

-- The queues as they stand, one row per lane with work or with a reason not to work. These two plan for the tenants that are asked
-- for: one tenant's rows are found by index, however many others there are (measured: 0.2 ms instead of 150 ms beside a million attempts).
create function jobs.queue_state(p_tenant_ids uuid[] default null)
returns table (
  tenant_id uuid, job text, plan_id text, awake boolean, reason text, detail text, wake_at timestamptz, ready bigint, waiting bigint, in_flight bigint,
  oldest_ready_seconds numeric, dead bigint, expected_start timestamptz
)
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  select l.tenant_id, l.job, t.plan_id, l.awake, l.reason, l.detail, l.wake_at,
    coalesce(i.ready, 0), coalesce(i.waiting, 0), coalesce(f.open, 0)::bigint, i.oldest_ready_seconds, coalesce(d.dead, 0),
    -- What came in now would start when what is ready has started, at the pace of the last five minutes; not before the lane wakes.
    case
      when l.awake or l.wake_at is not null or l.reason = 'idle' then date_trunc('second', greatest(l.wake_at, now())
        + make_interval(secs => coalesce(i.ready / nullif(s.started / 300.0, 0), 0)::double precision)) end
  from jobs.lanes l
  left join public.tenants t on t.id = l.tenant_id
  left join lateral (
    select count(*) filter (where i.run_at <= now()) as ready, count(*) filter (where i.run_at > now()) as waiting,
      round(extract(epoch from now() - min(i.run_at) filter (where i.run_at <= now())), 1) as oldest_ready_seconds
    from jobs.items i where i.job = l.job and i.tenant_id = l.tenant_id
  ) i on true
  left join lateral (select sum(e.open) as open from jobs.leases e where e.tenant_id = l.tenant_id and e.job = l.job) f on true
  left join lateral (select count(*) as dead from jobs.dead_items x where x.tenant_id = l.tenant_id and x.job = l.job) d on true
  left join (
    select a.tenant_id, a.job, count(*) as started
    from jobs.attempts a
    where a.finished_at > now() - interval '5 minutes' and (p_tenant_ids is null or a.tenant_id = any (p_tenant_ids))
    group by a.tenant_id, a.job
  ) s on s.tenant_id = l.tenant_id and s.job = l.job
  where p_tenant_ids is null or l.tenant_id = any (p_tenant_ids);
end
$$;

-- How long items waited beyond their due time, and how they ended, since a moment: by job and tenant, or by job and plan.
create function jobs.service_report(p_since timestamptz, p_tenant_ids uuid[] default null, p_by_tenant boolean default true)
returns table (
  job text, tenant_id uuid, plan_id text, tries bigint, succeeded bigint, success_rate numeric, per_minute numeric,
  wait_p50_seconds numeric, wait_p95_seconds numeric, wait_p99_seconds numeric, target_seconds integer, within_target numeric
)
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  select a.job, g.tenant_id, t.plan_id, count(*), count(*) filter (where a.outcome = 'done'),
    -- Being put off (a throttle, a snooze, a broken credential) is neither success nor failure.
    round(count(*) filter (where a.outcome = 'done')::numeric
      / nullif(count(*) filter (where a.outcome in ('done', 'unknown', 'retry', 'refused', 'lost')), 0), 4),
    round(count(*) / greatest(extract(epoch from now() - p_since) / 60, 1), 4),
    round(percentile_cont(0.5) within group (order by w.seconds)::numeric, 3),
    round(percentile_cont(0.95) within group (order by w.seconds)::numeric, 3),
    round(percentile_cont(0.99) within group (order by w.seconds)::numeric, 3),
    p.target_seconds,
    round(count(*) filter (where w.seconds <= p.target_seconds)::numeric / count(*), 4)
  from jobs.attempts a
  left join public.tenants t on t.id = a.tenant_id
  left join public.plans p on p.plan_id = t.plan_id
  cross join lateral (select greatest(extract(epoch from a.started_at - a.due_at), 0)::double precision as seconds) w
  cross join lateral (select case when p_by_tenant then a.tenant_id end as tenant_id) g
  where a.finished_at >= p_since and a.outcome <> 'cancelled' and (p_tenant_ids is null or a.tenant_id = any (p_tenant_ids))
  group by a.job, g.tenant_id, t.plan_id, p.target_seconds;
end
$$;

comment on function jobs.queue_state(uuid[]) is 'Every lane with its state, its waiting, ready, running and dead items, the age of the oldest ready one, and when one that came now would start (null: not by itself).';
comment on function jobs.service_report(timestamptz, uuid[], boolean) is
  'Tries, success rate, throughput, waiting times and the share started within the plan''s target, since a moment; per job and tenant, or per job and plan.';

-- For admins (service_role): views over everything.
create view jobs.queues with (security_invoker = true) as
  select q.* from jobs.queue_state() q;

create view jobs.service_levels with (security_invoker = true) as
  select s.* from jobs.service_report(now() - interval '1 day') s;

create view jobs.plan_levels with (security_invoker = true) as
  select s.job, s.plan_id, s.tries, s.success_rate, s.per_minute, s.wait_p50_seconds, s.wait_p95_seconds, s.wait_p99_seconds,
    s.target_seconds, s.within_target
  from jobs.service_report(now() - interval '1 day', null, false) s;

grant execute on function jobs.queue_state(uuid[]) to service_role;
grant execute on function jobs.service_report(timestamptz, uuid[], boolean) to service_role;
grant select on jobs.queues, jobs.service_levels, jobs.plan_levels to service_role;
comment on view jobs.queues is 'Every lane: awake or why not, what waits, what is in flight, the oldest ready item, dead ones, and when one that came now would start.';
comment on view jobs.service_levels is 'The last day per job and tenant: tries, success, waiting times, share within the plan''s target.';
comment on view jobs.plan_levels is 'The last day per job and plan: tries, success, throughput, waiting times; is each plan''s promised start kept?';

-- For members: the same of their own tenants. The functions are definers, the filter is the membership.
create function private.my_queues()
returns table (
  tenant_id uuid, job text, plan_id text, awake boolean, reason text, detail text, wake_at timestamptz, ready bigint, waiting bigint, in_flight bigint,
  oldest_ready_seconds numeric, dead bigint, expected_start timestamptz
)
language sql stable security definer
set search_path = ''
as $$
  select q.* from jobs.queue_state(array(select private.tenant_ids('viewer'))) q
$$;

create function private.my_service_levels()
returns table (
  job text, tenant_id uuid, plan_id text, tries bigint, succeeded bigint, success_rate numeric, per_minute numeric,
  wait_p50_seconds numeric, wait_p95_seconds numeric, wait_p99_seconds numeric, target_seconds integer, within_target numeric
)
language sql stable security definer
set search_path = ''
as $$
  select s.* from jobs.service_report(now() - interval '1 day', array(select private.tenant_ids('viewer'))) s
$$;

grant execute on function private.my_queues() to authenticated;
grant execute on function private.my_service_levels() to authenticated;
comment on function private.my_queues() is 'Behind public.job_queues. Definer: lanes belong to the engine. Only tenants of the caller.';
comment on function private.my_service_levels() is 'Behind public.job_service_levels. Definer: attempts belong to the engine. Only tenants of the caller.';

create view public.job_queues with (security_invoker = true) as
  select q.* from private.my_queues() q;

create view public.job_service_levels with (security_invoker = true) as
  select s.* from private.my_service_levels() s;

grant select on public.job_queues, public.job_service_levels to authenticated;
comment on view public.job_queues is 'For members: the queues of their own tenants.';
comment on view public.job_service_levels is 'For members: what service their own tenants had in the last day.';
