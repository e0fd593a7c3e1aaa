-- throttle scopes: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

drop function "jobs"."throttle_credentials"(jobs.definitions, jobs.batches, jobs.settled[]);

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
    left join lateral (
      select x.* from jobs.throttles x
      where x.tenant_id in (u.tenant_id, case when c.tenant_id is null then jobs.platform_id() end)
        and x.provider = (p_definition).provider and x.until > p_now
      order by x.until desc
      limit 1
    ) w on true
    left join jobs.rates r on r.tenant_id = u.tenant_id and r.provider = (p_definition).provider
    cross join lateral (
      select coalesce(sum(e.open), 0) as in_flight from jobs.leases e
      where e.tenant_id = u.tenant_id and e.job = (p_definition).job
        and (e.tenant_id, e.job, e.batch_id) >= (u.tenant_id, (p_definition).job, p_oldest_batch)
    ) f
  ) lane;
end
$function$;

create or replace function jobs.note_throttles (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_outcomes jsonb,
  p_settled jobs.settled[],
  p_now timestamp with time zone
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  insert into jobs.throttles as w (tenant_id, provider, until, reason)
  select o.tenant_id, (p_definition).provider, max(said.until), left(min(said.reason), 200)
  from unnest(p_settled) u
  join jsonb_to_recordset(p_outcomes) as g (item_id bigint, scope text, hint jsonb) on g.item_id = u.item_id
  join jobs.leases e on e.batch_id = (p_batch).batch_id and e.tenant_id = u.tenant_id and e.job = (p_batch).job
  cross join lateral (
    select u.run_at as until, u.error as reason, g.scope where u.outcome = 'throttled'
    union all
    select p_now + make_interval(secs => least(greatest((g.hint ->> 'seconds')::double precision, 0), 2592000)), g.hint ->> 'reason', g.hint ->> 'scope'
    where jsonb_typeof(g.hint -> 'seconds') = 'number'
  ) said
  cross join lateral (
    select case when e.credential_source = 'platform' and said.scope is distinct from 'account' then jobs.platform_id() else u.tenant_id end as tenant_id
  ) o
  -- One that was replaced meanwhile starts afresh.
  where e.credential_fingerprint = case e.credential_source
    when 'platform' then (select c.fingerprint from private.platform_credentials c where c.provider = (p_definition).provider)
    else (select c.fingerprint from public.credentials c where c.tenant_id = u.tenant_id and c.provider = (p_definition).provider) end
  group by o.tenant_id
  order by o.tenant_id
  on conflict (tenant_id, provider) do update set until = excluded.until, reason = excluded.reason where excluded.until > w.until
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
    if jsonb_path_exists(p_outcomes, '$[*] ? (@.outcome == "throttled" || exists (@.hint))') then
      perform jobs.note_throttles(p_definition, p_batch, p_outcomes, v_settled, p_now);
    end if;
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

comment on function "jobs"."close_batch"(bigint, jsonb, boolean, uuid) is 'Outcomes of items of a batch: [{"item_id","outcome":"done","result"} | {"outcome":"retry","error","after_seconds"?} | {"outcome":"refused","error"} | {"outcome":"snooze","seconds"|"until","reason"} | {"outcome":"throttled","seconds","error","scope"?: "account"} | {"outcome":"credential_broken","error"}], each with "hint"?: {"seconds","reason","scope"?} when the provider''s limit is nearly used up, and "cost"? in the job''s unit. Returns {"closed","stale","next"}: stale items belong to this batch no more (lease over, or closed before) and were not touched. Safe to repeat; with the same request (the caller''s own id of this call) the next batch of a lost answer is handed out again. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."note_throttles"(jobs.definitions, jobs.batches, jsonb, jobs.settled[], timestamp
  with time zone) is 'Notes until when a provider wants to hear nothing with a credential, or of a tenant: lanes of all jobs, and of all tenants that lean on it, wait.';

comment on table "jobs"."throttles" is 'What a provider said: not before `until`. A tenant''s row holds its lanes for the provider, that of jobs.platform_id() all lanes that would use the platform''s credential, however many tenants lean on it. Over when its time is.';

revoke all
  on function "jobs"."note_throttles"(jobs.definitions, jobs.batches, jsonb, jobs.settled[], timestamp
    with time zone)
  from public;
