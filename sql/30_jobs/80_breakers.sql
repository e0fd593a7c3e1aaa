-- Breakers: a broken credential parks all lanes of its owner for that provider, in one update; a new credential wakes them.

-- Wakes lanes that sleep for a reason which an event has removed. Guards first: a claimer may be about to put one to sleep for it.
create function jobs.wake_blocked(p_job text, p_tenant_ids uuid[], p_reason text)
returns void
language plpgsql
set search_path = ''
as $$
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
$$;

comment on function jobs.wake_blocked(text, uuid[], text) is 'Wakes lanes of a job (of these tenants, or of all) that sleep for this reason.';

create function jobs.park(p_tenant_id uuid, p_provider public.provider, p_fingerprint text, p_reason text)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  -- Only the credential that was refused. The row lock makes this wait for a change that is being made.
  if p_tenant_id = jobs.platform_id() then
    update private.platform_credentials c
    set health = 'broken', state = private.credential_state(p_reason), health_reason = left(p_reason, 500), checked_at = now()
    where c.provider = p_provider and c.fingerprint = p_fingerprint;
  else
    update public.credentials c
    set health = 'broken', state = private.credential_state(p_reason), health_reason = left(p_reason, 500), checked_at = now()
    where c.tenant_id = p_tenant_id and c.provider = p_provider and c.fingerprint = p_fingerprint;
  end if;
  if not found then
    return false;
  end if;
  insert into jobs.breakers as b (tenant_id, provider, state, reason)
  values (p_tenant_id, p_provider, 'parked', left(p_reason, 500))
  on conflict (tenant_id, provider) do update set state = 'parked', open_until = null, reason = excluded.reason, since = now();
  update jobs.lanes l
  set awake = false, wake_at = null, reason = 'breaker', detail = left(p_reason, 200), head_at = null, head_id = null
  from (
    select x.tenant_id, x.job
    from jobs.lanes x
    join jobs.definitions d on d.job = x.job and d.provider = p_provider
    where x.tenant_id = p_tenant_id and x.reason is distinct from 'paused'
    order by x.job
    for no key update of x
  ) parked
  where l.tenant_id = parked.tenant_id and l.job = parked.job;
  perform jobs.open_alert(nullif(p_tenant_id, jobs.platform_id()), format('credential %s', p_provider),
    format('The %s credential does not work: %s. Its work is parked until it is set again.', p_provider, rtrim(p_reason, '.')));
  return true;
end
$$;

comment on function jobs.park(uuid, public.provider, text, text) is
  'The credential of this owner (a tenant or the platform) is broken: its lanes for the provider sleep until it changes; one alert. '
  'False when the credential with this fingerprint has been replaced: then nothing is parked.';

create function jobs.unpark(p_tenant_id uuid, p_provider public.provider)
returns void
language plpgsql
set search_path = ''
as $$
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
        where i.job = v_job and i.tenant_id = p_tenant_id and i.waiting_for = 'waiting for a credential of the tenant''s own'));
    end if;
  end loop;
end
$$;

comment on function jobs.unpark(uuid, public.provider) is 'The credential of this owner changed: its breaker closes, its throttle is over, and the lanes held by them wake.';

-- A plan or a status that changed takes effect at the next tick, also for lanes that sleep because of the old one.
create function private.wake_tenant()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job text;
begin
  for v_job in select l.job from jobs.lanes l where l.tenant_id = new.id order by l.job loop
    if new.status = 'active' and old.status <> 'active' then
      perform jobs.wake_blocked(v_job, array[new.id], 'paused');
    end if;
    if new.plan_id <> old.plan_id then
      perform jobs.wake_blocked(v_job, array[new.id], 'cap');
      update jobs.lanes l
      set not_before = n.at, wake_at = case when l.reason = 'cadence' then n.at else l.wake_at end
      from public.plans p
      cross join lateral (select clock_timestamp() + make_interval(secs => p.cadence_seconds) as at) n
      where p.plan_id = new.plan_id and l.tenant_id = new.id and l.job = v_job and l.reason = 'cadence' and l.not_before > n.at;
    end if;
  end loop;
  return null;
end
$$;

comment on function private.wake_tenant() is
  'Trigger: a tenant that is active again, or on another plan, is served by it from the next tick on. Definer: lanes belong to the engine.';

create trigger tenants_after_update_wake
  after update of status, plan_id on public.tenants
  for each row when (old.status <> new.status or old.plan_id <> new.plan_id)
  execute function private.wake_tenant();

create function jobs.wake_job()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if new.provider is distinct from old.provider then
    -- What held its lanes was the old provider's; the next claim looks at the new one.
    perform jobs.wake_blocked(new.job, null, 'breaker');
    perform jobs.wake_blocked(new.job, null, 'rate limit');
  elsif new.platform_allowed and not old.platform_allowed then
    perform jobs.wake_blocked(new.job, null, 'breaker');
  end if;
  return null;
end
$$;

comment on function jobs.wake_job() is
  'Trigger: a job that may use the platform''s credential from now on wakes the lanes that had none; one that changes its provider, all that the old one held. '
  'Definer: lanes belong to the engine.';

