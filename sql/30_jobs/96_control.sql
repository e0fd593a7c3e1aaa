-- Control: pause and resume a job, a tenant's lane or everything; cancel and replay by filter. Every call writes an audit row.

create function jobs.require_job_and_tenant(p_job text, p_tenant_id uuid)
returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if not exists (select from jobs.definitions d where d.job = p_job) then
    raise exception 'There is no job "%".', p_job using errcode = 'P0002';
  end if;
  if p_tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = p_tenant_id) then
    raise exception 'There is no tenant %.', p_tenant_id using errcode = 'P0002';
  end if;
end
$$;

comment on function jobs.require_job_and_tenant(text, uuid) is 'Raises P0002 when there is no such job or tenant.';

create function jobs.pause(job text, tenant_id uuid default null)
returns void
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
begin
  if pause.tenant_id is null then
    update jobs.definitions d set paused = true where d.job = pause.job;
    if not found then
      raise exception 'There is no job "%".', pause.job using errcode = 'P0002';
    end if;
  else
    perform jobs.require_job_and_tenant(pause.job, pause.tenant_id);
    perform jobs.make_lanes(pause.job, array[pause.tenant_id]);
    update jobs.lanes l
    set paused = true, awake = false, wake_at = null, reason = 'paused', detail = 'this lane is paused', head_at = null, head_id = null
    where l.tenant_id = pause.tenant_id and l.job = pause.job;
  end if;
  perform private.audit(pause.tenant_id, 'job.paused', jsonb_build_object('job', pause.job, 'tenant_id', pause.tenant_id));
end
$$;

create function jobs.resume(job text, tenant_id uuid default null)
returns void
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
begin
  if resume.tenant_id is null then
    update jobs.definitions d set paused = false where d.job = resume.job;
    if not found then
      raise exception 'There is no job "%".', resume.job using errcode = 'P0002';
    end if;
  else
    perform jobs.require_job_and_tenant(resume.job, resume.tenant_id);
    perform jobs.take_guards(resume.job, array[resume.tenant_id]);
    update jobs.lanes l set paused = false, wake_at = greatest(clock_timestamp(), l.not_before), reason = 'waiting', detail = null
    where l.tenant_id = resume.tenant_id and l.job = resume.job and l.paused;
  end if;
  perform private.audit(resume.tenant_id, 'job.resumed', jsonb_build_object('job', resume.job, 'tenant_id', resume.tenant_id));
end
$$;

create function jobs.stop_all(stopped boolean)
returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  update jobs.platform p set stopped = stop_all.stopped where p.one;
  perform private.audit(null, case when stop_all.stopped then 'platform.stopped' else 'platform.started' end);
end
$$;

grant execute on function jobs.pause(text, uuid) to service_role;
grant execute on function jobs.resume(text, uuid) to service_role;
grant execute on function jobs.stop_all(boolean) to service_role;
comment on function jobs.pause(text, uuid) is
  'Pauses a job for everybody, or one tenant''s lane of it. What is out with a worker ends normally; nothing new starts; nothing is lost. P0002: no such job or tenant. '
  'Definer: the engine''s tables are written by its functions only.';
comment on function jobs.resume(text, uuid) is 'Ends a pause; what waited is served by its turn. P0002: no such job or tenant. '
  'Definer: the engine''s tables are written by its functions only.';
comment on function jobs.stop_all(boolean) is 'The switch for the whole platform: true stops all background work after what is in flight, false starts it again. '
  'Definer: the engine''s tables are written by its functions only.';

-- A portion of what is cancelled: taken out of the queue, told to the domain, written down. One whose end the domain cannot take dies,
-- as it does when a worker closes it.
create function jobs.cancel_items(
  p_definition jobs.definitions, p_tenant_ids uuid[], p_item_ids bigint[], out cancelled integer, out died integer)
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_items jobs.items[];
  v_settled jobs.settled[];
