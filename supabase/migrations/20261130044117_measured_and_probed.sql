-- wip: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function jobs.batch_answer (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_tenants json
)
  returns json
  language plpgsql
  set search_path to ''
  AS $function$
begin
  return json_build_object(
    'batch_id', (p_batch).batch_id, 'job', (p_batch).job, 'now', clock_timestamp(), 'lease_until', (p_batch).lease_until,
    'lease_seconds', (p_definition).lease_seconds, 'cost_unit', (p_definition).cost_unit, 'tenants', p_tenants);
end
$function$;

create or replace function jobs.judge_lanes (
  p_definition jobs.definitions,
  p_tenant_ids uuid[],
  p_paused boolean[],
  p_oldest_batch bigint,
  p_now timestamp with time zone
)
  returns table (
    tenant_id uuid,
    weight double precision,
    room integer,
    share integer,
    rate integer,
    reason text,
    detail text,
    wake_at timestamp with time zone
  )
  language plpgsql
  stable
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
#variable_conflict use_column
begin
  -- Most of what follows is about providers. A job without one has no use for it.
  if (p_definition).provider is null then
    return query
    select lane.tenant_id, lane.weight, lane.room, lane.share, null::integer,
      case when lane.is_paused or not lane.is_served then 'paused' when lane.room <= 0 then 'cap' end,
      case when lane.is_paused then 'this lane is paused' when not lane.is_served then 'the tenant is not active' end,
      null::timestamptz
    from (
      select u.tenant_id, u.is_paused,
        u.tenant_id = jobs.platform_id() or coalesce(t.status = 'active', false) as is_served,
        coalesce(p.weight, 1)::double precision as weight,
        coalesce(p.batch_share, (p_definition).batch_size) as share,
        (coalesce(p.cap, (p_definition).batch_size) - f.in_flight)::integer as room
      from unnest(p_tenant_ids, p_paused) as u (tenant_id, is_paused)
      left join public.tenants t on t.id = u.tenant_id
      left join public.plans p on p.plan_id = t.plan_id
      cross join lateral (
        -- Compared as a row, which only the primary key can answer: by batch alone all lanes would be read for each lane.
        select coalesce(sum(e.open), 0) as in_flight from jobs.leases e
        where e.tenant_id = u.tenant_id and e.job = (p_definition).job
          and (e.tenant_id, e.job, e.batch_id) >= (u.tenant_id, (p_definition).job, p_oldest_batch)
      ) f
    ) lane;
    return;
  end if;

  return query
  select lane.tenant_id, lane.weight, least(lane.room, lane.rate_room), lane.share, lane.rate,
    case
      when lane.is_paused or not lane.is_served then 'paused'
      when lane.parked_because is not null or lane.open_until > p_now or lane.has_no_credential or lane.is_probed then 'breaker'
      when lane.room <= 0 then 'cap'
      when lane.rate_room <= 0 or lane.throttled_until is not null then 'rate limit'
    end,
    case
      when lane.is_paused then 'this lane is paused'
      when not lane.is_served then 'the tenant is not active'
      when lane.has_no_credential then format('no %s credential', (p_definition).provider)
      when lane.parked_because is not null then lane.parked_because
      when lane.open_until > p_now then lane.open_because
      when lane.is_probed then 'an item of another job probes the provider'
      when lane.room > 0 then lane.throttled_because
    end,
    case
      when lane.is_paused or not lane.is_served or lane.has_no_credential or lane.parked_because is not null then null
      when lane.open_until > p_now then lane.open_until
      -- An answer wakes it at once; when there is none the breaker has a new time.
      when lane.is_probed then p_now + interval '5 seconds'
      -- Wake for a turn's worth, not for every single item. (greatest skips nulls.)
      when lane.room > 0 then greatest(lane.throttled_until, case when lane.rate_room <= 0 then p_now + make_interval(secs => greatest(0.05,
        extract(epoch from greatest(lane.free_at, p_now) - p_now)
          - (jobs.rate_burst(lane.rate) - least(jobs.rate_burst(lane.rate), (p_definition).quantum)) * jobs.rate_interval(lane.rate))) end)
    end
  from (
    select u.tenant_id, u.is_paused,
      u.tenant_id = jobs.platform_id() or coalesce(t.status = 'active', false) as is_served,
      coalesce(p.weight, 1)::double precision as weight,
      p.rate_per_minute as rate,
      r.free_at,
      jobs.rate_room(p.rate_per_minute, r.free_at, p_now) as rate_room,
      b.reason as parked_because, o.open_until, o.reason as open_because, w.until as throttled_until,
      -- What a provider said of the platform's credential is about more than one tenant.
      case when w.tenant_id = jobs.platform_id() then format('the platform''s %s credential is throttled', (p_definition).provider)
        when w.tenant_id is not null then coalesce(w.reason, 'throttled') end as throttled_because,
      c.tenant_id is null and not ((p_definition).platform_allowed and pc.provider is not null) as has_no_credential,
      coalesce(p.batch_share, (p_definition).batch_size) as share,
      -- An open breaker whose time is over lets one probe through, of whichever job.
      o.tenant_id is not null and exists (
        select from jobs.leases e join jobs.definitions d on d.job = e.job
        where e.tenant_id = u.tenant_id and d.provider = (p_definition).provider and e.job <> (p_definition).job) as is_probed,
      least(
        coalesce(p.cap, (p_definition).batch_size) - f.in_flight,
        case when o.tenant_id is not null then 1 - f.in_flight end
      )::integer as room
    from unnest(p_tenant_ids, p_paused) as u (tenant_id, is_paused)
    left join public.tenants t on t.id = u.tenant_id
    left join public.plans p on p.plan_id = t.plan_id
    left join public.credentials c on c.tenant_id = u.tenant_id and c.provider = (p_definition).provider
    left join private.platform_credentials pc on pc.provider = (p_definition).provider
    left join jobs.breakers b
      on b.tenant_id = case when c.tenant_id is null then jobs.platform_id() else u.tenant_id end
      and b.provider = (p_definition).provider and b.state = 'parked'
    left join jobs.breakers o on o.tenant_id = u.tenant_id and o.provider = (p_definition).provider and o.state = 'open'
    left join jobs.throttles w
      on w.tenant_id = case when c.tenant_id is null then jobs.platform_id() else u.tenant_id end
      and w.provider = (p_definition).provider and w.until > p_now
    left join jobs.rates r on r.tenant_id = u.tenant_id and r.provider = (p_definition).provider
    cross join lateral (
      select coalesce(sum(e.open), 0) as in_flight from jobs.leases e
      where e.tenant_id = u.tenant_id and e.job = (p_definition).job
        and (e.tenant_id, e.job, e.batch_id) >= (u.tenant_id, (p_definition).job, p_oldest_batch)
    ) f
  ) lane;
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
  if v_item.batch_id is not null then
    return (
      select case when b.lease_until > clock_timestamp() then format('It is running: batch %s, lease until %s.', b.batch_id, b.lease_until)
        else format('Its worker was lost: the lease of batch %s ended at %s. The next tick takes it back.', b.batch_id, b.lease_until) end
      from jobs.batches b where b.batch_id = v_item.batch_id);
  elsif (select p.stopped from jobs.platform p) then
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
  elsif not v_lane.awake and v_lane.wake_at > clock_timestamp() then
    return format('Its lane is asleep until %s because of: %s%s.', v_lane.wake_at, v_lane.reason, coalesce(' (' || v_lane.detail || ')', ''));
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
    where i.job = v_item.job and i.tenant_id = v_item.tenant_id and i.batch_id is null and (i.run_at, i.item_id) < (v_item.run_at, v_item.item_id)
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
    ) then 'No worker answers the doorbells of its job: it starts when one does.' end;
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

