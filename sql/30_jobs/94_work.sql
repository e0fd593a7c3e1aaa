-- SQL jobs: no provider involved, so the database does them itself, item by item. An item is claimed in one transaction and worked off in
-- the next one: what takes too long, or ends its session, is known to have been tried, and counts as lost when its lease is over. And
-- while a work function runs, nothing is locked that claims or enqueues need.

-- One item of a SQL job: its own subtransaction, so that one failing tenant never stops the others.
create function jobs.work_item(p_definition jobs.definitions, p_item jobs.items)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_result jsonb;
  v_outcome jsonb;
  v_began timestamptz := clock_timestamp();
begin
  begin
    execute format('select to_jsonb(%s($1, $2, $3))', (p_definition).work_function::regproc)
      into v_result using (p_item).tenant_id, (p_item).subject_id, (p_item).payload;
    v_outcome := jsonb_build_object('item_id', (p_item).item_id, 'outcome', 'done', 'result', coalesce(v_result, 'null'));
  exception
    when query_canceled or admin_shutdown or crash_shutdown then
      raise;
    when assert_failure or others then
      v_outcome := jsonb_build_object('item_id', (p_item).item_id, 'outcome', 'retry', 'error', left(format('%s (%s)', sqlerrm, sqlstate), 500));
  end;
  if (p_definition).cost_unit = 'milliseconds' then
    v_outcome := v_outcome || jsonb_build_object('cost', 1000 * extract(epoch from clock_timestamp() - v_began));
  end if;
  return v_outcome;
end
$$;

comment on function jobs.work_item(jobs.definitions, jobs.items) is
  'Runs the work function for one item and returns its outcome: done, or retry with the error.';

-- The items of a batch that was claimed before: what they do and their ends are one transaction, the caller's.
create function jobs.work_off(p_batch_id bigint)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_outcomes jsonb;
begin
  -- Locked, so that nobody takes it back meanwhile.
  select b.* into v_batch from jobs.batches b where b.batch_id = p_batch_id for update;
  if not found then
    return;
  end if;
  select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
  if v_definition.kind <> 'sql' then
    raise exception 'Batch % is for a worker, not for the database.', p_batch_id using errcode = '22023';
  end if;
  select jsonb_agg(jobs.work_item(v_definition, i)) into v_outcomes
  from jobs.leases e
  cross join lateral unnest(e.items) i
  where e.batch_id = p_batch_id;
  perform jobs.close_batch(p_batch_id, v_outcomes);
end
$$;

comment on function jobs.work_off(bigint) is 'Works off a batch of a SQL job and closes it; nothing when it was taken back meanwhile.';

-- For a caller over HTTP, who has a drain of one job.
create function jobs.work_batch(drain_id uuid, job text, batch_id bigint default null)
returns bigint
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
begin
  if not exists (select from jobs.definitions d where d.job = work_batch.job and d.kind = 'sql') then
    raise exception 'There is no SQL job "%".', work_batch.job using errcode = 'P0002';
  end if;
  if exists (
    select from jobs.batches b where b.batch_id = work_batch.batch_id and (b.job, b.drain_id) is distinct from (work_batch.job, work_batch.drain_id)
  ) then
    raise exception 'Batch % is another drain''s.', work_batch.batch_id using errcode = '22023';
  end if;
  perform jobs.work_off(work_batch.batch_id);
  return (jobs.next_batch(work_batch.drain_id, work_batch.job, 1) ->> 'batch_id')::bigint;
end
$$;

grant execute on function jobs.work_batch(uuid, text, bigint) to service_role;
comment on function jobs.work_batch(uuid, text, bigint) is
  'Works off the item of a SQL job that the last call claimed (its batch_id), and claims the next one: its batch_id, null when none waits. For drains that '
  'come over HTTP. Errors: P0002 no such SQL job, 22023 not a batch of this drain. Definer: the engine''s tables are written by its functions only.';

-- A drain for a SQL job when lanes wait; null when there is nothing to do, which is the cheap and usual case.
create function jobs.begin_drain(p_job text)
returns uuid
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drain_id uuid;
  -- A time that an index can be asked with.
  v_now timestamptz := clock_timestamp();