begin
  with gone as (
    delete from jobs.items i
    using unnest(p_tenant_ids, p_item_ids) as u (tenant_id, item_id)
    where i.tenant_id = u.tenant_id and i.item_id = u.item_id
    returning i as item
  )
  select array_agg(g.item order by (g.item).tenant_id, (g.item).item_id) into v_items from gone g;
  perform jobs.expect_fewer(array_agg(g.run_id), array_agg(g.items))
  from (select i.run_id, count(*) as items from unnest(v_items) i where i.run_id is not null group by i.run_id) g;

  v_settled := array(
    select (i.tenant_id, i.item_id, i.subject_id, 'cancelled', true, null, null, 'cancelled by the platform', i.run_at, null,
      i.attempts, i.tries + 1, i.run_at, i.trace_id, null, i.run_id, null, i.dedupe_key)::jobs.settled
    from unnest(v_items) i);
  v_settled := jobs.end_items(p_definition, v_settled);

  insert into jobs.attempts (tenant_id, item_id, try, job, subject_id, run_id, outcome, error, due_at, started_at, trace_id)
  select s.tenant_id, s.item_id, s.tries, (p_definition).job, s.subject_id, s.run_id, s.outcome, s.error, s.due_at, now(), s.trace_id
  from unnest(v_settled) s;
  insert into jobs.dead_items (
    tenant_id, item_id, job, subject_id, payload, attempts, tries, reason, last_error, enqueued_at, trace_id, dedupe_key)
  select s.tenant_id, s.item_id, (p_definition).job, s.subject_id, i.payload, s.attempts, s.tries, s.dies, s.error, i.enqueued_at, s.trace_id, s.dedupe_key
  from unnest(v_settled) s
  join unnest(v_items) i on i.item_id = s.item_id
  where s.dies is not null
    -- Nobody is left who could replay those of a deleted tenant.
    and (s.tenant_id = jobs.platform_id() or exists (select from public.tenants t where t.id = s.tenant_id));
  select count(*), count(s.dies) into cancelled, died from unnest(v_settled) s;
end
$$;

comment on function jobs.cancel_items(jobs.definitions, uuid[], bigint[]) is
  'Cancels these waiting items, whose lanes are held. Returns how many, and how many of them died because the apply function failed for them.';

-- Waiting items that match a filter end as cancelled. A dry run only counts.
create function jobs.cancel(job text, tenant_id uuid default null, older_than interval default null, dry_run boolean default true)
returns integer
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_tenant_ids uuid[];
  v_portion record;
  v_done record;
  v_count integer := 0;
  v_died integer := 0;
begin
  perform jobs.require_read_committed();
  select d.* into v_definition from jobs.definitions d where d.job = cancel.job;
  if not found then
    raise exception 'There is no job "%".', cancel.job using errcode = 'P0002';
  end if;
  -- Only a clear no is one.
  if cancel.dry_run is not false then
    return (
      select count(*) from jobs.items i
      where i.job = cancel.job and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
        and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than));
  end if;
  v_tenant_ids := array(
    select distinct i.tenant_id from jobs.items i
    where i.job = cancel.job and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
      and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than));
  perform jobs.take_lanes(cancel.job, v_tenant_ids);
  -- A thousand at a time: all of them with their payloads are more than an array holds. What is brought meanwhile, also by the domain
  -- when it is told, is not seen: the items are those of one moment.
  for v_portion in
    select array_agg(w.tenant_id) as tenant_ids, array_agg(w.item_id) as item_ids
    from (
      select i.tenant_id, i.item_id, (row_number() over (order by i.tenant_id, i.item_id) - 1) / 1000 as portion
      from jobs.items i
      where i.job = cancel.job and i.tenant_id = any (v_tenant_ids)
        and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than)
    ) w
    group by w.portion
    order by w.portion
  loop
    v_done := jobs.cancel_items(v_definition, v_portion.tenant_ids, v_portion.item_ids);
    v_count := v_count + v_done.cancelled;
    v_died := v_died + v_done.died;
  end loop;
  perform private.audit(cancel.tenant_id, 'items.cancelled', jsonb_build_object(
    'job', cancel.job, 'tenant_id', cancel.tenant_id, 'older_than', cancel.older_than, 'items', v_count, 'died', v_died));
  return v_count;
end
$$;

grant execute on function jobs.cancel(text, uuid, interval, boolean) to service_role;
comment on function jobs.cancel(text, uuid, interval, boolean) is
  'Cancels waiting items of a job, of one tenant or of all, only older ones if asked. dry_run (the default) says how many it would be. Returns how many. '
  'Those whose end the job''s apply function cannot take die instead, and can be replayed. Definer: the engine''s tables are written by its functions only.';

-- Dead items come back to life as new attempts of the same items, with their history.
create function jobs.replay(
  job text, tenant_id uuid default null, reason text default null, died_after timestamptz default null, dry_run boolean default true
)
returns integer
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_tenants uuid[];
  v_count integer;