create or replace function jobs.work_item (
  p_definition jobs.definitions,
  p_batch_id bigint,
  p_tenant_id uuid,
  p_item_id bigint
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_item jobs.items;
  v_result jsonb;
  v_outcome jsonb;
  v_began timestamptz := clock_timestamp();
begin
  select i.* into v_item from jobs.items i
  where i.tenant_id = p_tenant_id and i.item_id = p_item_id and i.batch_id = p_batch_id;
  if not found then
    return;
  end if;
  begin
    execute format('select to_jsonb(%s($1, $2, $3))', (p_definition).work_function::regproc)
      into v_result using p_tenant_id, v_item.subject_id, v_item.payload;
    v_outcome := jsonb_build_object('item_id', p_item_id, 'outcome', 'done', 'result', coalesce(v_result, 'null'));
  exception
    when query_canceled or admin_shutdown or crash_shutdown then
      raise;
    when others then
      v_outcome := jsonb_build_object('item_id', p_item_id, 'outcome', 'retry', 'error', left(format('%s (%s)', sqlerrm, sqlstate), 500));
  end;
  if (p_definition).cost_unit = 'milliseconds' then
    v_outcome := v_outcome || jsonb_build_object('cost', 1000 * extract(epoch from clock_timestamp() - v_began));
  end if;
  perform jobs.close_batch(p_batch_id, jsonb_build_array(v_outcome));
end
$function$;

comment on function "jobs"."next_batch"(uuid, text, integer, uuid) is 'The next batch for a drain: {"batch_id","job","now","lease_until","lease_seconds","cost_unit","tenants":[{"tenant_id","slug","credential","items":[{"item_id","attempt","trace_id","subject_id","data"}]}]}, or null when nothing is awake. With a request (the caller''s own id of this call) it can be repeated: the batch of an answer that was lost is handed out again. The only place where secrets leave the database. Definer: writes the engine''s tables and reads the tenants'' secrets in Vault, which service_role must not do row by row.';
