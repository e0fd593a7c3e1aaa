-- claims look wider: written by `npm run db:diff` from sql/.
-- By hand: the tables of the engine are short, and a migration is one transaction with a lock_timeout: it comes whole or not at all.
-- squawk-ignore-file require-concurrent-index-creation, constraint-missing-not-valid, adding-foreign-key-constraint, adding-serial-primary-key-field, adding-field-with-default
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

alter table "jobs"."lanes"
  drop constraint "lanes_pkey";

drop function "jobs"."batch_answer"(jobs.definitions, jobs.batches, json);

drop function "jobs"."claim_lock"(text);

drop function "jobs"."guard_of"(uuid);

drop function "jobs"."guards_of"(text);

create table "jobs"."lane_keys" (
  "tenant_id" uuid not null,
  "job" text not null,
  constraint "lane_keys_pkey" primary key (tenant_id, job)
);

alter table "jobs"."lane_keys"
  enable row level security;

alter table "jobs"."clocks"
  add column "width" integer not null default 1;

alter table "jobs"."lanes"
  add column "written_at" timestamp with time zone not null default clock_timestamp();

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
    'lease_seconds', (p_definition).lease_seconds, 'tenants', p_tenants);
end
$function$;

create or replace function jobs.claim_lock (
  p_job text
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  perform pg_advisory_xact_lock(hashtextextended('onecron claim ' || p_job, 0));
end
$function$;

create or replace function jobs.guard_class (
  p_job text
)
  returns integer
  language sql
  immutable
  set search_path to ''
  AS $function$
  select hashtext('onecron guard ' || p_job)
$function$;

create or replace function jobs.guards_of (
  p_tenant_ids uuid[]
)
  returns integer[]
  language plpgsql
  immutable
  set search_path to ''
  AS $function$
begin
  return array(select hashtext(u::text) & 255 from unnest(p_tenant_ids) with ordinality as t (u, n) order by n);
end
$function$;

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
    wake_at timestamp with time zone
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
      else least(s.wake_at, greatest(s.not_before, p_now + interval '1 second')) end
  from (
    select j.tenant_id, l.guard, l.not_before, coalesce(j.reason, case
        when n.run_at is null then 'idle'
        when l.not_before > n.run_at then case when (p_definition).has_cadence then 'cadence' else 'rate limit' end
        else coalesce(n.waiting_for, 'waiting') end) as reason,
      j.detail,
      case
        when j.reason is not null then j.wake_at
        when n.run_at is not null then greatest(n.run_at, l.not_before) end as wake_at
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

create or replace function jobs.make_lanes (
  p_job text,
  p_tenant_ids uuid[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
#variable_conflict use_column
begin
  with made as (
    insert into jobs.lane_keys (tenant_id, job)
    select u.tenant_id, p_job
    from (select distinct t as tenant_id from unnest(p_tenant_ids) t) u
    where not exists (select from jobs.lane_keys k where k.tenant_id = u.tenant_id and k.job = p_job)
    order by u.tenant_id
    on conflict do nothing
    returning tenant_id
  )
  insert into jobs.lanes (tenant_id, job, reason) select made.tenant_id, p_job, 'idle' from made;
end
$function$;

create or replace function jobs.next_batch (
  drain_id uuid,
  job text,
  batch_size integer default null::integer,
  request uuid default null::uuid
)
  returns json
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_batch jobs.batches;
  v_drain jobs.drains;
  v_now timestamptz;
  v_size integer;
  v_room integer;
  v_width integer;
  v_lanes integer;
  v_picked integer := 0;
  v_clock jobs.clocks;
  v_deep boolean;
  v_due_from timestamptz;
  v_woken integer;
  v_first double precision;
  v_oldest bigint;
  v_got integer;
  v_found jobs.items[];
  v_items jobs.items[];
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
  select c.* into v_clock from jobs.clocks c where c.job = next_batch.job;
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

  -- A round may find lanes empty, or that all it picked must wait (quiet hours): go on until there is work or no lane.
  v_room := v_size;
  v_width := v_clock.width;
  for v_round in 1..100 loop
    select p.picked, p.items into v_got, v_found from jobs.pick(v_definition, v_clock, v_batch.batch_id, v_room, v_width, v_now) p;
    v_items := v_items || v_found;
    v_width := least(v_width * 2, 64);
    v_picked := v_picked + coalesce(v_got, 0);
    v_room := v_room - coalesce(v_got, 0);
    if v_got is null or v_room <= 0 or v_round = 100 then
      exit when v_picked = 0;
      v_tenants := jobs.load_batch(v_definition, v_batch, v_items, v_now);
      exit when v_tenants is not null or v_got is null;
      v_picked := 0;
      v_items := null;
      v_room := v_size;
    end if;
  end loop;

  if v_tenants is null then
    delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    update jobs.clocks c
    set due_from = v_clock.due_from, woken_to = v_clock.woken_to, served_from = v_clock.served_from, oldest_batch = v_clock.oldest_batch,
      looked_at = v_clock.looked_at
    where c.job = next_batch.job;
    return null;
  end if;
  -- Where lanes hold an item or two, the next claim begins as widely as this one ended: a round costs as much as forty lanes.
  select count(*) into v_lanes from jobs.leases e where e.batch_id = v_batch.batch_id;
  v_width := least(64, ceil(v_lanes / greatest(20, ceil(v_size::numeric / v_definition.quantum))));
  if v_width <> v_clock.width then
    update jobs.clocks c set width = v_width where c.job = next_batch.job;
  end if;
  if v_definition.provider is not null then
    update jobs.batches b set loaded = true where b.batch_id = v_batch.batch_id;
    update jobs.rates r
    set free_at = greatest(r.free_at, v_now) + make_interval(secs => v_picked * jobs.rate_interval(l.rate_per_minute))
    from jobs.provider_limits l
    where r.tenant_id = jobs.everyone_id() and r.provider = v_definition.provider and l.provider = r.provider and l.rate_per_minute is not null;
  end if;
  return jobs.batch_answer(v_definition, v_batch, v_tenants);
end
$function$;

create or replace function jobs.pause (
  job text,
  tenant_id uuid default null::uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
begin
  if pause.tenant_id is null then
    update jobs.definitions d set paused = true where d.job = pause.job;
    if not found then
      raise exception 'There is no job "%".', pause.job using errcode = 'P0002';
    end if;
  else
    if not exists (select from jobs.definitions d where d.job = pause.job) then
      raise exception 'There is no job "%".', pause.job using errcode = 'P0002';
    end if;
    perform jobs.make_lanes(pause.job, array[pause.tenant_id]);
    update jobs.lanes l
    set paused = true, awake = false, wake_at = null, reason = 'paused', detail = 'this lane is paused', head_at = null, head_id = null
    where l.tenant_id = pause.tenant_id and l.job = pause.job;
  end if;
  perform private.audit(pause.tenant_id, 'job.paused', jsonb_build_object('job', pause.job, 'tenant_id', pause.tenant_id));
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
    select array_agg(s.reason order by u.n), array_agg(s.detail order by u.n), array_agg(s.wake_at order by u.n)
    into v_reasons, v_details, v_wake_ats
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
      case when not v_empty[u.n] then v_to_ats[u.n] end, case when not v_empty[u.n] then v_to_ids[u.n] end, v_since[u.n],
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

create or replace function jobs.take_guards (
  p_job text,
  p_tenant_ids uuid[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_class integer := jobs.guard_class(p_job);
begin
  perform pg_advisory_xact_lock_shared(v_class, g.guard)
  from (select distinct u as guard from unnest(jobs.guards_of(p_tenant_ids)) u) g;
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
  set wake_at = greatest(clock_timestamp(), l.not_before), reason = 'waiting', detail = null
  from (
    select s.tenant_id from jobs.lanes s
    where s.job = p_job and s.reason = p_reason and not s.paused and (p_tenant_ids is null or s.tenant_id = any (p_tenant_ids))
    order by s.tenant_id
    for no key update
  ) blocked
  where l.job = p_job and l.tenant_id = blocked.tenant_id;
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
  set awake = true, wake_at = null, reason = null, detail = null, head_at = null, head_id = null, written_at = p_now,
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
      and (x.wake_at is null or x.wake_at > greatest(w.due_at, x.not_before))
    for no key update
  ) asleep;
  update jobs.lanes l
  set wake_at = greatest(asleep.due_at, l.not_before),
    reason = case
      when l.not_before > asleep.due_at then case when l.reason = 'rate limit' then 'rate limit' else 'cadence' end
      when asleep.run_at > now() then p_reason
      else 'waiting' end,
    detail = case when l.reason = 'rate limit' and l.not_before > asleep.due_at then l.detail end
  from unnest(v_places, v_run_ats, v_due_ats) as asleep (place, run_at, due_at)
  -- The rows are locked, so they are where they were.
  where l.ctid = asleep.place;
end
$function$;

create or replace function private.forget_tenant()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  delete from jobs.items i where i.tenant_id = old.id and i.batch_id is null;
  delete from jobs.lane_keys l where l.tenant_id = old.id;
  delete from jobs.dead_items d where d.tenant_id = old.id;
  delete from jobs.breakers b where b.tenant_id = old.id;
  delete from jobs.rates r where r.tenant_id = old.id;
  return null;
end
$function$;

-- By hand: the lanes that are there already.
insert into jobs.lane_keys (tenant_id, job) select l.tenant_id, l.job from jobs.lanes l;

alter table "jobs"."lanes"
  add constraint "lanes_key_fkey" foreign key (tenant_id, job) references jobs.lane_keys(tenant_id, job)
    on delete cascade;

alter table "jobs"."lanes"
  add constraint "lanes_pkey" primary key (tenant_id, job, written_at);

create index lanes_job_tenant_id_idx on jobs.lanes using btree (job, tenant_id)
  where (not awake);

comment on column "jobs"."clocks"."width" is 'How widely the first round of a claim looks, by how many lanes the last batch came from.';

comment on column "jobs"."lanes"."written_at" is 'When a claim last wrote it. In the primary key, so that the key of each version is new: otherwise each write would be compared with all versions that an old snapshot keeps.';

comment on function "jobs"."batch_answer"(jobs.definitions, jobs.batches, json) is 'A batch in the shape in which workers get it.';

comment on function "jobs"."claim_lock"(text) is 'One claimer per job at a time. Taken in a statement of its own, before the one that reads: that makes caps exact.';

comment on function "jobs"."guard_class"(text) is 'The class of the advisory locks that are the guards of this job.';

comment on function "jobs"."guards_of"(uuid[]) is 'Which of the 256 guards of a job protects the lane of each of these tenants, in their order.';

comment on function "jobs"."make_lanes"(text, uuid[]) is 'Makes the lanes of these tenants that are not there yet. They sleep, and know of no work.';

comment on table "jobs"."lane_keys" is 'One row for each lane there is; it makes lanes unique.';

revoke all on function "jobs"."batch_answer"(jobs.definitions, jobs.batches, json) from public;

revoke all on function "jobs"."claim_lock"(text) from public;

revoke all on function "jobs"."guard_class"(text) from public;

revoke all on function "jobs"."guards_of"(uuid[]) from public;

revoke all on function "jobs"."make_lanes"(text, uuid[]) from public;

grant select on table "jobs"."lane_keys" to "service_role";