begin
  perform jobs.require_read_committed();
  if not exists (select from jobs.definitions d where d.job = replay.job) then
    raise exception 'There is no job "%".', replay.job using errcode = 'P0002';
  end if;
  if replay.dry_run is not false then
    -- Of those with the same dedupe key one comes back, and none while the key is in use.
    return (
      select count(*)
      from (
        select distinct d.tenant_id, coalesce('key ' || d.dedupe_key, 'item ' || d.item_id)
        from jobs.dead_items d
        where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id)
          and (replay.reason is null or d.reason = replay.reason) and (replay.died_after is null or d.died_at >= replay.died_after)
          and not exists (
            select from jobs.dedupe_keys k where k.tenant_id = d.tenant_id and k.job = d.job and k.dedupe_key = d.dedupe_key)
      ) back);
  end if;
  v_tenants := array(
    select distinct d.tenant_id from jobs.dead_items d
    where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id) order by 1);
  perform jobs.take_guards(replay.job, v_tenants);
  -- Whoever deletes the dead row revives it: of two replays at once, one finds it gone.
  with revived as (
    delete from jobs.dead_items d
    where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id)
      and (replay.reason is null or d.reason = replay.reason) and (replay.died_after is null or d.died_at >= replay.died_after)
      and d.tenant_id = any (v_tenants)
    returning d.*
  ),
  keyed as (
    insert into jobs.dedupe_keys as k (tenant_id, job, dedupe_key, item_id)
    select r.tenant_id, r.job, r.dedupe_key, r.item_id
    from revived r
    where r.dedupe_key is not null
    order by r.tenant_id, r.dedupe_key, r.item_id
    on conflict do nothing
    returning k.tenant_id, k.item_id
  ),
  back as (
    insert into jobs.items (tenant_id, item_id, job, subject_id, run_at, enqueued_at, tries, last_error, dedupe_key, trace_id, payload)
    overriding system value
    select r.tenant_id, r.item_id, r.job, r.subject_id, now(), r.enqueued_at, r.tries, r.last_error, r.dedupe_key, r.trace_id, r.payload
    from revived r
    where r.dedupe_key is null or exists (select from keyed k where k.tenant_id = r.tenant_id and k.item_id = r.item_id)
    returning items.tenant_id, items.item_id
  ),
  -- One whose dedupe key is in use again stays dead: its work is under way already.
  still_dead as (
    insert into jobs.dead_items
    select r.* from revived r where not exists (select from back b where b.tenant_id = r.tenant_id and b.item_id = r.item_id)
  )
  select count(*), array_agg(distinct b.tenant_id order by b.tenant_id) into v_count, v_tenants from back b;
  if v_count > 0 then
    perform jobs.wake_lanes(replay.job, v_tenants, array(select now() from unnest(v_tenants)));
  end if;
  perform private.audit(replay.tenant_id, 'items.replayed', jsonb_build_object(
    'job', replay.job, 'tenant_id', replay.tenant_id, 'reason', replay.reason, 'died_after', replay.died_after, 'items', v_count));
  return v_count;
end
$$;

grant execute on function jobs.replay(text, uuid, text, timestamptz, boolean) to service_role;
comment on function jobs.replay(text, uuid, text, timestamptz, boolean) is
  'Tries dead items again (of one tenant, with one reason, since a time): fresh attempts, history kept. dry_run (the default) says how many it would be. '
  'Definer: the engine''s tables are written by its functions only.';

-- What a deployment of one's own adds: a job, by its settings. Unknown settings are refused.
create function jobs.define(job text, settings jsonb)
returns jobs.definitions
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_known text[] := array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = 'jobs.definitions'::regclass and a.attnum > 0 and not a.attisdropped and a.attname not in ('job', 'next_slot_at'));
  v_unknown text;
  v_columns text;
begin
  select k into v_unknown from jsonb_object_keys(settings) k where k <> all (v_known) limit 1;
  if v_unknown is not null then
    raise exception 'A job has no setting "%". Known: %.', v_unknown, array_to_string(v_known, ', ') using errcode = '22023';
  end if;
  select s.value into v_unknown from jsonb_each_text(settings) s
  where s.key like '%\_function' and s.value ~ '^[a-z_]+\.[a-z0-9_]+$' and to_regproc(s.value) is null limit 1;
  if v_unknown is not null then
    raise exception 'There is no function "%", or more than one.', v_unknown using errcode = '22023';
  end if;
  select string_agg(format('%I', k), ', ' order by k) into v_columns from jsonb_object_keys(settings) k;
  if v_columns is null then
    raise exception 'Nothing is set. A job needs at least kind and meaning.' using errcode = '22023';
  end if;
  execute format(
    'update jobs.definitions d set (%1$s) = (select %2$s from jsonb_populate_record(null::jobs.definitions, $2) s) where d.job = $1 returning d.*',
    v_columns, (select string_agg(format('s.%I', k), ', ' order by k) from jsonb_object_keys(settings) k))
    into v_definition using define.job, settings;
  if v_definition.job is null then
    execute format(
      'insert into jobs.definitions as d (job, %1$s) select $1, %2$s from jsonb_populate_record(null::jobs.definitions, $2) s returning d.*',
      v_columns, (select string_agg(format('s.%I', k), ', ' order by k) from jsonb_object_keys(settings) k))
      into v_definition using define.job, settings;
  end if;
  perform private.audit(null, 'job.defined', jsonb_build_object('job', define.job, 'settings', settings));
  return v_definition;
end
$$;