create trigger definitions_after_update_wake
  after update of platform_allowed, provider on jobs.definitions
  for each row execute function jobs.wake_job();

create function private.wake_capped()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job text;
begin
  -- First the guard of each job's caps, and then a look: a claim may be about to put a lane to sleep for the old cap. Not the guards of the
  -- tenants: of all jobs together those would be thousands of locks.
  for v_job in select d.job from jobs.definitions d order by d.job loop
    perform pg_advisory_xact_lock_shared(jobs.guard_class(v_job), 256);
    perform jobs.wake_blocked(v_job, array(
      select l.tenant_id from jobs.lanes l join public.tenants t on t.id = l.tenant_id
      where l.job = v_job and l.reason = 'cap' and t.plan_id = new.plan_id), 'cap');
  end loop;
  return null;
end
$$;

comment on function private.wake_capped() is 'Trigger: a higher cap wakes the lanes that sleep for the old one. Definer: lanes belong to the engine.';

create trigger plans_after_update_wake
  after update of cap on public.plans
  for each row when (new.cap > old.cap)
  execute function private.wake_capped();

create function private.wake_resting()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update jobs.lanes l
  set not_before = n.at, wake_at = case when l.reason = 'cadence' then n.at else l.wake_at end
  from (
    select x.tenant_id, x.job, greatest(clock_timestamp(), x.not_before - make_interval(secs => old.cadence_seconds - new.cadence_seconds)) as at
    from jobs.lanes x
    join jobs.definitions d on d.job = x.job
    join public.tenants t on t.id = x.tenant_id
    -- What a provider asked for stays.
    where d.has_cadence and t.plan_id = new.plan_id and x.not_before > clock_timestamp() and x.reason is distinct from 'rate limit'
    order by x.job, x.tenant_id
    for no key update of x
  ) n
  where l.tenant_id = n.tenant_id and l.job = n.job;
  return null;
end
$$;

comment on function private.wake_resting() is 'Trigger: a shorter cadence also ends the rest of lanes that began under the longer one. Definer: lanes belong to the engine.';

create trigger plans_after_update_wake_resting
  after update of cadence_seconds on public.plans
  for each row when (new.cadence_seconds < old.cadence_seconds)
  execute function private.wake_resting();

-- A tenant that is deleted takes its waiting work with it. What is out with a worker comes back to nobody and is dropped then.
create function jobs.forget_tenant(p_tenant_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_run_ids bigint[];
  v_items bigint[];
begin
  -- The lanes first, as claims and closes do: then what these put back is here to be seen, and none waits for the other.
  perform from jobs.lanes l where l.tenant_id = p_tenant_id order by l.job for update;
  delete from jobs.lane_keys l where l.tenant_id = p_tenant_id;
  with gone as (
    delete from jobs.items i where i.tenant_id = p_tenant_id returning i.run_id
  )
  select array_agg(g.run_id), array_agg(g.items) into v_run_ids, v_items
  from (select gone.run_id, count(*) as items from gone where gone.run_id is not null group by gone.run_id) g;
  perform jobs.expect_fewer(v_run_ids, v_items);
  update jobs.alerts a set closed_at = now() where a.tenant_id = p_tenant_id and a.closed_at is null;
  delete from jobs.dedupe_keys k where k.tenant_id = p_tenant_id;
  delete from jobs.dead_items d where d.tenant_id = p_tenant_id;
  delete from jobs.breakers b where b.tenant_id = p_tenant_id;
  delete from jobs.rates r where r.tenant_id = p_tenant_id;
  delete from jobs.throttles w where w.tenant_id = p_tenant_id;
end
$$;

comment on function jobs.forget_tenant(uuid) is 'The work of a tenant that is deleted goes, and its alerts are over.';

create function private.forget_tenant()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform jobs.forget_tenant(old.id);
  return null;
end
$$;

comment on function private.forget_tenant() is 'Trigger: the work of a deleted tenant goes with it. Definer: lanes and items belong to the engine.';

-- What was brought to a tenant in a transaction that was open while it was deleted: an item, or its lane, or only the one of them.
-- One probe for each tenant that has some, however many there are of it.
create function jobs.forget_strays()
returns void
language sql
set search_path = ''
as $$
  with recursive busy as (
    (select i.tenant_id from jobs.items i order by i.tenant_id limit 1)
    union all
    select (select i.tenant_id from jobs.items i where i.tenant_id > b.tenant_id order by i.tenant_id limit 1) from busy b where b.tenant_id is not null
  ),
  known as (
    (select k.tenant_id from jobs.lane_keys k order by k.tenant_id limit 1)
    union all
    select (select k.tenant_id from jobs.lane_keys k where k.tenant_id > n.tenant_id order by k.tenant_id limit 1) from known n where n.tenant_id is not null
  )
  select jobs.forget_tenant(stray.tenant_id)
  from (select b.tenant_id from busy b union select n.tenant_id from known n) stray
  where stray.tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = stray.tenant_id)
$$;

comment on function jobs.forget_strays() is 'Forgets work of tenants that are not there any more. Called by the tick once an hour.';

create trigger tenants_after_delete_forget
  after delete on public.tenants
  for each row execute function private.forget_tenant();
