-- Close: what became of the items of a batch, applied in one transaction behind the fence.

-- One item on its way out of a batch.
create type jobs.settled as (
  tenant_id uuid,
  item_id bigint,
  subject_id uuid,
  outcome text,
  ends boolean,
  dies text,
  result jsonb,
  error text,
  run_at timestamptz,
  waiting_for text,
  attempts smallint,
  tries integer,
  due_at timestamptz,
  trace_id uuid,
  credential_source text,
  run_id bigint,
  cost numeric,
  dedupe_key text
);

-- Exponential, full jitter, with a ceiling: attempt 1 waits up to backoff_seconds, each next one up to twice as long.
create function jobs.backoff(p_definition jobs.definitions, p_attempts integer)
returns interval
language sql volatile
set search_path = ''
as $$
  select make_interval(secs => (random() * least(
    (p_definition).backoff_limit_seconds::double precision,
    (p_definition).backoff_seconds::double precision * power(2::double precision, least(greatest(p_attempts, 1) - 1, 40)))))
$$;

comment on function jobs.backoff(jobs.definitions, integer) is 'How long to wait before the next attempt: full jitter between 0 and the exponential bound of this job.';

-- Tells the domain how items ended. One that makes its function raise must not stop the others: then each has its own subtransaction.
create function jobs.apply_ended(p_definition jobs.definitions, p_settled jobs.settled[])
returns jobs.settled[]
language plpgsql
set search_path = ''
set enable_seqscan = on
set enable_nestloop = on
set enable_hashjoin = on
set enable_mergejoin = on
set plan_cache_mode = auto
as $$
declare
  v_ended jobs.ended[];
  v_call text := format('select %s($1)', (p_definition).apply_function::regproc);
  v_one jobs.settled;
  v_result jobs.settled[] := '{}';
begin
  select array_agg((s.tenant_id, s.item_id, s.subject_id, coalesce(case when s.dies is not null then 'dead' end, s.outcome),
      s.result, s.error, s.credential_source)::jobs.ended)
  into v_ended
  from unnest(p_settled) s
  where s.ends;
  if v_ended is null then
    return p_settled;
  end if;

  begin
    execute v_call using v_ended;
    return p_settled;
  exception
    when serialization_failure or deadlock_detected or lock_not_available then
      raise;
    -- A failed ASSERT is not among the others.
    when assert_failure or others then
      null;
  end;

  foreach v_one in array p_settled loop
    if v_one.ends then
      begin
        execute v_call using array[
          (v_one.tenant_id, v_one.item_id, v_one.subject_id, coalesce(case when v_one.dies is not null then 'dead' end, v_one.outcome),
            v_one.result, v_one.error, v_one.credential_source)::jobs.ended];
      exception
        when serialization_failure or deadlock_detected or lock_not_available then
          raise;
        when assert_failure or others then
          -- The result could not be stored. What died stays dead; what was done is tried again, until its attempts are used up.
          v_one.error := left('The result could not be applied: ' || sqlerrm, 500);
          if v_one.dies is null then
            if v_one.outcome in ('unknown', 'cancelled') or v_one.attempts >= (p_definition).max_attempts then
              v_one.dies := 'its result could not be applied';
              v_one.outcome := 'refused';
            else
              v_one.ends := false;
              v_one.outcome := 'retry';
              v_one.waiting_for := 'backoff';
              v_one.run_at := clock_timestamp() + jobs.backoff(p_definition, v_one.attempts);
            end if;
          end if;
      end;
    end if;
    v_result := v_result || v_one;
  end loop;
  return v_result;
end
$$;

comment on function jobs.apply_ended(jobs.definitions, jobs.settled[]) is
  'Calls the job''s apply function for the items that end; one whose application fails becomes a retry, the others go through.';

-- A credential that a provider refused: its owner's lanes are parked, if it is still the one that was refused.
-- Returns the tenants whose lanes are parked now.
create function jobs.park_broken(p_definition jobs.definitions, p_batch jobs.batches, p_settled jobs.settled[])
returns uuid[]
language plpgsql
set search_path = ''
as $$
declare
  v_owner record;
  v_tenants uuid[] := '{}';