comment on function jobs.define(text, jsonb) is
  'Adds a job or changes its settings: jobs.define(''nightly-report'', ''{"kind":"sql","meaning":"…","schedule":"0 4 * * *","work_function":"private.report"}''). '
  'For migrations and the SQL editor only: a job names functions that the database will call. '
  'Definer: the engine''s tables are written by its functions only.';

-- After a restore from a backup ------------------------------------------------------------------------------------------------

-- What was due may have left between the backup and now, and this database knows nothing of it. So it is not sent blindly again: it
-- ends as unknown, as after a worker that was lost. Ids move on, for those given out since are known outside: a worker that still
-- holds a batch from before must not meet another one of the same number.
create function jobs.recover_from_backup(jobs text[] default null, dry_run boolean default true)
returns integer
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_doubtful jsonb := '{"outcome": "done", "result": {"status": "unknown", "reason": "restored from a backup: it may have been sent since"}}';
  -- Mails have keys against a second sending, but the keys of those that left together since are not in the backup.
  v_jobs text[] := coalesce(jobs, array(select d.job from jobs.definitions d where d.effects or d.provider = 'email' and d.scope = 'tenant'));
  v_job text;
  v_definition jobs.definitions;
  v_batch jobs.batches;
  v_tenant_ids uuid[];
  v_count integer := 0;
begin
  perform jobs.require_read_committed();
  select u into v_job from unnest(v_jobs) u where not exists (select from jobs.definitions d where d.job = u) limit 1;
  if found then
    raise exception 'There is no job "%".', v_job using errcode = 'P0002';
  end if;
  if recover_from_backup.dry_run is not false then
    return (select count(*) from jobs.items i where i.job = any (v_jobs) and i.run_at <= now())
      + (select count(*) from jobs.leased_items i where i.job = any (v_jobs));
  end if;
  if not (select p.stopped from jobs.platform p) then
    raise exception 'Work goes on meanwhile. Stop it first: select jobs.stop_all(true).' using errcode = '55000';
  end if;

  perform setval('jobs.items_item_id_seq', nextval('jobs.items_item_id_seq') + 1000000);
  perform setval('jobs.batches_batch_id_seq', nextval('jobs.batches_batch_id_seq') + 1000000);
  perform setval('jobs.runs_run_id_seq', nextval('jobs.runs_run_id_seq') + 1000000);
  foreach v_job in array v_jobs loop
    select d.* into v_definition from jobs.definitions d where d.job = v_job;
    perform jobs.claim_lock(v_job);
    -- What was out when the backup was made, then what waited, as batches of a thousand.
    for v_batch in select b.* from jobs.batches b where b.job = v_job order by b.batch_id for update loop
      v_count := v_count + jobs.settle(v_definition, v_batch, (
        select jsonb_agg(v_doubtful || jsonb_build_object('item_id', i.item_id)) from jobs.leased_items i where i.batch_id = v_batch.batch_id
      ), clock_timestamp());
      delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    end loop;
    loop
      insert into jobs.batches (job, drain_id, lease_until) values (v_job, gen_random_uuid(), clock_timestamp()) returning * into v_batch;
      with taken as (
        delete from jobs.items i
        where i.ctid = any (array(
          select x.ctid from jobs.items x where x.job = v_job and x.run_at <= clock_timestamp() limit 1000 for update))
        returning i as item
      ),
      leased as (
        insert into jobs.leases (tenant_id, job, batch_id, open, items)
        select (t.item).tenant_id, v_job, v_batch.batch_id, count(*), array_agg(t.item order by (t.item).item_id)
        from taken t
        group by (t.item).tenant_id
        returning tenant_id
      )
      select array_agg(leased.tenant_id) into v_tenant_ids from leased;
      if v_tenant_ids is not null then
        v_count := v_count + jobs.settle(v_definition, v_batch, (
          select jsonb_agg(v_doubtful || jsonb_build_object('item_id', i.item_id)) from jobs.leased_items i where i.batch_id = v_batch.batch_id
        ), clock_timestamp());
      end if;
      delete from jobs.batches b where b.batch_id = v_batch.batch_id;
      exit when v_tenant_ids is null;
    end loop;
  end loop;
  perform private.audit(null, 'platform.recovered', jsonb_build_object('jobs', v_jobs, 'items', v_count));
  return v_count;
end
$$;

grant execute on function jobs.recover_from_backup(text[], boolean) to service_role;
comment on function jobs.recover_from_backup(text[], boolean) is
  'After a restore from a backup, while everything is stopped: what was due or running in these jobs (default: all that send messages for tenants) '
  'ends as unknown, because it may have been sent since; ids move on. dry_run (the default) says how many it would be. Returns how many. '
  'Errors: P0002 no such job, 55000 not stopped. Definer: the engine''s tables are written by its functions only.';
