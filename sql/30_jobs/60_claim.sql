-- Claim: who is served next, and what the worker gets. O(batch) whatever the backlog and the number of tenants.
--
-- The functions that workers and cron call carry their planner settings: every access below is by index, and a plan made while the
-- tables were empty or badly analysed must not turn it into scans (measured: 3 s instead of 5 ms for a claim of 200 from 1,000 lanes).

-- Rate limits as room: how many items the limit allows now. A tenth of the limit is burst, the rest flows; see jobs.rates.
create function jobs.rate_burst(p_rate integer)
returns integer
language sql immutable
set search_path = ''
as $$
  select greatest(1, p_rate / 10)
$$;

create function jobs.rate_interval(p_rate integer)
returns double precision
language sql immutable
set search_path = ''
as $$
  select 60.0 / greatest(1, p_rate - jobs.rate_burst(p_rate))
$$;

create function jobs.rate_room(p_rate integer, p_free_at timestamptz, p_now timestamptz)
returns integer
language sql immutable
set search_path = ''
as $$
  -- No limit is null, and greatest skips nulls: say so.
  select case when p_rate is not null
    then floor(jobs.rate_burst(p_rate) - extract(epoch from greatest(p_free_at, p_now) - p_now) / jobs.rate_interval(p_rate))::integer end
$$;

comment on function jobs.rate_room(integer, timestamptz, timestamptz) is 'How many items a limit per minute allows now; null for no limit.';
comment on function jobs.rate_burst(integer) is 'How many items may come at once under a limit per minute.';
comment on function jobs.rate_interval(integer) is 'Seconds in which one item''s worth of a limit per minute comes back.';

-- What each lane may have now: how many more items, with what weight; or why none.
create function jobs.judge_lanes(
  p_definition jobs.definitions, p_tenant_ids uuid[], p_paused boolean[], p_oldest_batch bigint, p_now timestamptz)
returns table (
  tenant_id uuid, weight double precision, room integer, share integer, rate integer, reason text, detail text, wake_at timestamptz)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
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
        -- Compared as rows, which only the primary key can answer, and from its beginning on: by batch alone all lanes would be read for
        -- each lane, and by tenant and job all that an old snapshot keeps of the lane.
        select coalesce(sum(e.open), 0) as in_flight from jobs.leases e
        where (e.tenant_id, e.job, e.batch_id) >= (u.tenant_id, (p_definition).job, p_oldest_batch)
          and (e.tenant_id, e.job) <= (u.tenant_id, (p_definition).job)
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
      -- What a provider said of the platform's credential is not for each tenant's ears.
      case when b.tenant_id = jobs.platform_id() then format('the platform''s %s credential does not work', (p_definition).provider)
        when b.tenant_id is not null then coalesce(b.reason, 'the credential does not work') end as parked_because,
      o.open_until, o.reason as open_because, w.until as throttled_until,
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
      where (e.tenant_id, e.job, e.batch_id) >= (u.tenant_id, (p_definition).job, p_oldest_batch)
        and (e.tenant_id, e.job) <= (u.tenant_id, (p_definition).job)
    ) f
  ) lane;
end
$$;

comment on function jobs.judge_lanes(jobs.definitions, uuid[], boolean[], bigint, timestamptz) is
  'For each lane of a job: weight and room by the tenant''s plan, or the reason (paused, breaker, cap, rate limit) why it may have nothing now. '
  'No lease of the job is older than p_oldest_batch.';

create function jobs.judge(p_definition jobs.definitions, p_tenant_ids uuid[], p_now timestamptz)
returns table (
  tenant_id uuid, weight double precision, room integer, share integer, rate integer, reason text, detail text, wake_at timestamptz)
language sql stable
set search_path = ''
as $$
  select j.*
  from (
    select array_agg(l.tenant_id) as tenant_ids, array_agg(l.paused) as paused
    from jobs.lanes l
    where l.job = (p_definition).job and l.tenant_id = any (p_tenant_ids)
  ) known
  cross join lateral jobs.judge_lanes(p_definition, known.tenant_ids, known.paused, 0, p_now) j
$$;

comment on function jobs.judge(jobs.definitions, uuid[], timestamptz) is
  'For each lane of a job: weight and room by the tenant''s plan, or the reason (paused, breaker, cap, rate limit) why it may have nothing now.';

-- Wakes lanes whose time has come. They enter at the virtual time of the job, so that having been idle is no credit.
create function jobs.wake_due_lanes(
  p_definition jobs.definitions, p_vtime double precision, p_due_from timestamptz, p_now timestamptz, p_limit integer default 500)
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
  v_places tid[] := array(
    select l.ctid
    from jobs.lanes l
    where l.job = (p_definition).job and l.wake_at <= p_now and l.wake_at >= p_due_from
    order by l.wake_at
    limit p_limit
    for no key update skip locked
  );
begin
  if cardinality(v_places) = 0 then
    return 0;
  end if;
  update jobs.lanes l
  set awake = true, wake_at = null, reason = null, detail = null, written_at = p_now,
    vtime = greatest(l.vtime, p_vtime),
    not_before = case
      when (p_definition).has_cadence then p_now + make_interval(secs => coalesce((
        select p.cadence_seconds from public.tenants t join public.plans p on p.plan_id = t.plan_id where t.id = l.tenant_id), 0))
      else l.not_before end
  -- The rows are locked, so they are where they were. By nothing else: an index would lead over all that was left behind.
  where l.ctid = any (v_places);
  return cardinality(v_places);
