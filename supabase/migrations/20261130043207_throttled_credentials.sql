-- throttled credentials: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create table "jobs"."throttles" (
  "tenant_id" uuid not null,
  "provider" public.provider not null,
  "until" timestamp with time zone not null,
  "reason" text,
  constraint "throttles_pkey" primary key (tenant_id, provider)
);

alter table "jobs"."throttles"
  enable row level security;

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
      when lane.parked_because is not null or lane.open_until > p_now or lane.has_no_credential then 'breaker'
      when lane.room <= 0 then 'cap'
      when lane.rate_room <= 0 or lane.throttled_until is not null then 'rate limit'
    end,
    case
      when lane.is_paused then 'this lane is paused'
      when not lane.is_served then 'the tenant is not active'
      when lane.has_no_credential then format('no %s credential', (p_definition).provider)
      when lane.parked_because is not null then lane.parked_because
      when lane.open_until > p_now then lane.open_because
      when lane.room > 0 then lane.throttled_because
    end,
    case
      when lane.is_paused or not lane.is_served or lane.has_no_credential or lane.parked_because is not null then null
      when lane.open_until > p_now then lane.open_until
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
      least(
        coalesce(p.cap, (p_definition).batch_size) - f.in_flight,
        -- An open breaker whose time is over lets one probe through.
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

create or replace function jobs.settle (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_outcomes jsonb,
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_settled jobs.settled[];
  v_tenant_ids uuid[];
  v_parked uuid[];
  v_unknown text;
  v_comes_back boolean;
  v_back record;
begin
  select o.outcome into v_unknown
  from jsonb_to_recordset(p_outcomes) as o (outcome text)
  where o.outcome is null or o.outcome not in (
    'done', 'retry', 'refused', 'snooze', 'throttled', 'credential_broken', 'lost', 'held', 'cancelled')
  limit 1;
  if found then
    raise exception 'Unknown outcome "%".', coalesce(v_unknown, 'null') using errcode = '22023';
  end if;

  v_tenant_ids := array(select distinct e.tenant_id from jobs.leases e where e.batch_id = (p_batch).batch_id order by e.tenant_id);
  perform jobs.take_guards((p_batch).job, v_tenant_ids);

  v_settled := jobs.match_outcomes(p_definition, p_batch, p_outcomes, p_now);
  if v_settled is null then
    return 0;
  end if;

  if (p_definition).apply_function is not null then
    v_settled := jobs.apply_ended(p_definition, v_settled);
  end if;

  -- First what concerns whole providers, so that two jobs of one provider take the rows of breakers and lanes in the same order.
  v_parked := '{}';
  if (p_definition).provider is not null then
    perform jobs.throttle_credentials(p_definition, p_batch, v_settled);
    v_parked := jobs.park_broken(p_definition, p_batch, v_settled);
    -- An item that could not be loaded says nothing about the provider.
    if exists (select from jobs.batches b where b.batch_id = (p_batch).batch_id and b.loaded) then
      perform jobs.count_failures(p_definition, v_settled, p_now);
    end if;
  end if;

  perform jobs.write_settled(p_batch, v_settled);

  perform jobs.count_run(p_batch, v_settled);

  -- Lanes: places became free, items came back, a provider said not now. Only rows that change are locked, once, in tenant order.
  v_comes_back := exists (select from unnest(v_settled) u where not u.ends);
  if v_comes_back or (p_definition).cost_unit <> 'items' then
    perform from jobs.lanes l
    where l.job = (p_batch).job and l.tenant_id = any (v_tenant_ids)
      and (l.reason = 'cap' or (p_definition).cost_unit <> 'items' or (v_comes_back and
        exists (select from unnest(v_settled) u where u.tenant_id = l.tenant_id and not u.ends and (not l.awake or u.outcome = 'throttled'))))
    order by l.tenant_id for no key update;
  else
    -- By the index of these only: a lane leaves a version of its row behind each time it is served.
    perform from jobs.lanes l
    where l.job = (p_batch).job and l.reason = 'cap' and l.tenant_id = any (v_tenant_ids)
    order by l.tenant_id for no key update;
  end if;
  update jobs.lanes l set wake_at = greatest(p_now, l.not_before), reason = 'waiting', detail = null
  where l.job = (p_batch).job and l.tenant_id = any (v_tenant_ids) and l.reason = 'cap';

  if v_comes_back then
    for v_back in
      select s.waiting_for, array_agg(s.tenant_id order by s.tenant_id) as tenant_ids, array_agg(s.run_at order by s.tenant_id) as run_ats
      from (
        select u.tenant_id, min(u.run_at) as run_at, (array_agg(u.waiting_for order by u.run_at))[1] as waiting_for
        from unnest(v_settled) u
        where not u.ends and u.outcome <> 'throttled' and not (u.outcome = 'credential broken' and u.tenant_id = any (v_parked))
        group by u.tenant_id
      ) s
      group by s.waiting_for
    loop
      perform jobs.wake_lanes((p_batch).job, v_back.tenant_ids, v_back.run_ats,
        case when v_back.waiting_for in ('backoff', 'quiet hours') then v_back.waiting_for else 'waiting' end);
    end loop;

    perform jobs.throttle_lanes((p_batch).job, v_settled);
  end if;

  -- A lane was charged by items when they were handed out; where the job charges by another unit, the difference follows now.
  -- Under the claim lock: a claim that moves the clock meanwhile would no longer look where the lane is put.
  if (p_definition).cost_unit <> 'items' then
    perform jobs.claim_lock((p_batch).job);
    for v_back in
      select c.tenant_id, (c.cost - c.items) / coalesce((
          select p.weight from public.plans p where p.plan_id = (select t.plan_id from public.tenants t where t.id = c.tenant_id)
        ), 1)::double precision as cost
      from (
        select u.tenant_id, count(*) as items, sum(coalesce(u.cost, 1))::double precision as cost
        from unnest(v_settled) u
        where u.outcome <> 'held'
        group by u.tenant_id
      ) c
    loop
      -- Not below what claims look at.
      update jobs.lanes l set vtime = greatest((select c.vtime from jobs.clocks c where c.job = l.job), l.vtime + v_back.cost)
      where l.tenant_id = v_back.tenant_id and l.job = (p_batch).job and v_back.cost <> 0;
    end loop;
  end if;
  return cardinality(v_settled);
end
$function$;

create or replace function jobs.throttle_credentials (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_settled jobs.settled[]
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  insert into jobs.throttles as w (tenant_id, provider, until, reason)
  select o.tenant_id, (p_definition).provider, max(u.run_at), left(min(u.error), 200)
  from unnest(p_settled) u
  join jobs.leases e on e.batch_id = (p_batch).batch_id and e.tenant_id = u.tenant_id and e.job = (p_batch).job
  cross join lateral (select case when e.credential_source = 'platform' then jobs.platform_id() else u.tenant_id end as tenant_id) o
  where u.outcome = 'throttled'
    -- One that was replaced meanwhile starts afresh.
    and e.credential_fingerprint = coalesce(
      (select c.fingerprint from public.credentials c where c.tenant_id = o.tenant_id and c.provider = (p_definition).provider),
      (select c.fingerprint from private.platform_credentials c where o.tenant_id = jobs.platform_id() and c.provider = (p_definition).provider))
  group by o.tenant_id
  order by o.tenant_id
  on conflict (tenant_id, provider) do update set until = excluded.until, reason = excluded.reason where excluded.until > w.until
$function$;

create or replace function jobs.unpark (
  p_tenant_id uuid,
  p_provider public.provider
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_tenant_ids uuid[] := case when p_tenant_id <> jobs.platform_id() then array[p_tenant_id] end;
  v_job text;
begin
  delete from jobs.throttles w where w.tenant_id = p_tenant_id and w.provider = p_provider;
  delete from jobs.breakers b where b.tenant_id = p_tenant_id and b.provider = p_provider;
  perform jobs.close_alert(nullif(p_tenant_id, jobs.platform_id()), format('credential %s', p_provider));
  -- The platform's credential serves many tenants.
  for v_job in select d.job from jobs.definitions d where d.provider = p_provider order by d.job loop
    perform jobs.wake_blocked(v_job, v_tenant_ids, 'breaker');
    perform jobs.wake_blocked(v_job, v_tenant_ids, 'rate limit');
    -- What takes a credential of the tenant's own, and was held for want of one, is looked at now.
    if p_tenant_id <> jobs.platform_id() then
      perform jobs.hurry(v_job, p_tenant_id, array(
        select i.subject_id from jobs.items i
        where i.job = v_job and i.tenant_id = p_tenant_id and i.batch_id is null and i.waiting_for = 'waiting for a credential of the tenant''s own'));
    end if;
  end loop;
end
$function$;

create or replace function jobs.wake_blocked (
  p_job text,
  p_tenant_ids uuid[],
  p_reason text
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- All tenants (null): all guards of the job.
  if p_tenant_ids is null then
    perform pg_advisory_xact_lock_shared(jobs.guard_class(p_job), g) from generate_series(0, 255) g;
  else
    perform jobs.take_guards(p_job, p_tenant_ids);
  end if;
  update jobs.lanes l
  set wake_at = case p_reason when 'rate limit' then clock_timestamp() else greatest(clock_timestamp(), l.not_before) end,
    not_before = case p_reason when 'rate limit' then '-infinity' else l.not_before end, reason = 'waiting', detail = null
  from (
    select s.tenant_id from jobs.lanes s
    where s.job = p_job and s.reason = p_reason and not s.paused and (p_tenant_ids is null or s.tenant_id = any (p_tenant_ids))
    order by s.tenant_id
    for no key update
  ) blocked
  where l.job = p_job and l.tenant_id = blocked.tenant_id;
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
    return (select format('It is running: batch %s, lease until %s.', b.batch_id, b.lease_until) from jobs.batches b where b.batch_id = v_item.batch_id);
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
      case when v_judged.wake_at is not null then format(', next probe at %s', v_judged.wake_at) else '; it waits until the credential changes' end);
  elsif jobs.provider_is_down(v_definition.provider) then
    return format('The provider %s does not answer for anybody; it is probed from time to time.', v_definition.provider);
  elsif v_item.run_at > clock_timestamp() then
    return format('It is not due before %s%s%s.', v_item.run_at,
      case when v_item.waiting_for is not null then ' because of: ' || v_item.waiting_for else '' end,
      case when v_item.attempts > 0 then format(' (attempt %s of %s failed: %s)', v_item.attempts, v_definition.max_attempts, v_item.last_error) else '' end);
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
  return format('It is ready, behind %s items of its own tenant%s. %s', v_behind,
    -- How many other tenants there are, and how busy, is none of a tenant's business.
    case when private.is_platform() then format('; %s other lanes are awake',
      (select count(*) from (select from jobs.lanes l where l.job = v_item.job and l.awake and l.tenant_id <> v_item.tenant_id limit 1000) o)) end,
    case when v_rate > 0
      then format('Expected start: about %s.', date_trunc('second', clock_timestamp() + make_interval(secs => (v_behind / v_rate)::double precision)))
      else 'Expected start: with the next drain.' end);
end
$function$;

create or replace function private.forget_tenant()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_run_ids bigint[];
  v_items bigint[];
begin
  with gone as (
    delete from jobs.items i where i.tenant_id = old.id and i.batch_id is null returning i.run_id
  )
  select array_agg(g.run_id), array_agg(g.items) into v_run_ids, v_items
  from (select gone.run_id, count(*) as items from gone where gone.run_id is not null group by gone.run_id) g;
  perform jobs.expect_fewer(v_run_ids, v_items);
  update jobs.alerts a set closed_at = now() where a.tenant_id = old.id and a.closed_at is null;
  delete from jobs.lane_keys l where l.tenant_id = old.id;
  delete from jobs.dead_items d where d.tenant_id = old.id;
  delete from jobs.breakers b where b.tenant_id = old.id;
  delete from jobs.rates r where r.tenant_id = old.id;
  delete from jobs.throttles w where w.tenant_id = old.id;
  return null;
end
$function$;

comment on function "jobs"."throttle_credentials"(jobs.definitions, jobs.batches, jobs.settled[]) is
  'Notes for the owner of each throttled credential until when its provider wants to hear nothing: its lanes, of all jobs and all tenants that lean on it, wait.';

comment on function "jobs"."unpark"(uuid, public.provider) is 'The credential of this owner changed: its breaker closes, its throttle is over, and the lanes held by them wake.';

comment on table "jobs"."throttles" is 'What a provider said of a credential: not before `until`. One row for its owner (a tenant, or jobs.platform_id()): every lane that would use it waits, however many tenants lean on it. Over when its time is.';

revoke all
  on function "jobs"."throttle_credentials"(jobs.definitions, jobs.batches, jobs.settled[])
  from public;

grant select on table "jobs"."throttles" to "service_role";