begin
  for v_owner in
    select case when e.credential_source = 'platform' then jobs.platform_id() else u.tenant_id end as tenant_id,
      min(e.credential_fingerprint) as fingerprint, min(u.error) as error, array_agg(distinct u.tenant_id) as tenants
    from unnest(p_settled) u
    join jobs.leases e on e.batch_id = (p_batch).batch_id and e.tenant_id = u.tenant_id and e.job = (p_batch).job
    where u.outcome = 'credential broken'
    group by 1
    order by 1
  loop
    if jobs.park(v_owner.tenant_id, (p_definition).provider, v_owner.fingerprint, v_owner.error) then
      -- Tenants that lean on the platform's credential are parked one by one, as they come up.
      update jobs.lanes l
      set awake = false, wake_at = null, reason = 'breaker', head_at = null, head_id = null, detail = case
        when v_owner.tenant_id = jobs.platform_id() then format('the platform''s %s credential does not work', (p_definition).provider)
        else left(v_owner.error, 200) end
      from (
        select x.tenant_id from jobs.lanes x
        where x.job = (p_batch).job and x.tenant_id = any (v_owner.tenants) and x.reason is distinct from 'paused'
        order by x.tenant_id for no key update
      ) mine
      where l.job = (p_batch).job and l.tenant_id = mine.tenant_id;
      v_tenants := v_tenants || v_owner.tenants;
    end if;
  end loop;
  return v_tenants;
end
$$;

comment on function jobs.park_broken(jobs.definitions, jobs.batches, jobs.settled[]) is
  'Parks what a broken credential concerns; an answer about a credential that was replaced meanwhile parks nothing.';

-- Whoever sets a credential has its row before the throttle that it ends. So has a close that writes both.
create function jobs.take_credentials(p_definition jobs.definitions, p_settled jobs.settled[])
returns void
language plpgsql
set search_path = ''
as $$
begin
  if exists (select from unnest(p_settled) u where u.outcome = 'credential broken' and u.credential_source = 'platform') then
    perform from private.platform_credentials c where c.provider = (p_definition).provider for no key update;
  end if;
  perform from public.credentials c
  where c.provider = (p_definition).provider and c.tenant_id = any (array(
    select u.tenant_id from unnest(p_settled) u where u.outcome = 'credential broken' and u.credential_source is distinct from 'platform'))
  order by c.tenant_id
  for no key update;
end
$$;

comment on function jobs.take_credentials(jobs.definitions, jobs.settled[]) is 'Locks the credentials that were refused, in the order in which they are parked.';

-- A provider said "not now", or that it is about to: it is noted once for whom it concerns, and every claim heeds it. That is the
-- owner of the credential, or the tenant alone where it is a limit of its account.
create function jobs.note_throttles(
  p_definition jobs.definitions, p_batch jobs.batches, p_outcomes jsonb, p_settled jobs.settled[], p_now timestamptz)
returns void
language sql
set search_path = ''
as $$
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
$$;

comment on function jobs.note_throttles(jobs.definitions, jobs.batches, jsonb, jobs.settled[], timestamptz) is
  'Notes until when a provider wants to hear nothing with a credential, or of a tenant: lanes of all jobs, and of all tenants that lean on it, wait.';