end
$$;

comment on function jobs.wake_due_lanes(jobs.definitions, double precision, timestamptz, timestamptz, integer) is
  'Wakes sleeping lanes whose wake_at has come since p_due_from, at most p_limit, at the virtual time of the job; returns how many.';

-- Which lanes have nothing ready or may not be served, and until when they can sleep. See 50_enqueue.sql for why this cannot lose a wake-up.
create function jobs.how_to_sleep(
  p_definition jobs.definitions, p_clock jobs.clocks, p_tenant_ids uuid[], p_refused boolean[], p_paused boolean[], p_not_before timestamptz[],
  p_floor_ats timestamptz[], p_now timestamptz)
returns table (tenant_id uuid, reason text, detail text, wake_at timestamptz, head_at timestamptz, floor_at timestamptz)
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = off
set enable_hashjoin = on
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_class integer := jobs.guard_class((p_definition).job);
  v_guards integer[] := jobs.guards_of(p_tenant_ids);
  v_held integer[];
  v_caps_stay boolean;
  v_floor_ats timestamptz[] := p_floor_ats;
begin
  v_held := array(
    select g.guard
    from (select distinct u as guard from unnest(v_guards) u) g
    where pg_try_advisory_xact_lock(v_class, g.guard)
  );
  -- What was brought from before the floor of its lane. (least skips nulls.)
  if exists (select from jobs.lookbacks k where k.tenant_id = any (p_tenant_ids) and k.job = (p_definition).job) then
    v_floor_ats := array(
      select least(l.floor_at, (select min(k.run_at) from jobs.lookbacks k where k.tenant_id = l.tenant_id and k.job = (p_definition).job))
      from unnest(p_tenant_ids, p_floor_ats) with ordinality as l (tenant_id, floor_at, n)
      order by l.n);
  end if;
  -- The guard of the job's caps: whoever is just raising one has it.
  v_caps_stay := not true = any (p_refused) or pg_try_advisory_xact_lock(v_class, 256);
  -- A new statement: its snapshot has everything that was committed by anyone who held a guard before us.
  return query
  select s.tenant_id, s.reason, s.detail,
    case
      when s.guard = any (v_held) and (v_caps_stay or s.reason <> 'cap') then s.wake_at
      -- Somebody is just bringing work or freeing a place: look again in a second, not when the next known item is due or never.
      else least(s.wake_at, greatest(s.not_before, p_now + interval '1 second')) end,
    s.head_at,
    case when s.guard = any (v_held) and s.head_at is not null then p_now end
  from (
    select l.tenant_id, l.guard, l.not_before, coalesce(j.reason, case
        when n.run_at is null then 'idle'
        when l.not_before > n.run_at then case when (p_definition).has_cadence then 'cadence' else 'rate limit' end
        else coalesce(n.waiting_for, 'waiting') end) as reason,
      j.detail,
      case
        when j.reason is not null then j.wake_at
        when n.run_at is not null then greatest(n.run_at, l.not_before) end as wake_at,
      -- Before its next item there is nothing, and without one nothing before now. (least skips nulls.)
      case when j.reason is null then least(n.run_at, p_now) end as head_at
    from unnest(p_tenant_ids, p_not_before, v_guards, v_floor_ats) as l (tenant_id, not_before, guard, floor_at)
    -- Those that may not be served are judged anew: what held them back may be over by now.
    left join jobs.judge_lanes(p_definition,
      array(select u.tenant_id from unnest(p_tenant_ids, p_refused) as u (tenant_id, is_refused) where u.is_refused),
      array(select u.paused from unnest(p_paused, p_refused) as u (paused, is_refused) where u.is_refused),
      (p_clock).oldest_batch, p_now) j on j.tenant_id = l.tenant_id
    left join lateral (
      select i.run_at,
        case when i.waiting_for in ('delay', 'backoff', 'quiet hours', 'rate limit') then i.waiting_for end as waiting_for
      from jobs.items i
      where i.job = (p_definition).job and i.tenant_id = l.tenant_id and i.run_at >= l.floor_at
      order by i.run_at, i.item_id
      limit 1
    ) n on true
    -- Work that is ready now keeps its lane awake (it arrived just now, or its place under the cap became free).
    where j.reason is not null or n.run_at is null or n.run_at > p_now
  ) s;
end
$$;

comment on function jobs.how_to_sleep(jobs.definitions, jobs.clocks, uuid[], boolean[], boolean[], timestamptz[], timestamptz[], timestamptz) is
  'Of these lanes those that go to sleep, with reason and wake_at: until the next item is due, until the reason is gone, or until work arrives. '
  'head_at: where the next claim may begin to look. floor_at: before it nothing is due; null where somebody is just bringing work.';

-- What a round has made of the lanes that it looked at. A function of its own for its planner settings: rows are written at their places,
-- never by way of the table or an index that is full of what an old snapshot keeps.
create function jobs.write_lanes(
  p_places tid[], p_costs double precision[], p_to_ats timestamptz[], p_to_ids bigint[], p_since timestamptz[], p_empty boolean[],
  p_reasons text[], p_details text[], p_wake_ats timestamptz[], p_next_ats timestamptz[], p_floor_ats timestamptz[], p_now timestamptz)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
