-- Enqueue, and the protocol that makes a lost wake-up impossible.
--
-- The race: a claimer finds a lane empty and puts it to sleep while an enqueue that has not committed saw it awake.
-- The cure: whoever brings work to a lane first takes the lane's guard *shared* and keeps it to the end of its transaction;
-- whoever puts a lane to sleep needs the guard *exclusively*, tries it without waiting, and looks again afterwards in a new
-- statement. If the guard is held, the lane sleeps for a second instead of for good. Enqueue never updates a lane that is
-- awake, and no claimer ever waits for a client's transaction. Guards are 256 advisory locks per job, so that a transaction
-- that enqueues for 100,000 tenants holds 256 locks and not 100,000.
--
-- How far back it looks: everything that the lane has had and an old snapshot keeps would have to be stepped over. When all of a lane was
-- looked at and nothing was due, that moment is its floor. Whoever brings work afterwards has the guard, sees the floor, and notes what is
-- due before it (jobs.lookbacks); so the next look begins at the floor, or at the earliest note.

-- In plpgsql, which keeps its plans: a function in SQL that has a search_path is planned with every call.
create function jobs.guards_of(p_tenant_ids uuid[])
returns integer[]
language plpgsql immutable
set search_path = ''
as $$
begin
  return array(select hashtext(u::text) & 255 from unnest(p_tenant_ids) with ordinality as t (u, n) order by n);
end
$$;

create function jobs.guard_class(p_job text)
returns integer
language sql immutable
set search_path = ''
as $$
  select hashtext('onecron guard ' || p_job)
$$;

comment on function jobs.guards_of(uuid[]) is 'Which of the 256 guards of a job protects the lane of each of these tenants, in their order.';
comment on function jobs.guard_class(text) is 'The class of the advisory locks that are the guards of this job.';