begin
  if not exists (select from jobs.lanes l where l.job = p_job and l.awake)
    and not exists (select from jobs.lanes l where l.job = p_job and l.wake_at <= v_now) then
    return null;
  end if;
  insert into jobs.drains (job, run_id, answered_at, seen_at)
  values (p_job, jobs.open_run(p_job, 'queue'), clock_timestamp(), clock_timestamp())
  returning drain_id into v_drain_id;
  return v_drain_id;
end
$$;

comment on function jobs.begin_drain(text) is 'Opens a drain of the database itself for a job with waiting lanes; null when none waits.';

-- What is left of a batch goes back untouched: nothing was tried, so nothing is counted.
create function jobs.return_batch(batch_id bigint)
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
#variable_conflict use_column
declare
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_outcomes jsonb;
  v_count integer := 0;
begin
  select b.* into v_batch from jobs.batches b where b.batch_id = return_batch.batch_id for update;
  if not found then
    return 0;
  end if;
  select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
  select jsonb_agg(jsonb_build_object('item_id', i.item_id, 'outcome', 'held', 'until', clock_timestamp())) into v_outcomes
  from jobs.leased_items i
  where i.batch_id = v_batch.batch_id
    and not exists (select from jobs.effects x where x.batch_id = i.batch_id and x.item_id = i.item_id);
  if v_outcomes is not null then
    v_count := jobs.settle(v_definition, v_batch, v_outcomes, clock_timestamp());
  end if;
  delete from jobs.batches b
  where b.batch_id = v_batch.batch_id and not exists (select from jobs.leases e where e.batch_id = v_batch.batch_id);
  return v_count;
end
$$;

grant execute on function jobs.return_batch(bigint) to service_role;
comment on function jobs.return_batch(bigint) is
  'Gives items of a batch back that were not tried (a drain whose time is up): no attempt is counted. Items whose effects had begun stay until the lease ends. '
  'Definer: the engine''s tables are written by its functions only.';

-- One step of the database itself: works off the item that the step before has claimed, and claims the next one of any SQL job. The caller
-- commits after each step. (A procedure could commit by itself, but then it could not pin its search_path.)
create function jobs.work(batch_id bigint default null)
returns bigint
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
  v_last text;
  v_definition jobs.definitions;
  v_drain_id uuid;
  v_batch_id bigint;
  v_has_limit boolean := current_setting('server_version_num')::integer >= 170000;
begin
  select b.job, d.lease_seconds into v_last, v_definition.lease_seconds
  from jobs.batches b join jobs.definitions d on d.job = b.job
  where b.batch_id = work.batch_id;
  if found then
    -- The lease is how long an item may take. From Postgres 17 on this ends the session, so that the next tick can come.
    perform set_config('transaction_timeout', format('%ss', v_definition.lease_seconds), true) where v_has_limit;
    perform jobs.work_off(work.batch_id);
    perform set_config('transaction_timeout', '0', true) where v_has_limit;
  end if;
  -- In turn, beginning after the job that was served last, so that no job waits for another one to be empty.
  v_last := coalesce(v_last, (select d.job from jobs.definitions d where d.kind = 'sql' order by random() limit 1));
  for v_definition in
    select d.* from jobs.definitions d where d.kind = 'sql' and not d.paused order by d.job <= v_last, d.job
  loop
    select d.drain_id into v_drain_id from jobs.drains d
    where d.job = v_definition.job and d.ended_at is null and d.request_id is null
      -- Not one that was started by hand: that has a run of its own.
      and d.run_id is not distinct from (select o.run_id from jobs.open_runs o where o.job = v_definition.job)
      and jobs.drain_is_live(d, v_definition.lease_seconds, clock_timestamp())
    limit 1;
    v_drain_id := coalesce(v_drain_id, jobs.begin_drain(v_definition.job));
    continue when v_drain_id is null;
    v_batch_id := (jobs.next_batch(v_drain_id, v_definition.job, 1) ->> 'batch_id')::bigint;
    if v_batch_id is not null then
      return v_batch_id;
    end if;
    perform jobs.end_drain(v_drain_id);
  end loop;
  return null;
end
$$;

grant execute on function jobs.work(bigint) to service_role;
comment on function jobs.work(bigint) is
  'Works off the item of a SQL job that the last call claimed (its batch_id), and claims the next one: its batch_id, null when none waits. Commit after each '
  'call, and give what you do not work off back by jobs.return_batch. From Postgres 17 on an item that takes longer than its lease ends the session. Called by the one pg_cron entry after each tick until its time is up. '
  'Definer: the engine''s tables are written by its functions only.';