begin
  update jobs.lanes l
  set written_at = p_now, vtime = l.vtime + coalesce(u.cost, 0),
    -- A lane that turns out to have more forgets its watermark: the ready item may lie before it.
    head_at = case when u.is_empty then u.next_at else u.to_at end,
    head_id = case when not u.is_empty then u.to_id when u.next_at is not null then 0 end, head_since = u.since,
    floor_at = coalesce(u.floor_at, l.floor_at), awake = u.reason is null, reason = u.reason, detail = u.detail, wake_at = u.wake_at
  from unnest(p_places, p_costs, p_to_ats, p_to_ids, p_since, p_empty, p_reasons, p_details, p_wake_ats, p_next_ats, p_floor_ats)
    as u (place, cost, to_at, to_id, since, is_empty, reason, detail, wake_at, next_at, floor_at)
  -- The rows are locked, so they are where they were.
  where l.ctid = u.place and (u.cost is not null or u.is_empty);
end
$$;

comment on function jobs.write_lanes(
  tid[], double precision[], timestamptz[], bigint[], timestamptz[], boolean[], text[], text[], timestamptz[], timestamptz[], timestamptz[],
  timestamptz) is
  'Charges the lanes at these places, moves their watermarks, and puts those to sleep that have a reason.';

create function jobs.drop_lookbacks(p_job text, p_tenant_ids uuid[], p_floor_ats timestamptz[], p_lookback_ids bigint[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
begin
  delete from jobs.lookbacks k
  using unnest(p_tenant_ids, p_floor_ats) as u (tenant_id, floor_at), unnest(p_lookback_ids) as s (lookback_id)
  where k.tenant_id = u.tenant_id and k.job = p_job and k.lookback_id = s.lookback_id and u.floor_at is not null;
end
$$;

comment on function jobs.drop_lookbacks(text, uuid[], timestamptz[], bigint[]) is 'Deletes these notes of the lanes that were looked at as a whole.';

-- One round of the fair pick: weighted start-time fair queueing over the awake lanes. It looks at p_lanes of them and gives out as many turns.
create function jobs.pick(
  p_definition jobs.definitions, p_clock jobs.clocks, p_batch_id bigint, p_room integer, p_lanes integer, p_now timestamptz,
  out picked integer, out tag double precision)
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = off
set enable_hashjoin = on
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_full uuid[];
  v_lanes uuid[];
  v_places tid[];
  v_paused boolean[];
  v_not_before timestamptz[];
  v_vtimes double precision[];
  v_head_ats timestamptz[];
  v_head_ids bigint[];
  v_since timestamptz[];
  v_floor_ats timestamptz[];
  -- From here on one element for each lane, in the order of v_lanes.
  v_rates integer[];
  v_items integer[];
  v_costs double precision[];
  v_to_ats timestamptz[];
  v_to_ids bigint[];
  v_refused boolean[];
  v_empty boolean[];
  v_reasons text[];
  v_details text[];
  v_wake_ats timestamptz[];
  v_next_ats timestamptz[];
  v_new_floor_ats timestamptz[];
  v_lookbacks bigint[];
begin
  -- A lane that has its share of this batch from an earlier round waits for the next batch.
  v_full := array(
    select e.tenant_id from jobs.leases e
    where e.batch_id = p_batch_id and e.open >= coalesce((
      select p.batch_share from public.plans p where p.plan_id = (select t.plan_id from public.tenants t where t.id = e.tenant_id)
    ), (p_definition).batch_size));
  -- The lanes that are furthest behind. They are read once and written once: each version of a row that is left behind is one
  -- more that all who look it up must step over while somebody keeps an old snapshot.
  select array_agg(l.tenant_id), array_agg(l.ctid), array_agg(l.paused), array_agg(l.not_before), array_agg(l.vtime),
    array_agg(case when l.is_fresh then l.head_at else '-infinity' end), array_agg(case when l.is_fresh then l.head_id else 0 end),
    array_agg(case when l.is_fresh then l.head_since else p_now end),
    array_agg(case when l.is_fresh and l.floor_at <= p_now then l.floor_at else '-infinity' end)
  into v_lanes, v_places, v_paused, v_not_before, v_vtimes, v_head_ats, v_head_ids, v_since, v_floor_ats
  from (
    select x.*, x.ctid, x.head_at is not null and x.head_since > p_now - interval '30 seconds' as is_fresh
    from jobs.lanes x
    where x.job = (p_definition).job and x.awake and x.vtime >= (p_clock).served_from and x.tenant_id <> all (v_full)
    order by x.vtime, x.tenant_id
    limit p_lanes
    for no key update skip locked
  ) l;
  if v_lanes is null then
    return;
  end if;
  -- Another job of the same provider draws on the same limits: whoever reads them next waits until we have written.
  if (p_definition).provider is not null then
    perform from jobs.rates r
    where r.tenant_id = any (v_lanes) and r.provider = (p_definition).provider
    order by r.tenant_id
    for update;
  end if;

  with lane as materialized (
    select u.n, u.tenant_id, u.vtime, j.weight, least(j.room, j.share - coalesce(e.open, 0)) as room, j.rate, j.reason, u.head_at, u.head_id
    from unnest(v_lanes, v_vtimes, v_head_ats, v_head_ids) with ordinality as u (tenant_id, vtime, head_at, head_id, n)
    join jobs.judge_lanes(p_definition, v_lanes, v_paused, (p_clock).oldest_batch, p_now) j on j.tenant_id = u.tenant_id
    -- What it got in an earlier round of this batch. Compared as rows, as there: no batch is later.
    left join lateral (
      select x.open from jobs.leases x
      where (x.tenant_id, x.job, x.batch_id) >= (u.tenant_id, (p_definition).job, p_batch_id)
        and (x.tenant_id, x.job) <= (u.tenant_id, (p_definition).job)
      offset 0
    ) e on true
  ),
  -- Each turn of a lane starts quantum ÷ weight after its turn before: the earliest turns.
  turn as (
    select lane.tenant_id
    from lane
    cross join lateral generate_series(0, least((least(lane.room, p_room) - 1) / (p_definition).quantum,
      -- As many lanes as turns: none has a turn that starts after the first one of the last lane.
      case when cardinality(v_lanes) = p_lanes
        then ceil((v_vtimes[p_lanes] - lane.vtime) * lane.weight / (p_definition).quantum) end)::integer) as turn (n)
    where lane.reason is null
    order by lane.vtime + turn.n * (p_definition).quantum / lane.weight, lane.tenant_id
    limit p_lanes
  ),
  share as materialized (
    select lane.tenant_id, lane.weight, lane.vtime, lane.rate, lane.head_at, lane.head_id,
      -- One more than there is room for tells a lane that holds more from one that is emptied.
      least(lane.room, turns.n * (p_definition).quantum, p_room + 1) as wanted
    from (select turn.tenant_id, count(*) as n from turn group by turn.tenant_id) turns
    join lane on lane.tenant_id = turns.tenant_id
  ),
  -- What these turns find: the oldest ready items of each lane, from its watermark on.
  found as materialized (
    select share.tenant_id, i.place, i.position,
      share.vtime + (i.position - 1) / (p_definition).quantum * (p_definition).quantum / share.weight as tag
    from share
    cross join lateral (
      select r.ctid as place, row_number() over (order by r.run_at, r.item_id) as position
      from jobs.items r
      where r.job = (p_definition).job and r.tenant_id = share.tenant_id
        and r.run_at <= p_now and (r.run_at, r.item_id) > (share.head_at, share.head_id)
      order by r.run_at, r.item_id
      limit share.wanted
    ) i
  ),
  candidate as materialized (
    select f.tenant_id, f.place, f.tag from found f order by f.tag, f.tenant_id, f.position limit p_room
  ),
  -- By their places: a join could begin with all items that wait.
  leased as materialized (
    delete from jobs.items i
    where i.ctid = any (array(select candidate.place from candidate))
    returning i.tenant_id, i.item_id, i.run_at, i as item
  ),
  served as materialized (
    select l.tenant_id, cardinality(l.list) as items, l.list, l.head_at, (l.list[cardinality(l.list)]).item_id as head_id
    from (
      select leased.tenant_id, array_agg(leased.item order by leased.run_at, leased.item_id) as list, max(leased.run_at) as head_at
      from leased
      group by leased.tenant_id
    ) l
  ),
  noted as (
    insert into jobs.leases as e (tenant_id, job, batch_id, open, items)
    select served.tenant_id, (p_definition).job, p_batch_id, served.items, served.list
    from served
    on conflict (tenant_id, job, batch_id) do update
      set items = e.items || excluded.items, open = e.open + excluded.open
  ),
  held as (
    select found.tenant_id, count(*) as items from found group by found.tenant_id
  )
  select coalesce(sum(served.items), 0), (select max(candidate.tag) from candidate), array_agg(lane.rate order by lane.n),
    array_agg(served.items order by lane.n), array_agg(served.items / lane.weight order by lane.n), array_agg(served.head_at order by lane.n), array_agg(served.head_id order by lane.n),
    array_agg(lane.reason is not null order by lane.n),
    -- No more than this is ready, or nothing may be served: these lanes need a closer look.
    array_agg(lane.reason is not null
      or (coalesce(held.items, 0) < share.wanted and coalesce(served.items, 0) = coalesce(held.items, 0)) order by lane.n)
  into picked, tag, v_rates, v_items, v_costs, v_to_ats, v_to_ids, v_refused, v_empty
  from lane
  left join share on share.tenant_id = lane.tenant_id
  left join held on held.tenant_id = lane.tenant_id
  left join served on served.tenant_id = lane.tenant_id;

  if (p_definition).provider is not null then
    insert into jobs.rates as r (tenant_id, provider, free_at)
    select u.tenant_id, (p_definition).provider, p_now + make_interval(secs => u.items * jobs.rate_interval(u.rate))
    from unnest(v_lanes, v_items, v_rates) as u (tenant_id, items, rate)
    where u.items is not null and u.rate is not null
    order by u.tenant_id
    on conflict (tenant_id, provider) do update
      set free_at = greatest(r.free_at, p_now) + (excluded.free_at - p_now);
  end if;

  if true = any (v_empty) then
    -- Only what was there before the look goes with it.
    v_lookbacks := array(select k.lookback_id from jobs.lookbacks k where k.tenant_id = any (v_lanes) and k.job = (p_definition).job);
    select array_agg(s.reason order by u.n), array_agg(s.detail order by u.n), array_agg(s.wake_at order by u.n), array_agg(s.head_at order by u.n),
      array_agg(s.floor_at order by u.n)
    into v_reasons, v_details, v_wake_ats, v_next_ats, v_new_floor_ats
    from unnest(v_lanes) with ordinality as u (tenant_id, n)
    left join (
      select h.*
      from (
        select array_agg(e.tenant_id) as tenant_ids, array_agg(e.is_refused) as refused, array_agg(e.paused) as paused,
          array_agg(e.not_before) as not_before, array_agg(e.floor_at) as floor_ats
        from unnest(v_lanes, v_refused, v_paused, v_not_before, v_floor_ats, v_empty) as e (tenant_id, is_refused, paused, not_before, floor_at, is_empty)
        where e.is_empty
      ) closer
      cross join lateral jobs.how_to_sleep(
        p_definition, p_clock, closer.tenant_ids, closer.refused, closer.paused, closer.not_before, closer.floor_ats, p_now) h
    ) s on s.tenant_id = u.tenant_id;
  end if;
  if v_lookbacks <> '{}' then
    perform jobs.drop_lookbacks((p_definition).job, v_lanes, v_new_floor_ats, v_lookbacks);
  end if;
  perform jobs.write_lanes(
    v_places, v_costs, v_to_ats, v_to_ids, v_since, v_empty, v_reasons, v_details, v_wake_ats, v_next_ats, v_new_floor_ats, p_now);
end
$$;

comment on function jobs.pick(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamptz) is
  'One round: leases up to p_room items to the batch from the p_lanes lanes that are furthest behind, charges them, puts empty ones to sleep. '
  'Answers how many items it picked, null when no lane is awake, and at which virtual time the last of their turns started.';

-- Calls the job's load function for the items of a batch. If it raises, item by item: one that cannot be loaded must not stop the rest.
create function jobs.call_load(p_definition jobs.definitions, p_items jobs.items[])
returns jobs.loaded[]
language plpgsql
set search_path = ''
set enable_seqscan = on
set enable_nestloop = on
set enable_hashjoin = on
set enable_mergejoin = on
set plan_cache_mode = auto
as $$
declare
  v_call text := format(
    'select array_agg(l) from (
       select array_agg(i.tenant_id) as t, array_agg(i.item_id) as i, array_agg(i.subject_id) as s, array_agg(i.payload) as p from unnest($1) i
     ) a cross join lateral %s(a.t, a.i, a.s, a.p) as l', (p_definition).load_function::regproc);
  v_loaded jobs.loaded[];
  v_one jobs.loaded[];
  v_item jobs.items;
begin
  begin
    execute v_call into v_loaded using p_items;
    return v_loaded;
  exception
    when serialization_failure or deadlock_detected or lock_not_available then
      raise;
    -- An ASSERT is none of the others.
    when assert_failure or others then
      null;
  end;
  v_loaded := '{}';
  foreach v_item in array p_items loop
    begin
      execute v_call into v_one using array[v_item];
      v_loaded := v_loaded || v_one;
    exception
      when serialization_failure or deadlock_detected or lock_not_available then
        raise;
      when assert_failure or others then
        -- No data and no wish to wait: the caller takes it as an attempt that failed.
        v_loaded := v_loaded || (v_item.item_id, null, null, left('The item could not be loaded: ' || sqlerrm, 500), null)::jobs.loaded;
    end;
  end loop;
  return v_loaded;
end
$$;

comment on function jobs.call_load(jobs.definitions, jobs.items[]) is
  'The job''s load function for these items; an item that makes it raise comes back with cancel null and the error as its reason.';

-- Gives the batch's items their data, and takes out those that must wait or have no reason to run any more.
create function jobs.load_batch(p_definition jobs.definitions, p_batch jobs.batches, p_now timestamptz)
returns json
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = off
set enable_hashjoin = on
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_items jobs.items[];
  v_loaded jobs.loaded[];
  v_outcomes jsonb;
begin
  if (p_definition).load_function is not null then
    v_items := array(select i from jobs.leases e cross join lateral unnest(e.items) i where e.batch_id = (p_batch).batch_id);
    v_loaded := jobs.call_load(p_definition, v_items);
    -- One answer for each item: a second one would send it twice, and one without would stay in the batch for ever.
    if array(select i.item_id from unnest(v_items) i order by i.item_id) is distinct from
      array(select l.item_id from unnest(v_loaded) l order by l.item_id) then
      v_loaded := array(
        select coalesce(a.answer, (i.item_id, null, null, 'The load function did not answer for this item.', null)::jobs.loaded)
        from unnest(v_items) i
        left join (
          select distinct on (l.item_id) l.item_id, (l.item_id, l.data, l.hold_until, l.reason, l.cancel)::jobs.loaded as answer
          from unnest(v_loaded) with ordinality as l (item_id, data, hold_until, reason, cancel, n)
          order by l.item_id, l.n
        ) a on a.item_id = i.item_id);
    end if;
    select jsonb_agg(case
        when l.cancel is null then jsonb_build_object('item_id', l.item_id, 'outcome', 'retry', 'error', l.reason)
        when l.cancel then jsonb_build_object('item_id', l.item_id, 'outcome', 'cancelled', 'error', l.reason)
        -- A time that is over would bring it back into this very claim, and the next one.
        else jsonb_build_object('item_id', l.item_id, 'outcome', 'held', 'until', greatest(l.hold_until, p_now + interval '1 second'), 'reason', l.reason) end)
    into v_outcomes
    from unnest(v_loaded) l
    where l.cancel is not false or l.hold_until is not null;
    if v_outcomes is not null then
      perform jobs.settle(p_definition, p_batch, v_outcomes, p_now);
    end if;
  end if;

  if (p_definition).provider is not null then
    -- Which credential goes out with the batch: an answer about it concerns that one, not a newer one.
    update jobs.leases e
    set credential_source = case when exists (
        select from public.credentials c where c.tenant_id = e.tenant_id and c.provider = (p_definition).provider) then 'tenant' else 'platform' end,
      credential_fingerprint = coalesce(
        (select c.fingerprint from public.credentials c where c.tenant_id = e.tenant_id and c.provider = (p_definition).provider),
        (select pc.fingerprint from private.platform_credentials pc where pc.provider = (p_definition).provider))
    where e.batch_id = (p_batch).batch_id;
  end if;

  return (
    select json_agg(json_build_object(
        'tenant_id', work.tenant_id,
        'slug', (select t.slug from public.tenants t where t.id = work.tenant_id),
        'credential', case when (p_definition).provider is not null
          then private.credential_for(work.tenant_id, (p_definition).provider, (p_definition).platform_allowed) end,
        'items', work.list)
      order by work.tenant_id)
    from (
      select i.tenant_id, json_agg(row_to_json(answer) order by i.run_at, i.item_id) as list
      from (
        select x.tenant_id, x.item_id, x.tries, x.trace_id, x.subject_id, x.run_at, l.data
        from jobs.leased_items x
        join unnest(v_loaded) l on l.item_id = x.item_id and not l.cancel and l.hold_until is null
        where x.batch_id = (p_batch).batch_id
        union all
        -- Without a load function an item comes with what was enqueued, or with the command of its job.
        select x.tenant_id, x.item_id, x.tries, x.trace_id, x.subject_id, x.run_at,
          case when (p_definition).command is not null then jsonb_build_object('command', (p_definition).command) else x.payload end
        from jobs.leased_items x
        where x.batch_id = (p_batch).batch_id and (p_definition).load_function is null
      ) i
      cross join lateral (
        select i.item_id, i.tries + 1 as attempt, replace(i.trace_id::text, '-', '') as trace_id, i.subject_id, i.data
      ) answer
      group by i.tenant_id
    ) work
  );
end
$$;

comment on function jobs.load_batch(jobs.definitions, jobs.batches, timestamptz) is
  'The batch as the worker gets it: items with data, grouped by tenant, each group with its credential; null when all of them must wait or were ended. '
  'An item for which the load function did not answer counts as an attempt that failed; of two answers for one the first counts.';

-- The engine relies on every statement seeing what was committed before it.
create function jobs.require_read_committed()
returns void
language plpgsql
set search_path = ''
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'Claims, closes and ticks run in read committed, not in %.', current_setting('transaction_isolation') using errcode = '25001';
  end if;
end
$$;

comment on function jobs.require_read_committed() is 'Raises 25001 in any other isolation level: an old snapshot would break caps and lose wake-ups.';

create function jobs.claim_lock(p_job text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('onecron claim ' || p_job, 0));
end
$$;

comment on function jobs.claim_lock(text) is 'One claimer per job at a time. Taken in a statement of its own, before the one that reads: that makes caps exact.';

-- How much of a batch the provider as a whole may have now: its breaker (open, probing, recovering) and its rate.
create function jobs.provider_room(p_provider public.provider, p_size integer, p_now timestamptz)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_breaker jobs.breakers;
  v_rate integer;
  v_free_at timestamptz;
begin
  if p_provider is null then
    return p_size;
  end if;
  select b.* into v_breaker from jobs.breakers b where b.tenant_id = jobs.everyone_id() and b.provider = p_provider;
  if v_breaker.state = 'open' then
    -- After its time one item of one tenant probes; everybody else waits for what comes of it.
    return case when v_breaker.open_until <= p_now and not exists (
      select from jobs.leases e join jobs.definitions d on d.job = e.job where d.provider = p_provider) then 1 else 0 end;
  elsif v_breaker.state = 'recovering' then
    -- No stampede: from one item to a full batch within a minute.
    p_size := least(p_size, greatest(1, ceil(p_size * extract(epoch from p_now - v_breaker.since) / 60)::integer));
  end if;
  select l.rate_per_minute into v_rate from jobs.provider_limits l where l.provider = p_provider;
  if v_rate is not null then
    insert into jobs.rates (tenant_id, provider, free_at) values (jobs.everyone_id(), p_provider, p_now) on conflict do nothing;
    select r.free_at into v_free_at from jobs.rates r where r.tenant_id = jobs.everyone_id() and r.provider = p_provider for update;
    p_size := least(p_size, jobs.rate_room(v_rate, v_free_at, p_now));
  end if;
  return greatest(p_size, 0);
end
$$;

comment on function jobs.provider_room(public.provider, integer, timestamptz) is
  'How many items may go to a provider for all tenants together now; 0 while its breaker is open or its limit is used up.';

-- A batch whose answer was lost, for the call that asked for it and asks again; null when there is none.
create function jobs.batch_again(p_request uuid)
returns json
language plpgsql
set search_path = ''
as $$
declare
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_tenants json;
begin
  -- The row is locked, so the tick cannot take back what is handed out here.
  select b.* into v_batch from jobs.batches b where b.request = p_request and b.lease_until > clock_timestamp() for update;
  if not found then
    return null;
  end if;
  select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
  v_tenants := jobs.load_batch(v_definition, v_batch, clock_timestamp());
  if v_tenants is null then
    delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    return null;
  end if;
  return jobs.batch_answer(v_definition, v_batch, v_tenants);
end
$$;

comment on function jobs.batch_again(uuid) is 'The open batch that this call was given before, as it was answered then; null when there is none.';

create function jobs.batch_answer(p_definition jobs.definitions, p_batch jobs.batches, p_tenants json)
returns json
language plpgsql
set search_path = ''
as $$
begin
  return json_build_object(
    'batch_id', (p_batch).batch_id, 'job', (p_batch).job, 'now', clock_timestamp(), 'lease_until', (p_batch).lease_until,
    'lease_seconds', (p_definition).lease_seconds, 'cost_unit', (p_definition).cost_unit, 'tenants', p_tenants);
end
$$;

comment on function jobs.batch_answer(jobs.definitions, jobs.batches, json) is 'A batch in the shape in which workers get it.';

create function jobs.set_clock(p_clock jobs.clocks)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update jobs.clocks c
  set revision = c.revision + 1, vtime = (p_clock).vtime, served_from = (p_clock).served_from, due_from = (p_clock).due_from,
    oldest_batch = (p_clock).oldest_batch, looked_at = (p_clock).looked_at, woken_to = (p_clock).woken_to, width = (p_clock).width
  where c.job = (p_clock).job and c.revision = (p_clock).revision;
end
$$;

comment on function jobs.set_clock(jobs.clocks) is 'Writes the clock of a job as its next revision. Under the claim lock.';

-- Answers with json, not jsonb: a batch of 200 costs half a millisecond less, all of it under the claim lock.
create function jobs.next_batch(drain_id uuid, job text, batch_size integer default null, request uuid default null)
returns json
language plpgsql security definer
set search_path = ''
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set enable_material = off
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_batch jobs.batches;
  v_drain jobs.drains;
  v_now timestamptz;
  v_size integer;
  v_room integer;
  v_width integer;
  v_looks_at integer;
  v_lanes integer;
  v_picked integer := 0;
  v_clock jobs.clocks;
  v_deep boolean;
  v_due_from timestamptz;
  v_woken integer;
  v_first double precision;
  v_oldest bigint;
  v_got integer;
  v_tag double precision;
  v_tenants json;
  v_again json;
begin
  perform jobs.require_read_committed();
  select d.* into v_definition from jobs.definitions d where d.job = next_batch.job;
  if not found then
    raise exception 'There is no job "%".', next_batch.job using errcode = 'P0002';
  end if;
  if v_definition.paused or (select p.stopped from jobs.platform p) then
    return null;
  end if;
  -- A drain that was given up for lost gets nothing any more. It is noted once a second that it was heard of: rows that change with
  -- every batch are slow to read while somebody keeps an old snapshot.
  select d.* into v_drain from jobs.drains d
  where d.drain_id = next_batch.drain_id and d.job = next_batch.job and d.ended_at is null
  for no key update;
  if not found then
    return null;
  end if;
  if v_drain.seen_at > clock_timestamp() - interval '1 second' is not true then
    update jobs.drains d set seen_at = clock_timestamp() where d.drain_id = next_batch.drain_id;
  end if;

  perform jobs.claim_lock(next_batch.job);
  if next_batch.request is not null then
    v_again := jobs.batch_again(next_batch.request);
    if v_again is not null then
      return v_again;
    end if;
  end if;
  v_now := clock_timestamp();
  v_size := least(greatest(coalesce(next_batch.batch_size, v_definition.batch_size), 1), 1000);
  v_size := jobs.provider_room(v_definition.provider, v_size, v_now);
  select c.* into v_clock from jobs.clocks c where c.job = next_batch.job order by c.revision desc limit 1;
  if v_definition.cap is not null then
    v_size := least(v_size, v_definition.cap - (
      select coalesce(sum(e.open), 0) from jobs.leases e where e.batch_id >= v_clock.oldest_batch and e.job = next_batch.job));
  end if;
  if v_size <= 0 then
    return null;
  end if;
  -- From where on to look: below these there is nothing but what others have left behind. Forgotten every 30 seconds, so that what
  -- was brought from the past (a long transaction, a price that was corrected) is found; at once when the clock was set back.
  if v_clock.looked_at not between v_now - interval '30 seconds' and v_now then
    v_clock.looked_at := v_now;
    v_clock.due_from := '-infinity';
    v_clock.served_from := '-infinity';
    v_clock.woken_to := '-infinity';
  end if;
  -- What became visible late is looked for with the first claim of each second, and when nobody is awake.
  v_deep := date_trunc('second', v_now) > date_trunc('second', v_clock.woken_to);
  for v_look in 1..2 loop
    v_due_from := case when v_deep then v_clock.due_from else v_clock.woken_to - interval '250 milliseconds' end;
    v_woken := jobs.wake_due_lanes(v_definition, v_clock.vtime, v_due_from, v_now);
    select l.vtime into v_first
    from jobs.lanes l
    where l.job = next_batch.job and l.awake and l.vtime >= v_clock.served_from
    order by l.vtime
    limit 1;
    exit when v_deep or found;
    v_deep := true;
  end loop;
  -- More may be due than a claim wakes: then the next one goes on where this one began.
  if v_woken < 500 then
    v_clock.woken_to := v_now;
    -- A transaction that brought work may have taken so long to commit.
    v_clock.due_from := greatest(v_clock.due_from, v_now - interval '20 seconds');
  else
    v_clock.woken_to := '-infinity';
  end if;
  v_clock.served_from := least(v_clock.vtime, v_first);
  select b.batch_id into v_oldest
  from jobs.batches b where b.job = next_batch.job and b.batch_id >= v_clock.oldest_batch order by b.batch_id limit 1;

  insert into jobs.batches (job, drain_id, run_id, leased_at, lease_until, request)
  values (next_batch.job, next_batch.drain_id, v_drain.run_id, v_now, v_now + make_interval(secs => v_definition.lease_seconds), next_batch.request)
  returning * into v_batch;
  v_clock.oldest_batch := coalesce(v_oldest, v_batch.batch_id);

  -- A round may find lanes empty, or that all it picked must wait (quiet hours): go on until there is work or no lane, but not for long.
  -- All others wait for the claim lock meanwhile, and what a statement_timeout takes back would be found again by every claim to come.
  v_room := v_size;
  v_width := v_clock.width;
  for v_round in 1..100 loop
    -- A round looks at as many lanes as full turns would need; when lanes turn out to hold less, the next one looks at twice as many, and
    -- so on. No more than there is room for, unless the last round found nothing: empty lanes must not use up the rounds of a small batch.
    v_looks_at := v_width * greatest(20, ceil(v_room::numeric / v_definition.quantum));
    if v_got is distinct from 0 then
      v_looks_at := least(v_looks_at, v_room);
    end if;
    select p.picked, p.tag into v_got, v_tag from jobs.pick(v_definition, v_clock, v_batch.batch_id, v_room, v_looks_at, v_now) p;
    -- The start of the last turn served: a lane that wakes now is at most one turn ahead of the others, not a batch.
    v_clock.vtime := greatest(v_clock.vtime, v_tag);
    v_width := least(v_width * 2, 64);
    v_picked := v_picked + coalesce(v_got, 0);
    v_room := v_room - coalesce(v_got, 0);
    if v_got is null or v_room <= 0 or v_round = 100 or clock_timestamp() > v_now + interval '300 milliseconds' then
      exit when v_picked = 0;
      v_tenants := jobs.load_batch(v_definition, v_batch, v_now);
      exit when v_tenants is not null or v_got is null or clock_timestamp() > v_now + interval '300 milliseconds';
      v_picked := 0;
      v_room := v_size;
    end if;
  end loop;

  if v_tenants is null then
    delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    perform jobs.set_clock(v_clock);
    -- It stopped before it had seen all that is awake: null would end the drain.
    if v_woken >= 500 or v_got is not null and exists (
      select from jobs.lanes l where l.job = next_batch.job and l.awake and l.vtime >= v_clock.served_from
    ) then
      return jobs.batch_answer(v_definition, v_batch, '[]');
    end if;
    return null;
  end if;
  -- Where lanes hold an item or two, the next claim begins as widely as this one ended: a round costs as much as forty lanes.
  select count(*) into v_lanes from jobs.leases e where e.batch_id = v_batch.batch_id;
  v_clock.width := least(64, ceil(v_lanes / greatest(20, ceil(v_size::numeric / v_definition.quantum))));
  perform jobs.set_clock(v_clock);
  if v_definition.provider is not null then
    update jobs.batches b set loaded = true where b.batch_id = v_batch.batch_id;
    update jobs.rates r
    set free_at = greatest(r.free_at, v_now) + make_interval(secs => v_picked * jobs.rate_interval(l.rate_per_minute))
    from jobs.provider_limits l
    where r.tenant_id = jobs.everyone_id() and r.provider = v_definition.provider and l.provider = r.provider and l.rate_per_minute is not null;
  end if;
  return jobs.batch_answer(v_definition, v_batch, v_tenants);
end
$$;

grant execute on function jobs.next_batch(uuid, text, integer, uuid) to service_role;
comment on function jobs.next_batch(uuid, text, integer, uuid) is
  'The next batch for a drain: {"batch_id","job","now","lease_until","lease_seconds","cost_unit","tenants":[{"tenant_id","slug","credential","items":'
  '[{"item_id","attempt","trace_id","subject_id","data"}]}]}, or null when nothing is awake. Without tenants it is no batch: all that was found within 300 ms must wait, and there is more, so ask again. With a request (the caller''s own id of this call) it can be repeated: '
  'the batch of an answer that was lost is handed out again. The only place where secrets leave the database. '
  'Definer: writes the engine''s tables and reads the tenants'' secrets in Vault, which service_role must not do row by row.';
