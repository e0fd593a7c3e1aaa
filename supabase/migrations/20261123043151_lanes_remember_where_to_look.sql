-- lanes remember where to look: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

drop function "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], timestamp
  with time zone[], timestamp with time zone);

create or replace function jobs.how_to_sleep (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_tenant_ids uuid[],
  p_paused boolean[],
  p_not_before timestamp with time zone[],
  p_now timestamp with time zone
)
  returns table (
    tenant_id uuid,
    reason text,
    detail text,
    wake_at timestamp with time zone,
    head_at timestamp with time zone
  )
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
#variable_conflict use_column
declare
  v_class integer := jobs.guard_class((p_definition).job);
  v_guards integer[] := jobs.guards_of(p_tenant_ids);
  v_held integer[];
begin
  v_held := array(
    select g.guard
    from (select distinct u as guard from unnest(v_guards) u) g
    where pg_try_advisory_xact_lock(v_class, g.guard)
  );
  -- A new statement: its snapshot has everything that was committed by anyone who held a guard before us.
  return query
  select s.tenant_id, s.reason, s.detail,
    case
      when s.guard = any (v_held) then s.wake_at
      -- Somebody is just bringing work or freeing a place: look again in a second, not when the next known item is due or never.
      else least(s.wake_at, greatest(s.not_before, p_now + interval '1 second')) end,
    s.head_at
  from (
    select j.tenant_id, l.guard, l.not_before, coalesce(j.reason, case
        when n.run_at is null then 'idle'
        when l.not_before > n.run_at then case when (p_definition).has_cadence then 'cadence' else 'rate limit' end
        else coalesce(n.waiting_for, 'waiting') end) as reason,
      j.detail,
      case
        when j.reason is not null then j.wake_at
        when n.run_at is not null then greatest(n.run_at, l.not_before) end as wake_at,
      -- Before its next item there is nothing, and without one nothing before now. (least skips nulls.)
      case when j.reason is null then least(n.run_at, p_now) end as head_at
    from unnest(p_tenant_ids, p_not_before, v_guards) as l (tenant_id, not_before, guard)
    join jobs.judge_lanes(p_definition, p_tenant_ids, p_paused, (p_clock).oldest_batch, p_now) j on j.tenant_id = l.tenant_id
    left join lateral (
      select i.run_at,
        case when i.waiting_for in ('delay', 'backoff', 'quiet hours', 'rate limit') then i.waiting_for end as waiting_for
      from jobs.items i
      where i.job = (p_definition).job and i.tenant_id = j.tenant_id and i.batch_id is null
      order by i.run_at, i.item_id
      limit 1
    ) n on true
    -- Work that is ready now keeps its lane awake (it arrived just now, or its place under the cap became free).
    where j.reason is not null or n.run_at is null or n.run_at > p_now
  ) s;
end
$function$;