create function jobs.take_guards(p_job text, p_tenant_ids uuid[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_class integer := jobs.guard_class(p_job);
begin
  perform pg_advisory_xact_lock_shared(v_class, g.guard)
  from (select distinct u as guard from unnest(jobs.guards_of(p_tenant_ids)) u) g;
end
$$;

comment on function jobs.take_guards(text, uuid[]) is 'Shared guards until the end of the transaction: no lane of these tenants can be put to sleep for good meanwhile.';

create function jobs.make_lanes(p_job text, p_tenant_ids uuid[])
returns void
language plpgsql
set search_path = ''
as $$
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
$$;

comment on function jobs.make_lanes(text, uuid[]) is 'Makes the lanes of these tenants that are not there yet. They sleep, and know of no work.';

-- Whoever brings an item calls it after take_guards, in a later statement, and so sees the floor that the last full look has left.
create function jobs.note_lookbacks(p_job text, p_tenant_ids uuid[], p_run_ats timestamptz[])
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
  insert into jobs.lookbacks (tenant_id, job, run_at)
  select u.tenant_id, p_job, u.run_at
  from unnest(p_tenant_ids, p_run_ats) as u (tenant_id, run_at)
  cross join lateral (
    select x.floor_at from jobs.lanes x where x.tenant_id = u.tenant_id and x.job = p_job order by x.written_at desc limit 1
  ) lane
  -- Of a tenant that is just being deleted the lane is gone afterwards.
  cross join lateral (
    select from jobs.lane_keys k where k.tenant_id = u.tenant_id and k.job = p_job for key share
  ) held
  where lane.floor_at > u.run_at
    and not exists (select from jobs.lookbacks k where k.tenant_id = u.tenant_id and k.job = p_job and k.run_at <= u.run_at);
end
$$;

comment on function jobs.note_lookbacks(text, uuid[], timestamptz[]) is 'Notes what is due before the floor of its lane and before all that is noted, so that it is found when the lane is found empty.';

-- For whoever changes items past the functions of this file: they may come to lie before the floor of their lane.
create function jobs.note_moved()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- Without waiting: a claim that has the guard may be waiting for this very item. Then it is noted in any case.
  if not pg_try_advisory_xact_lock_shared(jobs.guard_class(new.job), (jobs.guards_of(array[new.tenant_id]))[1]) then
    insert into jobs.lookbacks (tenant_id, job, run_at)
    select k.tenant_id, k.job, new.run_at from jobs.lane_keys k where k.tenant_id = new.tenant_id and k.job = new.job for key share;
  else
    perform jobs.note_lookbacks(new.job, array[new.tenant_id], array[new.run_at]);
  end if;
  return null;
end
$$;

comment on function jobs.note_moved() is 'Trigger: an item is due earlier than it was.';

create trigger items_after_update_note
  after update of run_at on jobs.items
  -- What moves because the clock was set back is noted by whoever moves it.
  for each row when (new.run_at < old.run_at and new.enqueued_at = old.enqueued_at)
  execute function jobs.note_moved();

-- Tells sleeping lanes that work is due at a time. Call it after take_guards, in a later statement.
create function jobs.wake_lanes(p_job text, p_tenant_ids uuid[], p_run_ats timestamptz[], p_reason text default 'waiting')
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_early uuid[];
  v_early_ats timestamptz[];
  v_tenant_ids uuid[];
  v_written_ats timestamptz[];
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
  -- Looked up one by one, whatever the planner believes: all lanes of the job are many. From their newest version on: else each time
  -- that a lane has slept is one more to step over while somebody keeps an old snapshot.
  select array_agg(w.tenant_id order by w.tenant_id) filter (where x.floor_at > w.run_at),
    array_agg(w.run_at order by w.tenant_id) filter (where x.floor_at > w.run_at),
    array_agg(w.tenant_id order by w.tenant_id) filter (where x.sleeps_too_long),
    array_agg(w.run_at order by w.tenant_id) filter (where x.sleeps_too_long),
    array_agg(w.due_at order by w.tenant_id) filter (where x.sleeps_too_long),
    array_agg(x.written_at order by w.tenant_id) filter (where x.sleeps_too_long)
  into v_early, v_early_ats, v_tenant_ids, v_run_ats, v_due_ats, v_written_ats
  from (
    -- Never in the past: a claim looks for lanes that became due since shortly before the last one.
    select u.tenant_id, min(u.run_at) as run_at, greatest(min(u.run_at), clock_timestamp()) as due_at
    from unnest(p_tenant_ids, p_run_ats) as u (tenant_id, run_at)
    group by u.tenant_id
  ) w
  cross join lateral (
    select l.floor_at, l.written_at, not l.awake and l.reason not in ('breaker', 'cap', 'paused')
      and (l.wake_at is null or l.wake_at > greatest(w.due_at, l.not_before) or l.head_at > w.run_at) as sleeps_too_long
    from jobs.lanes l
    where l.tenant_id = w.tenant_id and l.job = p_job
    order by l.written_at desc
    limit 1
  ) x;
  if v_early is not null then
    perform jobs.note_lookbacks(p_job, v_early, v_early_ats);
  end if;
  if v_tenant_ids is null then
    return;
  end if;
  -- One that a claim has woken meanwhile is left out. It sleeps no longer than a second while we have its guard.
  select array_agg(asleep.place), array_agg(w.run_at), array_agg(w.due_at)
  into v_places, v_run_ats, v_due_ats
  from (
    select u.*
    from unnest(v_tenant_ids, v_run_ats, v_due_ats, v_written_ats) as u (tenant_id, run_at, due_at, written_at)
    order by u.tenant_id
    offset 0
  ) w
  cross join lateral (
    select x.ctid as place
    from jobs.lanes x
    where x.tenant_id = w.tenant_id and x.job = p_job and x.written_at = w.written_at and not x.awake and x.reason not in ('breaker', 'cap', 'paused')
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
$$;

comment on function jobs.wake_lanes(text, uuid[], timestamptz[], text) is
  'Sets wake_at of sleeping lanes (and makes new ones) for work due at the given times. Awake lanes are not touched, not even locked.';

create function jobs.enqueue_many(
  job text, tenant_ids uuid[], subject_ids uuid[] default null, run_at timestamptz default null,
  dedupe_keys text[] default null, payloads jsonb[] default null
)
returns integer
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
#variable_conflict use_variable
declare
  v_definition jobs.definitions;
  v_run_at timestamptz;
  v_ending bigint[] := nullif(current_setting('onecron.ending', true), '')::bigint[];
  v_count integer;
begin
  perform jobs.take_guards(enqueue_many.job, tenant_ids);
  -- Whoever deletes a definition has all guards: it is gone, or stays.
  select d.* into v_definition from jobs.definitions d where d.job = enqueue_many.job;
  if not found then
    raise exception 'There is no job "%".', enqueue_many.job using errcode = 'P0002';
  end if;
  if exists (
    select from unnest(tenant_ids) u
    where u is null or (u <> jobs.platform_id() and not exists (select from public.tenants t where t.id = u))
  ) then
    raise exception 'An item belongs to a tenant that exists.' using errcode = '23503';
  end if;
  v_run_at := coalesce(enqueue_many.run_at, now() + make_interval(secs => v_definition.start_delay_seconds));
  if not isfinite(v_run_at) then
    raise exception 'run_at must be a time, not infinity.' using errcode = '22008';
  end if;
  -- An index holds no more, and its own words for it tell nobody what to do.
  if exists (select from unnest(dedupe_keys) u where octet_length(u) > 2000) then
    raise exception 'A dedupe key has at most 2,000 bytes, not %. Use a hash of it.', (select max(octet_length(u)) from unnest(dedupe_keys) u)
      using errcode = '22001';
  end if;

  -- Called by the apply function of a close: the keys of the items that end in it are free. See jobs.settle.
  if v_ending is not null then
    delete from jobs.dedupe_keys k
    using unnest(tenant_ids, dedupe_keys) as g (tenant_id, dedupe_key)
    where k.tenant_id = g.tenant_id and k.job = enqueue_many.job and k.dedupe_key = g.dedupe_key and k.item_id = any (v_ending);
  end if;

  with given as materialized (
    select u.*, nextval('jobs.items_item_id_seq') as item_id
    from unnest(tenant_ids, subject_ids, dedupe_keys, payloads) as u (tenant_id, subject_id, dedupe_key, payload)
  ),
  -- In one order, so that two callers with the same keys wait for one another instead of blocking each other.
  keyed as (
    insert into jobs.dedupe_keys as k (tenant_id, job, dedupe_key, item_id)
    select g.tenant_id, enqueue_many.job, g.dedupe_key, g.item_id
    from given g
    where g.dedupe_key is not null
    order by g.tenant_id, g.dedupe_key, g.item_id
    on conflict do nothing
    returning k.item_id
  )
  insert into jobs.items (tenant_id, item_id, job, subject_id, run_at, waiting_for, dedupe_key, payload)
  overriding system value
  select g.tenant_id, g.item_id, enqueue_many.job, g.subject_id, v_run_at, case when v_run_at > now() then 'delay' end, g.dedupe_key, g.payload
  from given g
  where g.dedupe_key is null or g.item_id in (select keyed.item_id from keyed);
  get diagnostics v_count = row_count;

  perform jobs.wake_lanes(enqueue_many.job, tenant_ids, array(select v_run_at from unnest(tenant_ids)), 'delay');
  return v_count;
end
$$;

grant execute on function jobs.enqueue_many(text, uuid[], uuid[], timestamptz, text[], jsonb[]) to service_role;
comment on function jobs.enqueue_many(text, uuid[], uuid[], timestamptz, text[], jsonb[]) is
  'Adds one item per element, in the caller''s transaction; returns how many were new (a dedupe key that is waiting or running '
  'already adds none). run_at defaults to now plus the job''s start delay. Errors: P0002 no such job, 23503 no such tenant, '
  '22001 a dedupe key of more than 2,000 bytes. '
  'Definer: the engine''s tables are written by its functions only.';

create function jobs.enqueue(
  job text, tenant_id uuid, subject_id uuid default null, run_at timestamptz default null,
  dedupe_key text default null, payload jsonb default null
)
returns integer
language sql security definer
set search_path = ''
as $$
  select jobs.enqueue_many(enqueue.job, array[enqueue.tenant_id], array[enqueue.subject_id], enqueue.run_at,
    array[enqueue.dedupe_key], array[enqueue.payload])
$$;

grant execute on function jobs.enqueue(text, uuid, uuid, timestamptz, text, jsonb) to service_role;
comment on function jobs.enqueue(text, uuid, uuid, timestamptz, text, jsonb) is
  'Adds one item in the caller''s transaction; 1 when it is new, 0 when its dedupe key is waiting or running already. '
  'Definer: the engine''s tables are written by its functions only.';

-- Whoever changes or takes away items that wait locks their lanes before, as claims do: a claim then passes these lanes by instead of
-- waiting, with the claim lock of the job in its hand, for a client's transaction to end.
create function jobs.take_lanes(p_job text, p_tenant_ids uuid[])
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform from jobs.lanes l where l.job = p_job and l.tenant_id = any (p_tenant_ids) order by l.tenant_id for no key update;
end
$$;

comment on function jobs.take_lanes(text, uuid[]) is 'Keeps claims away from the lanes of these tenants until the end of the transaction.';

-- What made items wait has changed: they are due now, and their lane wakes for them.
create function jobs.hurry(p_job text, p_tenant_id uuid, p_subject_ids uuid[])
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_count integer;
begin
  perform jobs.take_guards(p_job, array[p_tenant_id]);
  if not exists (
    select from jobs.items i
    where i.job = p_job and i.tenant_id = p_tenant_id and i.run_at > clock_timestamp() and i.subject_id = any (p_subject_ids)
  ) then
    return 0;
  end if;
  perform jobs.take_lanes(p_job, array[p_tenant_id]);
  update jobs.items i
  set run_at = clock_timestamp(), waiting_for = null
  where i.job = p_job and i.tenant_id = p_tenant_id and i.run_at > clock_timestamp() and i.subject_id = any (p_subject_ids);
  get diagnostics v_count = row_count;
  if v_count > 0 then
    perform jobs.wake_lanes(p_job, array[p_tenant_id], array[now()]);
  end if;
  return v_count;
end
$$;

-- The same for items that are known by their dedupe keys. They are brought where they are not there.
create function jobs.hurry_or_enqueue(p_job text, p_tenant_id uuid, p_subject_ids uuid[], p_dedupe_keys text[])
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform jobs.take_guards(p_job, array[p_tenant_id]);
  perform jobs.take_lanes(p_job, array[p_tenant_id]);
  update jobs.items i
  set run_at = now(), waiting_for = null
  from jobs.dedupe_keys k
  where k.tenant_id = p_tenant_id and k.job = p_job and k.dedupe_key = any (p_dedupe_keys)
    and i.tenant_id = k.tenant_id and i.item_id = k.item_id and i.run_at > now();
  perform jobs.enqueue_many(p_job, array(select p_tenant_id from unnest(p_subject_ids)), p_subject_ids, now(), p_dedupe_keys);
end
$$;

comment on function jobs.hurry_or_enqueue(text, uuid, uuid[], text[]) is
  'Makes the waiting items of these keys due now, and enqueues those that are not there. One subject for each key.';
comment on function jobs.hurry(text, uuid, uuid[]) is 'Makes the waiting items of these subjects due now; returns how many. Those in a batch are left alone.';