-- Breakers by failures in a row: a tenant's servings count for its own breaker, all servings for the provider's.
create function jobs.count_failures(p_definition jobs.definitions, p_settled jobs.settled[], p_now timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_answered uuid[];
  v_failing uuid[];
  v_opened uuid[];
  v_failures integer;
begin
  -- A serving failed when some of its items could not be done for the provider's sake and none was answered.
  select array_agg(g.tenant_id order by g.tenant_id) filter (where g.answered),
    array_agg(g.tenant_id order by g.tenant_id) filter (where g.failed and not g.answered)
  into v_answered, v_failing
  from (
    select u.tenant_id,
      bool_or(u.outcome in ('done', 'refused', 'snoozed', 'throttled', 'credential broken')) as answered,
      bool_or(u.outcome = 'retry' or u.outcome = 'unknown') as failed
    from unnest(p_settled) u
    group by u.tenant_id
  ) g;

  if v_answered is not null then
    if exists (
      select from jobs.breakers b where b.provider = (p_definition).provider and b.state <> 'parked'
        and b.tenant_id = any (v_answered || jobs.everyone_id())
    ) then
      perform jobs.close_breakers((p_definition).provider, v_answered, p_now);
    end if;
  end if;

  if v_failing is not null then
    with counted as (
      insert into jobs.breakers as b (tenant_id, provider, state, failures, since)
      select u, (p_definition).provider, 'closed', 1, p_now from unnest(v_failing) u order by u
      on conflict (tenant_id, provider) do update set failures = b.failures + 1
        where b.state <> 'parked'
      returning b.tenant_id, b.failures
    ),
    opened as (
      select c.tenant_id, c.failures from counted c where c.failures >= (p_definition).breaker_after
    )
    select array_agg(o.tenant_id order by o.tenant_id) into v_opened from opened o;
    -- From half a minute to a quarter of an hour, twice as long after every probe that fails.
    update jobs.breakers b
    set state = 'open', since = case when b.state = 'open' then b.since else p_now end,
      reason = format('%s servings in a row failed', b.failures),
      open_until = p_now + make_interval(secs => (0.8 + 0.4 * random()) * least(900, 30 * power(2, least(b.failures - (p_definition).breaker_after, 10))))
    where b.provider = (p_definition).provider and b.tenant_id = any (v_opened);

    if v_answered is null then
      insert into jobs.breakers as b (tenant_id, provider, state, failures, since)
      values (jobs.everyone_id(), (p_definition).provider, 'closed', cardinality(v_failing), p_now)
      on conflict (tenant_id, provider) do update set failures = b.failures + excluded.failures
      returning b.failures into v_failures;
      -- One tenant alone cannot reach this: its own breaker opens long before.
      if v_failures >= 4 * (p_definition).breaker_after then
        update jobs.breakers b
        set state = 'open', reason = 'the provider does not answer', since = case when b.state = 'open' then b.since else p_now end,
          open_until = p_now + make_interval(secs => (0.8 + 0.4 * random()) * least(300, 15 * power(2, least(b.failures / (4 * (p_definition).breaker_after) - 1, 5))))
        where b.tenant_id = jobs.everyone_id() and b.provider = (p_definition).provider;
        perform jobs.open_alert(null, format('provider %s', (p_definition).provider),
          format('%s does not answer for any tenant. One item probes it from time to time.', (p_definition).provider));
      end if;
    end if;
  end if;
end
$$;

comment on function jobs.count_failures(jobs.definitions, jobs.settled[], timestamptz) is
  'Counts servings that failed in a row and opens the breaker of the tenant, or of the provider for all; an answer closes them.';

create function jobs.close_breakers(p_provider public.provider, p_tenant_ids uuid[], p_now timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_closed uuid[];
  v_job text;
begin
  with gone as (
    delete from jobs.breakers b
    where b.provider = p_provider and b.state in ('closed', 'open') and b.tenant_id = any (p_tenant_ids)
    returning b.tenant_id, b.state
  )
  select array_agg(g.tenant_id order by g.tenant_id) into v_closed from gone g where g.state = 'open';
  delete from jobs.breakers b where b.tenant_id = jobs.everyone_id() and b.provider = p_provider and b.state = 'closed';
  update jobs.breakers b set state = 'recovering', open_until = null, failures = 0, since = p_now, reason = null
  where b.tenant_id = jobs.everyone_id() and b.provider = p_provider and b.state = 'open';
  if found then
    perform jobs.close_alert(null, format('provider %s', p_provider));
  end if;
  if v_closed is not null then
    for v_job in select d.job from jobs.definitions d where d.provider = p_provider order by d.job loop
      perform jobs.wake_blocked(v_job, v_closed, 'breaker');
    end loop;
  end if;
end
$$;

comment on function jobs.close_breakers(public.provider, uuid[], timestamptz) is
  'The provider answered these tenants: their breakers close and their lanes wake; the provider''s own goes from open to recovering.';

-- What becomes of each item that still carries this batch's id: the fence.
create function jobs.match_outcomes(p_definition jobs.definitions, p_batch jobs.batches, p_outcomes jsonb, p_now timestamptz)
returns jobs.settled[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = off
set enable_hashjoin = on
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_settled jobs.settled[];
begin
  with held as materialized (
    select l.credential_source, l.is_forgotten, u.*
    from (
      select e.credential_source, e.items,
        e.tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = e.tenant_id) as is_forgotten
      from jobs.leases e
      where e.batch_id = (p_batch).batch_id
      offset 0
    ) l
    cross join lateral unnest(l.items) u
  ),
  -- By its fields: a record of them costs half as much again.
  given as materialized (
    select distinct on ((g ->> 'item_id')::bigint) (g ->> 'item_id')::bigint as item_id, g ->> 'outcome' as outcome, g -> 'result' as result,
      g ->> 'error' as error, g ->> 'reason' as reason, (g ->> 'seconds')::numeric as seconds,
      (g ->> 'after_seconds')::numeric as after_seconds, (g ->> 'until')::timestamptz as until, (g ->> 'cost')::numeric as cost
    from jsonb_array_elements(p_outcomes) g
  )
  select array_agg((s.tenant_id, s.item_id, s.subject_id, s.class,
      s.class in ('done', 'unknown', 'refused', 'cancelled') or s.used_up,
      case when s.class = 'refused' then 'refused' when s.used_up then 'attempts used up' end,
      s.result, s.error,
      case s.class
        when 'retry' then p_now + greatest(jobs.backoff(p_definition, s.attempts), make_interval(secs => coalesce(s.after_seconds, 0)))
        when 'lost' then p_now + jobs.backoff(p_definition, s.attempts)
        when 'snoozed' then coalesce(s.until, p_now + make_interval(secs => coalesce(s.seconds, 60)))
        when 'held' then s.until
        when 'throttled' then p_now + make_interval(secs => coalesce(s.seconds, 60))
        else p_now end,
      case s.class when 'retry' then 'backoff' when 'lost' then 'backoff' when 'throttled' then 'rate limit'
        when 'credential broken' then null else left(s.reason, 200) end,
      s.attempts, s.tries, s.due_at, s.trace_id, s.credential_source, s.run_id, s.cost, s.dedupe_key)::jobs.settled)
  into v_settled
  from (
    select m.*, m.class in ('retry', 'lost') and m.attempts >= (p_definition).max_attempts as used_up
    from (
      select
        e.tenant_id, e.item_id, e.subject_id, e.run_at as due_at, e.trace_id, e.credential_source, e.dedupe_key,
        coalesce(e.run_id, (p_batch).run_id) as run_id, case when o.cost is not null then least(greatest(o.cost, 0), 1e9) end as cost,
        o.result, left(o.error, 500) as error, o.reason,
        -- Waiting times come from outside: never negative, never longer than 30 days, or than 400 where a day is named. (least and greatest
        -- skip nulls.)
        least(greatest(coalesce(o.seconds, 60), 0), 2592000) as seconds, least(greatest(o.after_seconds, 0), 2592000) as after_seconds,
        case when o.until is not null then greatest(least(o.until, p_now + interval '400 days'), p_now) end as until,
        -- Nobody is left to whom it would matter.
        case when e.is_forgotten then 'cancelled' else case o.outcome
          when 'done' then case when o.result ->> 'status' = 'unknown' then 'unknown' else 'done' end
          when 'snooze' then 'snoozed'
          when 'credential_broken' then 'credential broken'
          else o.outcome end end as class,
        (e.attempts + case when o.outcome in ('done', 'retry', 'refused', 'lost') then 1 else 0 end)::smallint as attempts,
        (e.tries + case when o.outcome = 'held' and not e.is_forgotten then 0 else 1 end) as tries
      from held e
      join given o on o.item_id = e.item_id
      -- What each item becomes is worked out once, not wherever it is used.
      offset 0
    ) m
  ) s;
  return v_settled;
end
$$;

comment on function jobs.match_outcomes(jobs.definitions, jobs.batches, jsonb, timestamptz) is
  'The outcomes of the items that are still leased to the batch, with what becomes of each; others are left out.';

-- What a provider said of the platform's credential is not for each tenant's ears. What it said of a tenant's account is.
create function jobs.for_members(p_definition jobs.definitions, p_outcomes jsonb, p_settled jobs.settled[])
returns jobs.settled[]
language plpgsql
set search_path = ''
as $$
declare
  v_of_account bigint[];
  v_one jobs.settled;
  v_result jobs.settled[];
begin
  if not exists (
    select from unnest(p_settled) u where u.credential_source = 'platform' and u.outcome in ('throttled', 'credential broken')
  ) then
    return p_settled;
  end if;
  v_of_account := array(select (o ->> 'item_id')::bigint from jsonb_array_elements(p_outcomes) o where o ->> 'scope' = 'account');
  foreach v_one in array p_settled loop
    if v_one.credential_source = 'platform' then
      v_one.error := case
        when v_one.outcome = 'credential broken' then format('the platform''s %s credential does not work', (p_definition).provider)
        when v_one.outcome = 'throttled' and v_one.item_id <> all (v_of_account)
          then format('the platform''s %s credential is throttled', (p_definition).provider)
        else v_one.error end;
    end if;
    v_result := v_result || v_one;
  end loop;
  return v_result;
end
$$;

comment on function jobs.for_members(jobs.definitions, jsonb, jobs.settled[]) is
  'The same items; where the platform''s credential was throttled or refused, in general words instead of the provider''s.';

-- Writes it down: history, what comes back, what is dead, places that become free.
create function jobs.write_settled(p_batch jobs.batches, p_settled jobs.settled[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = off
set enable_hashjoin = on
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
begin
  insert into jobs.attempts (
    tenant_id, item_id, try, job, subject_id, batch_id, run_id, outcome, error, credential_source, due_at, started_at, trace_id)
  select s.tenant_id, s.item_id, s.tries, (p_batch).job, s.subject_id, (p_batch).batch_id, s.run_id, s.outcome, s.error,
    s.credential_source, s.due_at, (p_batch).leased_at, s.trace_id
  from unnest(p_settled) s
  where s.outcome <> 'held';

  -- Nearly always all of them are done, and that is all.
  if exists (select from unnest(p_settled) s where not s.ends or s.dies is not null) then
    -- One that could not be applied comes back with its key, unless the key is somebody else's by now.
    with back as materialized (
      select s.*, i.run_id as own_run_id, i.enqueued_at, i.last_error, i.payload
      from unnest(p_settled) s
      join jobs.leased_items i on i.item_id = s.item_id
      where not s.ends and i.batch_id = (p_batch).batch_id
    ),
    keyed as (
      insert into jobs.dedupe_keys as k (tenant_id, job, dedupe_key, item_id)
      select b.tenant_id, (p_batch).job, b.dedupe_key, b.item_id
      from back b
      where b.dedupe_key is not null
      order by b.tenant_id, b.dedupe_key, b.item_id
      on conflict (tenant_id, job, dedupe_key) do update set item_id = excluded.item_id where k.item_id = excluded.item_id
      returning k.tenant_id, k.item_id
    )
    insert into jobs.items (
      tenant_id, item_id, job, subject_id, run_id, run_at, enqueued_at, attempts, tries, waiting_for, last_error, dedupe_key, trace_id, payload)
    overriding system value
    select b.tenant_id, b.item_id, (p_batch).job, b.subject_id, b.own_run_id, b.run_at, b.enqueued_at, b.attempts, b.tries, b.waiting_for,
      coalesce(b.error, b.last_error), case when k.item_id is not null then b.dedupe_key end, b.trace_id, b.payload
    from back b
    left join keyed k on k.tenant_id = b.tenant_id and k.item_id = b.item_id;

    insert into jobs.dead_items (
      tenant_id, item_id, job, subject_id, payload, attempts, tries, reason, last_error, enqueued_at, trace_id, dedupe_key)
    select s.tenant_id, s.item_id, (p_batch).job, s.subject_id, i.payload, s.attempts, s.tries, s.dies, coalesce(s.error, i.last_error),
      i.enqueued_at, s.trace_id, s.dedupe_key
    from unnest(p_settled) s
    join jobs.leased_items i on i.item_id = s.item_id
    where s.ends and s.dies is not null and i.batch_id = (p_batch).batch_id
      -- Nobody is left who could replay those of a deleted tenant.
      and (s.tenant_id = jobs.platform_id() or exists (select from public.tenants t where t.id = s.tenant_id));
  end if;

  -- Places become free: of the whole batch at once, or of some of its items.
  delete from jobs.leases e
  where e.batch_id = (p_batch).batch_id
    and cardinality(p_settled) = (select sum(x.open) from jobs.leases x where x.batch_id = (p_batch).batch_id);
  if found then
    return;
  end if;
  with freed as materialized (
    select s.tenant_id, count(*)::integer as items, array_agg(s.item_id) as item_ids from unnest(p_settled) s group by s.tenant_id
  ),
  gone as (
    delete from jobs.leases e
    using freed f
    where e.batch_id = (p_batch).batch_id and e.tenant_id = f.tenant_id and e.open = f.items
  )
  update jobs.leases e
  set open = e.open - f.items, items = array(select i from unnest(e.items) i where i.item_id <> all (f.item_ids))
  from freed f
  where e.batch_id = (p_batch).batch_id and e.tenant_id = f.tenant_id and e.open > f.items;
end
$$;

comment on function jobs.write_settled(jobs.batches, jobs.settled[]) is
  'Remembers the attempts, puts back what comes back, buries the dead, frees the places.';

-- First the domain's rows, then the dedupe keys: that is the order of a client that makes a change and then enqueues. An apply function
-- can enqueue the next item of a key that ends with it: enqueue_many lets go of these keys as they are asked for.
create function jobs.end_items(p_definition jobs.definitions, p_settled jobs.settled[])
returns jobs.settled[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_settled jobs.settled[] := p_settled;
  v_keyed boolean := exists (select from unnest(p_settled) u where u.dedupe_key is not null);
  -- An apply function may cancel.
  v_before text := coalesce(current_setting('onecron.ending', true), '');
begin
  if (p_definition).apply_function is not null then
    if v_keyed then
      perform set_config('onecron.ending', array(select u.item_id from unnest(v_settled) u where u.ends and u.dedupe_key is not null)::text, true);
    end if;
    v_settled := jobs.apply_ended(p_definition, v_settled);
    if v_keyed then
      perform set_config('onecron.ending', v_before, true);
    end if;
  end if;
  if v_keyed then
    delete from jobs.dedupe_keys k
    using (select u.tenant_id, u.dedupe_key, u.item_id from unnest(v_settled) u where u.ends and u.dedupe_key is not null) freed
    where k.tenant_id = freed.tenant_id and k.job = (p_definition).job and k.dedupe_key = freed.dedupe_key and k.item_id = freed.item_id;
  end if;
  return v_settled;
end
$$;

comment on function jobs.end_items(jobs.definitions, jobs.settled[]) is
  'Tells the job''s apply function how items ended, then frees their dedupe keys; returns the items, those that could not be applied with what becomes of them.';

-- Applies outcomes to the items that this batch still holds. Everything else is stale and changes nothing.
create function jobs.settle(p_definition jobs.definitions, p_batch jobs.batches, p_outcomes jsonb, p_now timestamptz)
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
  v_settled jobs.settled[];
  v_tenant_ids uuid[];
  v_told jobs.settled[];
  v_parked uuid[];
  v_comes_back boolean;
  v_back record;
begin
  -- Without its job nothing says what an outcome means: the items would be gone, neither done nor dead.
  if (p_definition).job is null then
    raise exception 'There is no job "%" any more. Its items stay where they are.', (p_batch).job using errcode = 'P0002';
  end if;
  v_tenant_ids := array(select distinct e.tenant_id from jobs.leases e where e.batch_id = (p_batch).batch_id order by e.tenant_id);
  perform jobs.take_guards((p_batch).job, v_tenant_ids);

  v_settled := jobs.match_outcomes(p_definition, p_batch, p_outcomes, p_now);
  if v_settled is null then
    return 0;
  end if;
  v_settled := jobs.end_items(p_definition, v_settled);

  -- First what concerns whole providers, so that two jobs of one provider take the rows of breakers and lanes in the same order.
  v_parked := '{}';
  if (p_definition).provider is not null then
    if jsonb_path_exists(p_outcomes, '$[*] ? (@.outcome == "throttled" || exists (@.hint))') then
      perform jobs.take_credentials(p_definition, v_settled);
      perform jobs.note_throttles(p_definition, p_batch, p_outcomes, v_settled, p_now);
    end if;
    v_parked := jobs.park_broken(p_definition, p_batch, v_settled);
    -- An item that could not be loaded says nothing about the provider.
    if exists (select from jobs.batches b where b.batch_id = (p_batch).batch_id and b.loaded) then
      perform jobs.count_failures(p_definition, v_settled, p_now);
    end if;
  end if;

  v_comes_back := exists (select from unnest(v_settled) u where not u.ends);
  -- From here on it is for the tenants to read. The platform has the words themselves in its throttles, its alerts and its drains.
  if v_comes_back and (p_definition).provider is not null then
    v_told := jobs.for_members(p_definition, p_outcomes, v_settled);
  end if;
  perform jobs.write_settled(p_batch, coalesce(v_told, v_settled));

  perform jobs.count_run(p_batch, v_settled);

  -- Lanes: places became free, items came back, a provider said not now. Only rows that change are locked, once, in tenant order.
  v_tenant_ids := array(select distinct u.tenant_id from unnest(v_settled) u order by u.tenant_id);
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
  if found then
    update jobs.lanes l set wake_at = greatest(p_now, l.not_before), reason = 'waiting', detail = null
    where l.job = (p_batch).job and l.tenant_id = any (v_tenant_ids) and l.reason = 'cap';
  end if;

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

    -- Those of the others wake_lanes has noted.
    perform jobs.note_lookbacks((p_batch).job, array_agg(s.tenant_id), array_agg(s.run_at))
    from (
      select u.tenant_id, min(u.run_at) as run_at
      from unnest(v_settled) u
      where u.outcome in ('throttled', 'credential broken')
      group by u.tenant_id
    ) s;
    perform jobs.throttle_lanes((p_batch).job, coalesce(v_told, v_settled));
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
      update jobs.lanes l set vtime = greatest((select c.vtime from jobs.clocks c where c.job = l.job order by c.revision desc limit 1), l.vtime + v_back.cost)
      where l.tenant_id = v_back.tenant_id and l.job = (p_batch).job and v_back.cost <> 0;
    end loop;
  end if;
  return cardinality(v_settled);
end
$$;

comment on function jobs.settle(jobs.definitions, jobs.batches, jsonb, timestamptz) is
  'Applies outcomes to the items that still belong to the batch: ended ones are gone, others go back; history, leases, run and lanes follow. Returns how many.';

-- A provider said "not now": the lane sleeps until then, whatever else waits in it.
create function jobs.throttle_lanes(p_job text, p_settled jobs.settled[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_throttled record;
begin
  for v_throttled in
    select u.tenant_id, max(u.run_at) as until, min(u.error) as error
    from unnest(p_settled) u
    where u.outcome = 'throttled'
    group by u.tenant_id
    order by u.tenant_id
  loop
    update jobs.lanes l
    set awake = false, not_before = greatest(l.not_before, v_throttled.until), head_at = null, head_id = null,
      wake_at = case when l.reason in ('breaker', 'paused') then l.wake_at else greatest(l.not_before, v_throttled.until) end,
      reason = case when l.reason in ('breaker', 'paused') then l.reason else 'rate limit' end,
      detail = case when l.reason in ('breaker', 'paused') then l.detail else left(v_throttled.error, 200) end
    where l.job = p_job and l.tenant_id = v_throttled.tenant_id;
  end loop;
end
$$;

comment on function jobs.throttle_lanes(text, jobs.settled[]) is 'Puts the lanes of throttled items to sleep until the provider''s time.';

-- Counts are kept per drain, so that drains never wait for one another; a run is the sum of its drains.
create function jobs.count_run(p_batch jobs.batches, p_settled jobs.settled[])
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
  -- Compared as rows, which only the primary key can answer: a plan that was made while there were few would read all of the run.
  with counted as materialized (
    select c.tenant_id, c.run_id, r.started_at, c.processed, c.failed, (
        select x.batch_id from jobs.run_tenants x
        where x.started_at = r.started_at
          and (x.tenant_id, x.run_id, x.drain_id, x.started_at) >= (c.tenant_id, c.run_id, (p_batch).drain_id, r.started_at)
          and (x.tenant_id, x.run_id, x.drain_id, x.started_at) <= (c.tenant_id, c.run_id, (p_batch).drain_id, r.started_at)
        order by x.tenant_id desc, x.run_id desc, x.drain_id desc, x.started_at desc, x.batch_id desc limit 1) as last_batch_id
    from (
      select u.tenant_id, u.run_id, count(*) filter (where u.dies is null) as processed, count(*) filter (where u.dies is not null) as failed
      from unnest(p_settled) u
      where u.ends and u.run_id is not null
      group by u.tenant_id, u.run_id
    ) c
    cross join lateral (select x.started_at from jobs.runs x where x.run_id = c.run_id offset 0) r
    order by c.run_id, c.tenant_id
  ),
  added as (
    update jobs.run_tenants rt
    set processed = rt.processed + c.processed, failed = rt.failed + c.failed, batch_id = greatest(rt.batch_id, (p_batch).batch_id)
    from counted c
    where rt.started_at = c.started_at
      and (rt.tenant_id, rt.run_id, rt.drain_id, rt.started_at, rt.batch_id) >= (c.tenant_id, c.run_id, (p_batch).drain_id, c.started_at, c.last_batch_id)
      and (rt.tenant_id, rt.run_id, rt.drain_id, rt.started_at, rt.batch_id) <= (c.tenant_id, c.run_id, (p_batch).drain_id, c.started_at, c.last_batch_id)
    returning rt.tenant_id, rt.run_id
  )
  -- The first of its drain, or another batch of it is just being closed.
  insert into jobs.run_tenants as rt (tenant_id, run_id, drain_id, started_at, batch_id, processed, failed)
  select c.tenant_id, c.run_id, (p_batch).drain_id, c.started_at, (p_batch).batch_id, c.processed, c.failed
  from counted c
  where not exists (select from added a where a.tenant_id = c.tenant_id and a.run_id = c.run_id)
  order by c.run_id, c.tenant_id
  on conflict (tenant_id, run_id, drain_id, started_at, batch_id) do update
    set processed = rt.processed + excluded.processed, failed = rt.failed + excluded.failed;

  if not exists (select from unnest(p_settled) u where u.error is not null) then
    return;
  end if;
  -- The first twenty errors tell the story; all of them are in the attempts.
  update jobs.drains d
  set errors = d.errors || e.errors
  from (
    select jsonb_agg(x.error) as errors
    from (
      select jsonb_build_object('run_id', u.run_id, 'item_id', u.item_id, 'outcome', u.outcome, 'error', u.error) as error
      from unnest(p_settled) u
      where u.error is not null and u.outcome not in ('held', 'cancelled')
      limit 10
    ) x
  ) e
  where d.drain_id = (p_batch).drain_id and e.errors is not null and jsonb_array_length(d.errors) < 20;
end
$$;

comment on function jobs.count_run(jobs.batches, jobs.settled[]) is 'Adds what was settled to the counts and errors of its drain.';

create function jobs.close_batch(batch_id bigint, outcomes jsonb, next boolean default false, request uuid default null)
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
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_wrong jsonb;
  v_closed integer := 0;
begin
  perform jobs.require_read_committed();
  if jsonb_typeof(outcomes) is distinct from 'array' then
    raise exception 'outcomes must be an array of {"item_id", "outcome", …}.' using errcode = '22023';
  end if;
  select o into v_wrong
  from jsonb_array_elements(outcomes) o
  where (o ->> 'outcome') in ('done', 'retry', 'refused', 'snooze', 'throttled', 'credential_broken') is not true
  limit 1;
  if found then
    raise exception 'A worker closes items as done, retry, refused, snooze, throttled or credential_broken, not as %.',
      coalesce(v_wrong -> 'outcome', 'null') using errcode = '22023';
  end if;
  select b.* into v_batch from jobs.batches b where b.batch_id = close_batch.batch_id for update;
  if found then
    select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
    v_closed := jobs.settle(v_definition, v_batch, outcomes, clock_timestamp());
    delete from jobs.batches b
    where b.batch_id = v_batch.batch_id and not exists (select from jobs.leases e where e.batch_id = v_batch.batch_id);
    update jobs.drains d set seen_at = clock_timestamp()
    where d.drain_id = v_batch.drain_id and d.seen_at <= clock_timestamp() - interval '1 second';
  end if;
  return json_build_object(
    'closed', v_closed,
    'stale', jsonb_array_length(outcomes) - v_closed,
    'next', case
      when close_batch.next and v_batch.batch_id is not null
        then jobs.next_batch(v_batch.drain_id, v_batch.job, null, close_batch.request)
      -- Closed by the same call before, whose answer was lost.
      when close_batch.next and close_batch.request is not null then jobs.batch_again(close_batch.request) end);
end
$$;

grant execute on function jobs.close_batch(bigint, jsonb, boolean, uuid) to service_role;
comment on function jobs.close_batch(bigint, jsonb, boolean, uuid) is
  'Outcomes of items of a batch: [{"item_id","outcome":"done","result"} | {"outcome":"retry","error","after_seconds"?} | {"outcome":"refused","error"} | '
  '{"outcome":"snooze","seconds"|"until","reason"} | {"outcome":"throttled","seconds","error","scope"?: "account"} | {"outcome":"credential_broken","error"}], '
  'each with "hint"?: {"seconds","reason","scope"?} when the provider''s limit is nearly used up, and "cost"? in the job''s unit. '
  'Returns {"closed","stale","next"}: stale items belong to this batch no more (lease over, or closed before) and were not touched. '
  'Safe to repeat; with the same request (the caller''s own id of this call) the next batch of a lost answer is handed out again. '
  'Definer: the engine''s tables are written by its functions only.';

create function jobs.extend_batch(batch_id bigint)
returns boolean
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
begin
  update jobs.batches b
  set lease_until = clock_timestamp() + make_interval(secs => d.lease_seconds)
  from jobs.definitions d
  where b.batch_id = extend_batch.batch_id and d.job = b.job and b.lease_until > clock_timestamp();
  if not found then
    return false;
  end if;
  update jobs.drains d set seen_at = clock_timestamp()
  from jobs.batches b
  where b.batch_id = extend_batch.batch_id and d.drain_id = b.drain_id;
  return true;
end
$$;

grant execute on function jobs.extend_batch(bigint) to service_role;
comment on function jobs.extend_batch(bigint) is 'Heartbeat: renews the lease by the job''s lease_seconds. False: the lease is over, stop working on this batch. '
  'Definer: the engine''s tables are written by its functions only.';

create function jobs.begin_effects(batch_id bigint, items bigint[], request uuid default null)
returns bigint[]
language plpgsql security definer
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_begun bigint[];
begin
  -- The batch row is locked, so the lease cannot expire between this check and the mark.
  perform from jobs.batches b where b.batch_id = begin_effects.batch_id and b.lease_until > clock_timestamp() for update;
  if not found then
    return '{}';
  end if;
  with marked as (
    insert into jobs.effects as x (batch_id, item_id, request)
    select i.batch_id, i.item_id, begin_effects.request
    from jobs.leased_items i
    where i.batch_id = begin_effects.batch_id and i.item_id = any (begin_effects.items)
      -- Nothing leaves any more for a tenant that was deleted meanwhile.
      and (i.tenant_id = jobs.platform_id() or exists (select from public.tenants t where t.id = i.tenant_id))
    on conflict on constraint effects_pkey do update set request = excluded.request where x.request = excluded.request
    returning x.item_id
  )
  select coalesce(array_agg(marked.item_id), '{}') into v_begun from marked;
  return v_begun;
end
$$;

grant execute on function jobs.begin_effects(bigint, bigint[], uuid) to service_role;
comment on function jobs.begin_effects(bigint, bigint[], uuid) is
  'To be called right before calls that have no idempotency key. Returns the items that may be sent: still leased to this batch, of a tenant that is still there, and not begun before. '
  'With the same request (the caller''s own id of this call) a repeated call is answered as the first one: nothing was sent between the two. '
  'If the worker is lost after this, they end as unknown and are not sent again. Definer: the engine''s tables are written by its functions only.';