create or replace function jobs.pick (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_batch_id bigint,
  p_room integer,
  p_width integer,
  p_now timestamp with time zone,
  OUT picked integer,
  OUT items jobs.items[]
)
  returns record
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_turns integer := least(p_room, p_width * greatest(20, ceil(p_room::numeric / (p_definition).quantum)));
  v_full uuid[];
  v_lanes uuid[];
  v_places tid[];
  v_paused boolean[];
  v_not_before timestamptz[];
  v_vtimes double precision[];
  v_head_ats timestamptz[];
  v_head_ids bigint[];
  v_since timestamptz[];
  -- From here on one element for each lane, in the order of v_lanes.
  v_costs double precision[];
  v_to_ats timestamptz[];
  v_to_ids bigint[];
  v_empty boolean[];
  v_reasons text[];
  v_details text[];
  v_wake_ats timestamptz[];
  v_next_ats timestamptz[];
  v_tag double precision;
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
    array_agg(case when l.is_fresh then l.head_since else p_now end)
  into v_lanes, v_places, v_paused, v_not_before, v_vtimes, v_head_ats, v_head_ids, v_since
  from (
    select x.*, x.ctid, x.head_at is not null and x.head_since > p_now - interval '30 seconds' as is_fresh
    from jobs.lanes x
    where x.job = (p_definition).job and x.awake and x.vtime >= (p_clock).served_from and x.tenant_id <> all (v_full)
    order by x.vtime, x.tenant_id
    limit v_turns
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
    left join lateral (
      select x.open from jobs.leases x
      where x.tenant_id = u.tenant_id and x.job = (p_definition).job and x.batch_id = p_batch_id
      offset 0
    ) e on true
  ),
  -- Each turn of a lane starts quantum ÷ weight after its turn before: the earliest turns.
  turn as (
    select lane.tenant_id
    from lane
    cross join lateral generate_series(0, least((least(lane.room, p_room) - 1) / (p_definition).quantum,
      -- As many lanes as turns: none has a turn that starts after the first one of the last lane.
      case when cardinality(v_lanes) = v_turns
        then ceil((v_vtimes[v_turns] - lane.vtime) * lane.weight / (p_definition).quantum) end)::integer) as turn (n)
    where lane.reason is null
    order by lane.vtime + turn.n * (p_definition).quantum / lane.weight, lane.tenant_id
    limit v_turns
  ),
  share as materialized (
    select lane.tenant_id, lane.weight, lane.vtime, lane.rate, lane.head_at, lane.head_id,
      least(lane.room, turns.n * (p_definition).quantum) as wanted
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
      where r.job = (p_definition).job and r.tenant_id = share.tenant_id and r.batch_id is null
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
    update jobs.items i
    set batch_id = p_batch_id, waiting_for = null
    where i.ctid = any (array(select candidate.place from candidate)) and i.batch_id is null
    returning i.tenant_id, i.item_id, i.run_at, i as item
  ),
  served as materialized (
    select l.tenant_id, cardinality(l.item_ids) as items, l.item_ids, l.head_at, l.item_ids[cardinality(l.item_ids)] as head_id
    from (
      select leased.tenant_id, array_agg(leased.item_id order by leased.run_at, leased.item_id) as item_ids, max(leased.run_at) as head_at
      from leased
      group by leased.tenant_id
    ) l
  ),
  noted as (
    insert into jobs.leases as e (tenant_id, job, batch_id, item_ids, open)
    select served.tenant_id, (p_definition).job, p_batch_id, served.item_ids, served.items
    from served
    on conflict (tenant_id, job, batch_id) do update
      set item_ids = e.item_ids || excluded.item_ids, open = e.open + excluded.open
  ),
  rated as (
    insert into jobs.rates as r (tenant_id, provider, free_at)
    select served.tenant_id, (p_definition).provider, p_now + make_interval(secs => served.items * jobs.rate_interval(share.rate))
    from served
    join share on share.tenant_id = served.tenant_id
    where share.rate is not null
    order by served.tenant_id
    on conflict (tenant_id, provider) do update
      set free_at = greatest(r.free_at, p_now) + (excluded.free_at - p_now)
  ),
  held as (
    select found.tenant_id, count(*) as items from found group by found.tenant_id
  )
  select coalesce(sum(served.items), 0), (select array_agg(leased.item) from leased), (select max(candidate.tag) from candidate),
    array_agg(served.items / lane.weight order by lane.n), array_agg(served.head_at order by lane.n), array_agg(served.head_id order by lane.n),
    -- No more than this is ready, or nothing may be served: these lanes need a closer look.
    array_agg(lane.reason is not null
      or (coalesce(held.items, 0) < share.wanted and coalesce(served.items, 0) = coalesce(held.items, 0)) order by lane.n)
  into picked, items, v_tag, v_costs, v_to_ats, v_to_ids, v_empty
  from lane
  left join share on share.tenant_id = lane.tenant_id
  left join held on held.tenant_id = lane.tenant_id
  left join served on served.tenant_id = lane.tenant_id;

  if true = any (v_empty) then
    select array_agg(s.reason order by u.n), array_agg(s.detail order by u.n), array_agg(s.wake_at order by u.n), array_agg(s.head_at order by u.n)
    into v_reasons, v_details, v_wake_ats, v_next_ats
    from unnest(v_lanes) with ordinality as u (tenant_id, n)
    left join (
      select h.*
      from (
        select array_agg(e.tenant_id) as tenant_ids, array_agg(e.paused) as paused, array_agg(e.not_before) as not_before
        from unnest(v_lanes, v_paused, v_not_before, v_empty) as e (tenant_id, paused, not_before, is_empty)
        where e.is_empty
      ) closer
      cross join lateral jobs.how_to_sleep(p_definition, p_clock, closer.tenant_ids, closer.paused, closer.not_before, p_now) h
    ) s on s.tenant_id = u.tenant_id;
  end if;
  update jobs.lanes l
  set (written_at, vtime, head_at, head_id, head_since, awake, reason, detail, wake_at) = (
    select p_now, l.vtime + coalesce(v_costs[u.n], 0),
      -- A lane that turns out to have more forgets its watermark: the ready item may lie before it.
      case when v_empty[u.n] then v_next_ats[u.n] else v_to_ats[u.n] end,
      case when not v_empty[u.n] then v_to_ids[u.n] when v_next_ats[u.n] is not null then 0 end, v_since[u.n],
      v_reasons[u.n] is null, v_reasons[u.n], v_details[u.n], v_wake_ats[u.n]
    from (select array_position(v_lanes, l.tenant_id) as n) u)
  -- The rows are locked, so they are where they were.
  where l.ctid = any (array(
    select u.place from unnest(v_places, v_costs, v_empty) as u (place, cost, is_empty) where u.cost is not null or u.is_empty));
  if picked > 0 then
    -- The start of the last turn served: a lane that wakes now is at most one turn ahead of the others, not a batch.
    update jobs.clocks c
    set vtime = greatest(c.vtime, v_tag), due_from = (p_clock).due_from, woken_to = (p_clock).woken_to, served_from = (p_clock).served_from,
      oldest_batch = (p_clock).oldest_batch, looked_at = (p_clock).looked_at
    where c.job = (p_definition).job;
  end if;
end
$function$;

create or replace function jobs.wake_due_lanes (
  p_definition jobs.definitions,
  p_vtime double precision,
  p_due_from timestamp with time zone,
  p_now timestamp with time zone,
  p_limit integer default 500
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
$function$;

create or replace function jobs.wake_lanes (
  p_job text,
  p_tenant_ids uuid[],
  p_run_ats timestamp with time zone[],
  p_reason text default 'waiting'::text
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_places tid[];
  v_run_ats timestamptz[];
  v_due_ats timestamptz[];
begin
  -- In a snapshot older than the guard the lane may look awake although it sleeps. Locking the row makes that an error
  -- (40001, the caller retries) instead of a lost wake-up. Read committed sees the newest row and needs no lock.
  if current_setting('transaction_isolation') <> 'read committed' then
    perform from jobs.lanes l where l.job = p_job and l.tenant_id = any (p_tenant_ids) order by l.tenant_id for share;
  end if;

  perform jobs.make_lanes(p_job, p_tenant_ids);
  -- Looked up one by one, whatever the planner believes: all lanes of the job are many.
  select array_agg(asleep.place), array_agg(w.run_at), array_agg(w.due_at)
  into v_places, v_run_ats, v_due_ats
  from (
    -- Never in the past: a claim looks for lanes that became due since shortly before the last one.
    select u.tenant_id, min(u.run_at) as run_at, greatest(min(u.run_at), clock_timestamp()) as due_at
    from unnest(p_tenant_ids, p_run_ats) as u (tenant_id, run_at)
    group by u.tenant_id
    order by u.tenant_id
    offset 0
  ) w
  cross join lateral (
    select x.ctid as place
    from jobs.lanes x
    where x.job = p_job and x.tenant_id = w.tenant_id and not x.awake and x.reason not in ('breaker', 'cap', 'paused')
      and (x.wake_at is null or x.wake_at > greatest(w.due_at, x.not_before) or x.head_at > w.run_at)
    for no key update
  ) asleep;
  update jobs.lanes l
  set wake_at = least(l.wake_at, greatest(asleep.due_at, l.not_before)),
    reason = case
      -- It wakes early enough, but would not look so far back.
      when l.wake_at <= greatest(asleep.due_at, l.not_before) then l.reason
      when l.not_before > asleep.due_at then case when l.reason = 'rate limit' then 'rate limit' else 'cadence' end
      when asleep.run_at > now() then p_reason
      else 'waiting' end,
    detail = case
      when l.wake_at <= greatest(asleep.due_at, l.not_before) or l.reason = 'rate limit' and l.not_before > asleep.due_at then l.detail end,
    head_at = case when l.head_at > asleep.run_at then asleep.run_at else l.head_at end,
    head_id = case when l.head_at > asleep.run_at then 0 else l.head_id end
  from unnest(v_places, v_run_ats, v_due_ats) as asleep (place, run_at, due_at)
  -- The rows are locked, so they are where they were.
  where l.ctid = asleep.place;
end
$function$;

comment on column "jobs"."lanes"."head_at" is 'Watermark: items before (head_at, head_id) were handed out, so a claim does not walk over them again. Forgotten after 30 s, so that a row that committed late or came back is found; and when the lane is found empty, for then all of it is looked at. Ignored while null.';

comment on function "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], timestamp
  with time zone[], timestamp with time zone) is 'Of these lanes those that go to sleep, with reason and wake_at: until the next item is due, until the reason is gone, or until work arrives. head_at: where the next claim may begin to look.';

revoke all
  on function "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], timestamp
    with time zone[], timestamp with time zone)
  from public;
