-- tried on the real extensions: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

drop function "jobs"."work"();

drop function "jobs"."work_batch"(uuid, text, integer);

drop function "jobs"."work_item"(jobs.definitions, bigint, uuid, bigint);

create or replace function jobs.begin_drain (
  p_job text
)
  returns uuid
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
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
$function$;

create or replace function jobs.cancel (
  job text,
  tenant_id uuid default null::uuid,
  older_than interval default null::interval,
  dry_run boolean default true
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_tenant_ids uuid[];
  v_items jobs.items[];
  v_count integer;
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
  with gone as (
    delete from jobs.items i
    where i.job = cancel.job and i.tenant_id = any (v_tenant_ids)
      and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than)
    returning i.*
  ),
  remembered as (
    insert into jobs.attempts (tenant_id, item_id, try, job, subject_id, run_id, outcome, error, due_at, started_at, trace_id)
    select g.tenant_id, g.item_id, g.tries + 1, g.job, g.subject_id, g.run_id, 'cancelled', 'cancelled by the platform', g.run_at, now(), g.trace_id
    from gone g
  ),
  freed as (
    delete from jobs.dedupe_keys k using gone g where k.tenant_id = g.tenant_id and k.job = g.job and k.dedupe_key = g.dedupe_key
  )
  select array_agg(g), count(*) into v_items, v_count from gone g;
  perform jobs.expect_fewer(array_agg(g.run_id), array_agg(g.items))
  from (select i.run_id, count(*) as items from unnest(v_items) i where i.run_id is not null group by i.run_id) g;
  if v_definition.apply_function is not null and v_count > 0 then
    execute format('select %s($1)', v_definition.apply_function::regproc) using (
      select array_agg((i.tenant_id, i.item_id, i.subject_id, 'cancelled', null, 'cancelled by the platform', null)::jobs.ended) from unnest(v_items) i);
  end if;
  perform private.audit(cancel.tenant_id, 'items.cancelled', jsonb_build_object(
    'job', cancel.job, 'tenant_id', cancel.tenant_id, 'older_than', cancel.older_than, 'items', v_count));
  return v_count;
end
$function$;

create or replace function jobs.clean (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'on'
  set enable_hashjoin to 'on'
  set plan_cache_mode to 'auto'
  AS $function$
begin
  update jobs.platform p set cleaned_at = p_now where p.cleaned_at < p_now - interval '1 hour';
  if not found then
    return;
  end if;
  perform jobs.make_partitions(p_now);
  perform private.learn_time_zones();
  perform jobs.forget_strays();
  delete from jobs.slots s where s.slot < p_now - interval '90 days';
  -- What came before its partition was made; nearly always nothing.
  delete from jobs.runs_default r where r.finished_at < p_now - interval '90 days';
  delete from jobs.run_tenants_default r where r.started_at < p_now - interval '90 days';
  delete from jobs.attempts_default a where a.finished_at < p_now - interval '30 days';
  delete from jobs.alerts a where a.closed_at < p_now - interval '90 days';
  -- Only of the tick: other entries of pg_cron are not ours. What a crash of the server cut off has no end, and perhaps no start.
  delete from cron.job_run_details d
  where d.command like '%jobs.tick()%' and d.runid <= (
    select max(r.runid) from cron.job_run_details r
    where r.command like '%jobs.tick()%' and coalesce(r.end_time, r.start_time) < p_now - interval '1 day');
  -- Answers to doorbells say nothing that the drains do not say; others are for whoever asked. pg_net's own clean-up waits for its next request.
  begin
    delete from net._http_response r
    using jobs.drains d
    -- Numbers of requests begin anew after a crash of the server.
    where r.id = d.request_id and r.created < p_now - interval '1 hour'
      and r.created between d.rung_at and d.rung_at + interval '10 minutes';
  exception when insufficient_privilege then
    null; -- pg_net before 0.12 lets nobody; it keeps its answers for six hours
  end;
  delete from jobs.drains d where d.ended_at < p_now - interval '1 day';
end
$function$;

create or replace function jobs.forget_strays()
  returns void
  language sql
  set search_path to ''
  AS $function$
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
$function$;

create or replace function jobs.hurry (
  p_job text,
  p_tenant_id uuid,
  p_subject_ids uuid[]
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
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
$function$;

create or replace function jobs.hurry_or_enqueue (
  p_job text,
  p_tenant_id uuid,
  p_subject_ids uuid[],
  p_dedupe_keys text[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
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
$function$;

create or replace function jobs.keep_refreshed_token (
  batch_id bigint,
  item_id bigint,
  token text,
  expires_at timestamp with time zone
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_tenant_id uuid;
  v_fingerprint text;
  v_credential public.credentials;
  v_secret jsonb;
  v_new text;
begin
  if coalesce(keep_refreshed_token.token, '') !~ '^[!-~]+$' or octet_length(keep_refreshed_token.token) > 4000 then
    raise exception 'This is not a token.' using errcode = '22023';
  end if;
  -- The batch row is locked, so the lease cannot expire between this check and the change.
  perform from jobs.batches b
  where b.batch_id = keep_refreshed_token.batch_id and b.job = 'refresh-meta-tokens' and b.lease_until > clock_timestamp()
  for update;
  if not found then
    return false;
  end if;
  select i.tenant_id, i.credential_fingerprint into v_tenant_id, v_fingerprint
  from jobs.leased_items i
  where i.batch_id = keep_refreshed_token.batch_id and i.item_id = keep_refreshed_token.item_id and i.credential_source = 'tenant';
  if not found then
    return false;
  end if;
  select c.* into v_credential from public.credentials c where c.tenant_id = v_tenant_id and c.provider = 'meta' for update;
  if not found then
    return false;
  end if;
  v_secret := private.read_secret_json(v_credential.secret_id) || jsonb_build_object('access_token', keep_refreshed_token.token);
  -- It cannot be read: what else belongs to the token is not known any more, and a member has to enter it again.
  if v_secret is null then
    return false;
  end if;
  v_new := left(encode(sha256(convert_to(v_secret::text || v_tenant_id::text, 'UTF8')), 'hex'), 12);
  -- The same call again, because its answer was lost.
  if v_credential.fingerprint = v_new and v_fingerprint <> v_new then
    return true;
  end if;
  -- What a member entered in the meantime is newer than what was renewed.
  if v_credential.fingerprint is distinct from v_fingerprint then
    return false;
  end if;
  perform vault.update_secret(v_credential.secret_id, v_secret::text);
  update public.credentials c
  set fingerprint = v_new, secret_at = now(), expires_at = keep_refreshed_token.expires_at,
    health = 'healthy', state = 'ok', health_reason = null, checked_at = now()
  where c.tenant_id = v_tenant_id and c.provider = 'meta';
  perform jobs.unpark(v_tenant_id, 'meta');
  perform private.warn_of_credential(v_tenant_id, 'meta', null);
  perform private.audit(v_tenant_id, 'credential.refreshed',
    jsonb_build_object('provider', 'meta', 'kind', v_credential.kind, 'fingerprint', v_new));
  return true;
end
$function$;

create or replace function jobs.park (
  p_tenant_id uuid,
  p_provider public.provider,
  p_fingerprint text,
  p_reason text
)
  returns boolean
  language plpgsql
  set search_path to ''
  AS $function$
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
$function$;

create or replace function jobs.recover_from_backup (
  jobs text[] default null::text[],
  dry_run boolean default true
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
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
$function$;

create or replace function jobs.replay (
  job text,
  tenant_id uuid default null::uuid,
  reason text default null::text,
  died_after timestamp with time zone default null::timestamp with time zone,
  dry_run boolean default true
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
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
$function$;

create or replace function jobs.return_batch (
  batch_id bigint
)
  returns integer
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
  if v_definition.kind <> 'sql' then
    raise exception 'Batch % is for a worker, not for the database.', p_batch_id using errcode = '22023';
  end if;
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
  v_comes_back boolean;
  v_back record;
begin
  v_tenant_ids := array(select distinct e.tenant_id from jobs.leases e where e.batch_id = (p_batch).batch_id order by e.tenant_id);
  perform jobs.take_guards((p_batch).job, v_tenant_ids);

  v_settled := jobs.match_outcomes(p_definition, p_batch, p_outcomes, p_now);
  if v_settled is null then
    return 0;
  end if;
  -- The dedupe keys of what ends are free from here on, so that an apply function can enqueue the next item of the same key.
  if exists (select from unnest(v_settled) u where u.dedupe_key is not null) then
    delete from jobs.dedupe_keys k
    using (select u.tenant_id, u.dedupe_key from unnest(v_settled) u where u.ends and u.dedupe_key is not null) freed
    where k.tenant_id = freed.tenant_id and k.job = (p_batch).job and k.dedupe_key = freed.dedupe_key;
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
  v_tenant_ids := array(select distinct u.tenant_id from unnest(v_settled) u order by u.tenant_id);
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

create or replace function jobs.start_tick (
  seconds integer default null::integer
)
  returns text
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_version integer[] := (
    select regexp_split_to_array(substring(e.extversion from '^[0-9]+\.[0-9]+'), '\.')::integer[]
    from pg_catalog.pg_extension e where e.extname = 'pg_cron');
  v_seconds integer;
  v_schedule text;
begin
  if start_tick.seconds not between 1 and 60 then
    raise exception 'The tick comes every 1 to 60 seconds.' using errcode = '22023';
  end if;
  v_seconds := coalesce(start_tick.seconds, (select p.tick_seconds from jobs.platform p));
  if v_version < array[1, 5] or v_seconds = 60 then
    v_seconds := 60;
    v_schedule := '* * * * *';
  else
    v_schedule := format('%s seconds', v_seconds);
  end if;
  update jobs.platform p set tick_seconds = v_seconds;
  -- One tick, committed at once; then SQL jobs item by item for half of the time between two ticks, so that no tick is late for them.
  perform cron.schedule('onecron', v_schedule, format(
    'do $tick$ declare until timestamptz := clock_timestamp() + interval ''%s seconds''; batch bigint; begin perform jobs.tick(); commit; '
    'loop batch := jobs.work(batch); commit; exit when batch is null or clock_timestamp() >= until; end loop; '
    'perform jobs.return_batch(batch); end $tick$', greatest(1, v_seconds / 2)));
  return v_schedule;
end
$function$;

create or replace function jobs.take_lanes (
  p_job text,
  p_tenant_ids uuid[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  perform from jobs.lanes l where l.job = p_job and l.tenant_id = any (p_tenant_ids) order by l.tenant_id for no key update;
end
$function$;

create or replace function jobs.webhook_secrets (
  tenant text,
  provider text
)
  returns jsonb
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
declare
  v_tenant_id uuid := private.webhook_tenant(webhook_secrets.tenant);
  v_secret jsonb;
begin
  if v_tenant_id is null or webhook_secrets.provider not in ('meta', 'whatsapp') then
    return null;
  end if;
  select private.read_secret_json(c.secret_id) into v_secret
  from (
    select c.secret_id from public.credentials c
    where c.tenant_id = v_tenant_id and c.provider::text = webhook_secrets.provider and c.kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud')
    union all
    select p.secret_id from private.platform_credentials p
    where v_tenant_id = jobs.platform_id() and p.provider::text = webhook_secrets.provider
      and p.kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud')
  ) c;
  -- Who has neither secret cannot be told apart from who does not exist.
  if coalesce(v_secret ->> 'app_secret', '') = '' and coalesce(v_secret ->> 'verify_token', '') = '' then
    return null;
  end if;
  return jsonb_build_object('tenant_id', v_tenant_id,
    'app_secrets', case when coalesce(v_secret ->> 'app_secret', '') = '' then '[]' else jsonb_build_array(v_secret ->> 'app_secret') end,
    'verify_token', nullif(v_secret ->> 'verify_token', ''));
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
  v_batch record;
  v_lane jobs.lanes;
  v_definition jobs.definitions;
  v_dead jobs.dead_items;
  v_last jobs.attempts;
  v_judged record;
  v_behind bigint;
  v_rate numeric;
  v_stuck text;
begin
  select i.* into v_item from jobs.items i where i.item_id = why.item_id and (why.tenant_id is null or i.tenant_id = why.tenant_id);
  if not found then
    select b.batch_id, b.lease_until into v_batch
    from jobs.leased_items i join jobs.batches b on b.batch_id = i.batch_id
    where i.item_id = why.item_id and (why.tenant_id is null or i.tenant_id = why.tenant_id);
    if found then
      return case when v_batch.lease_until > clock_timestamp()
        then format('It is running: batch %s, lease until %s.', v_batch.batch_id, v_batch.lease_until)
        else format('Its worker was lost: the lease of batch %s ended at %s. The next tick takes it back.', v_batch.batch_id, v_batch.lease_until) end;
    end if;
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
  if (select p.stopped from jobs.platform p) then
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
      case when v_judged.wake_at is not null then format(', next look at %s', v_judged.wake_at) else '; it waits until the credential changes' end);
  elsif jobs.provider_is_down(v_definition.provider) then
    return (
      select format('The provider %s does not answer for anybody. One item of one tenant probes it, %s; then the others go on.', v_definition.provider,
        case when b.open_until > clock_timestamp() then format('not before %s', b.open_until) else 'now' end)
      from jobs.breakers b where b.tenant_id = jobs.everyone_id() and b.provider = v_definition.provider);
  elsif v_item.run_at > clock_timestamp() then
    return format('It is not due before %s%s%s.', v_item.run_at,
      case when v_item.waiting_for is not null then ' because of: ' || v_item.waiting_for else '' end,
      case when v_item.attempts > 0 then format(' (attempt %s of %s failed: %s)', v_item.attempts, v_definition.max_attempts, v_item.last_error) else '' end);
  elsif v_judged.reason = 'cap' and exists (
    select from jobs.breakers b where b.tenant_id = v_item.tenant_id and b.provider = v_definition.provider and b.state = 'open'
  ) then
    return 'The breaker of its lane is open, and another item probes the provider; it goes on when that one is answered.';
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
    where i.job = v_item.job and i.tenant_id = v_item.tenant_id and (i.run_at, i.item_id) < (v_item.run_at, v_item.item_id)
    order by i.run_at, i.item_id
    limit 100000
  ) earlier;
  -- What the lane got in the last five minutes tells what it will get.
  select count(*) / 300.0 into v_rate from jobs.attempts a
  where a.tenant_id = v_item.tenant_id and a.job = v_item.job and a.finished_at > clock_timestamp() - interval '5 minutes';
  v_stuck := case
    when coalesce((select p.last_tick_at < clock_timestamp() - make_interval(secs => 3 * p.tick_seconds + 5) from jobs.platform p), true)
      then format('No tick has come%s: nothing starts before one does.', (select ' since ' || p.last_tick_at from jobs.platform p))
    when (
      select count(*) >= 3 and bool_and(d.error is not distinct from 'the doorbell was not answered') from jobs.drains d
      where d.job = v_item.job and (d.ended_at > clock_timestamp() - interval '5 minutes' or (d.ended_at is null and d.answered_at is not null))
    ) then 'No worker answers the doorbells of its job: it starts when one does.'
    when v_definition.kind <> 'sql' and exists (select from jobs.alerts a where a.tenant_id is null and a.incident = 'doorbell' and a.closed_at is null)
      then 'No doorbell can be rung: it starts when one can.'
    when (
      select count(*) >= 3 and bool_and(d.error is not null) from (
        select x.error from jobs.drains x
        where x.job = v_item.job and x.ended_at > clock_timestamp() - interval '5 minutes' order by x.ended_at desc limit 3
      ) d
    ) and not exists (select from jobs.drains d where d.job = v_item.job and d.ended_at is null and d.answered_at is not null) then 'The workers of its job fail: it starts when one succeeds.' end;
  return format('It is ready, behind %s items of its own tenant%s. %s', v_behind,
    -- How many other tenants there are, and how busy, is none of a tenant's business.
    case when private.is_platform() then format('; %s other lanes are awake',
      (select count(*) from (select from jobs.lanes l where l.job = v_item.job and l.awake and l.tenant_id <> v_item.tenant_id limit 1000) o)) end,
    case
      when v_stuck is not null then v_stuck
      when v_rate > 0
        then format('Expected start: about %s.', date_trunc('second', clock_timestamp() + make_interval(secs => (v_behind / v_rate)::double precision)))
      when v_behind < least(v_judged.share, v_definition.batch_size) then 'Expected start: with the next drain.'
      else 'Expected start: not known, nothing of its lane was served in the last five minutes.' end);
end
$function$;

create or replace function jobs.work (
  batch_id bigint default null::bigint
)
  returns bigint
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
  v_last text;
  v_definition jobs.definitions;
  v_drain_id uuid;
  v_batch_id bigint;
begin
  select b.job into v_last from jobs.batches b where b.batch_id = work.batch_id;
  perform jobs.work_off(work.batch_id);
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
$function$;

create or replace function jobs.work_batch (
  drain_id uuid,
  job text,
  batch_id bigint default null::bigint
)
  returns bigint
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
$function$;

create or replace function jobs.work_item (
  p_definition jobs.definitions,
  p_item jobs.items
)
  returns jsonb
  language plpgsql
  set search_path to ''
  AS $function$
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
$function$;

create or replace function jobs.work_off (
  p_batch_id bigint
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
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
$function$;

create or replace function private.credential_for (
  p_tenant_id uuid,
  p_provider public.provider,
  p_platform_allowed boolean
)
  returns jsonb
  language sql
  stable
  set search_path to ''
  AS $function$
  select jsonb_build_object(
    'credential_id', c.id, 'provider', p_provider, 'kind', c.kind, 'source', c.source, 'account', c.account,
    'secret', private.read_secret_json(c.secret_id))
  from (
    select own.id, own.kind, 'tenant' as source, own.account, own.secret_id
    from public.credentials own
    where own.tenant_id = p_tenant_id and own.provider = p_provider
    union all
    select null, shared.kind, 'platform', shared.account, shared.secret_id
    from private.platform_credentials shared
    where p_platform_allowed and shared.provider = p_provider
      and not exists (select from public.credentials own where own.tenant_id = p_tenant_id and own.provider = p_provider)
  ) c
$function$;

create or replace function private.read_secret_json (
  p_id uuid
)
  returns jsonb
  language plpgsql
  stable
  set search_path to ''
  AS $function$
declare
  v_secret text := private.read_secret(p_id);
begin
  return v_secret::jsonb;
exception when data_exception then
  return null;
end
$function$;

create or replace function private.take_signals (
  p_tenant_id uuid,
  p_signals jsonb,
  p_via text,
  p_credential_source text default null::text
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
declare
  v_given integer := case when jsonb_typeof(p_signals) = 'array' then jsonb_array_length(p_signals) else 0 end;
  v_valid integer;
  v_signal_ids uuid[];
  v_new private.signals[];
  v_linked uuid[];
  v_waiting uuid[];
begin
  if v_given = 0 or not exists (select from public.tenants t where t.id = p_tenant_id) then
    return jsonb_build_object('recorded', 0, 'skipped', v_given, 'decided', 0);
  end if;

  with given as materialized (
    select e.value ->> 'surface' as surface, e.value ->> 'kind' as kind, e.value ->> 'external_id' as external_id,
      nullif(e.value ->> 'author_id', '') as author_id, e.value ->> 'author_username' as author_username,
      nullif(e.value ->> 'target_id', '') as target_id, left(e.value ->> 'text', 10000) as text, left(e.value ->> 'referral', 200) as referral,
      e.value -> 'codes' as codes, e.value -> 'details' as details, e.value ->> 'happened_at' as happened_at
    from jsonb_array_elements(p_signals) e
    where jsonb_typeof(e.value) = 'object'
  ),
  -- A time is taken only when it can be one: a cast must not raise for the sake of one bad entry.
  timed as materialized (
    select g.*,
      case
        when g.happened_at is null then now()
        when g.happened_at !~ '^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])$'
          then null
        when substr(g.happened_at, 9, 2)::integer > extract(day from (substr(g.happened_at, 1, 7) || '-01')::date + interval '1 month - 1 day') then null
        else g.happened_at::timestamptz end as at
    from given g
  ),
  valid as materialized (
    select t.*
    from timed t
    where (t.surface, t.kind) in (('instagram', 'comment'), ('facebook', 'comment'), ('instagram', 'mention'), ('instagram', 'story_mention'),
        ('instagram', 'message'), ('facebook', 'message'), ('whatsapp', 'message'), ('facebook', 'reaction'), ('link', 'visit'), ('link', 'sign_up'))
      and t.external_id ~ '^[!-~]+$' and octet_length(t.external_id) <= 300
      and (t.author_id ~ '^[!-~]{1,200}$') is not false and (t.target_id ~ '^[!-~]{1,200}$') is not false
      and t.at <= now() + interval '1 day'
  ),
  recorded as (
    insert into private.signals (
      tenant_id, surface, kind, external_id, author_id, author_username, target_id, codes, message, details, via, happened_at)
    select distinct on (v.surface, v.kind, v.external_id)
      p_tenant_id, v.surface, v.kind, v.external_id, v.author_id,
      substring(lower(ltrim(btrim(v.author_username), '@')) from '^[a-z0-9._]{1,30}$'), v.target_id,
      case when v.kind in ('visit', 'sign_up') then private.codes_in(v.external_id)
        when v.text is not null or v.referral is not null then private.codes_in(concat_ws(' ', v.text, v.referral))
        when jsonb_typeof(v.codes) = 'array' and v.codes <> '[]' then private.codes_in(left(v.codes::text, 1000))
        else '{}' end,
      case when v.kind = 'message' then nullif(left(v.text, 200), '') end,
      case when v.kind = 'mention' then jsonb_strip_nulls(jsonb_build_object(
        'media_id', substring(v.details ->> 'media_id' from '^[!-~]{1,100}$'),
        'comment_id', substring(v.details ->> 'comment_id' from '^[!-~]{1,100}$'))) end,
      case when v.surface = 'link' then 'link' else p_via end, v.at
    from valid v
    order by v.surface, v.kind, v.external_id, v.at
    on conflict on constraint a_thing_is_seen_once do nothing
    returning *
  )
  select (select count(*) from valid), array_agg(r), array_agg(r.id) into v_valid, v_new, v_signal_ids from recorded r;
  if v_new is null then
    return jsonb_build_object('recorded', 0, 'skipped', v_given - v_valid, 'decided', 0);
  end if;

  insert into private.signal_codes (tenant_id, code, signal_id)
  select p_tenant_id, u.code, n.id from unnest(v_new) n cross join lateral unnest(n.codes) as u (code);

  v_linked := private.link_accounts(p_tenant_id, v_new);
  -- Who was asked to write to the account may be linked already, by a comment: the message is what counts.
  perform private.wake_claims(p_tenant_id, v_linked || array(
    select a.participant_id
    from unnest(v_new) n
    cross join lateral (
      select x.participant_id from public.linked_accounts x
      where x.tenant_id = p_tenant_id and x.platform = n.surface and x.external_id = n.author_id offset 0
    ) a
    where n.kind = 'message'));

  -- A mention names nobody: whoever waits for one has it read.
  if exists (select from unnest(v_new) n where n.kind = 'mention') then
    v_waiting := array(
      select c.id
      from public.social_tasks t
      join public.completions c on c.tenant_id = t.tenant_id and c.task_id = t.id
      where t.tenant_id = p_tenant_id and t.kind::text = 'instagram_mention' and c.status = 'pending' and c.route = 'api'
      order by c.claimed_at
      limit 1000);
    if cardinality(v_waiting) > 0 then
      -- The item that an earlier mention woke is not due before long.
      perform jobs.hurry_or_enqueue('verify-social-tasks', p_tenant_id, v_waiting, array(select 'mention/' || w from unnest(v_waiting) w));
    end if;
  end if;

  return jsonb_build_object('recorded', cardinality(v_new), 'skipped', v_given - v_valid,
    'decided', private.decide_by_signals(p_tenant_id, v_signal_ids, v_linked, null, p_credential_source));
end
$function$;

create or replace function private.wake_claims (
  p_tenant_id uuid,
  p_participant_ids uuid[]
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
declare
  v_awake uuid[];
begin
  if coalesce(cardinality(p_participant_ids), 0) = 0 then
    return;
  end if;
  with waiting as (
    update public.completions c
    set status = 'pending', reason = null, settle_at = greatest(c.deadline, now()) + interval '1 day'
    where c.tenant_id = p_tenant_id and c.participant_id = any (p_participant_ids) and c.status::text = 'needs_user_action'
    returning c.id
  )
  select array_agg(w.id) into v_awake from waiting w;
  if v_awake is not null then
    -- Where the person is asked about from time to time, that is done now.
    perform jobs.hurry_or_enqueue('verify-social-tasks', p_tenant_id, v_awake, array(select 'asked/' || w from unnest(v_awake) w));
  end if;
end
$function$;

comment on function "jobs"."clean"(timestamp with time zone) is 'At most once an hour: makes and drops history partitions, removes old drains, runs, alerts, and what pg_cron and pg_net remember of ticks and doorbells.';

comment on function "jobs"."hurry_or_enqueue"(text, uuid, uuid[], text[]) is 'Makes the waiting items of these keys due now, and enqueues those that are not there. One subject for each key.';

comment on function "jobs"."recover_from_backup"(text[], boolean) is 'After a restore from a backup, while everything is stopped: what was due or running in these jobs (default: all that send messages for tenants) ends as unknown, because it may have been sent since; ids move on. dry_run (the default) says how many it would be. Returns how many. Errors: P0002 no such job, 55000 not stopped. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."take_lanes"(text, uuid[]) is 'Keeps claims away from the lanes of these tenants until the end of the transaction.';

comment on function "jobs"."work"(bigint) is 'Works off the item of a SQL job that the last call claimed (its batch_id), and claims the next one: its batch_id, null when none waits. Commit after each call, and give what you do not work off back by jobs.return_batch. Called by the one pg_cron entry after each tick until its time is up. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."work_batch"(uuid, text, bigint) is 'Works off the item of a SQL job that the last call claimed (its batch_id), and claims the next one: its batch_id, null when none waits. For drains that come over HTTP. Errors: P0002 no such SQL job, 22023 not a batch of this drain. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."work_item"(jobs.definitions, jobs.items) is 'Runs the work function for one item and returns its outcome: done, or retry with the error.';

comment on function "jobs"."work_off"(bigint) is 'Works off a batch of a SQL job and closes it; nothing when it was taken back meanwhile.';

comment on function "private"."read_secret_json"(uuid) is 'The secret of a credential, or null when there is none or it cannot be read. Callable by its owner only.';

revoke all on function "jobs"."hurry_or_enqueue"(text, uuid, uuid[], text[]) from public;

revoke all on function "jobs"."take_lanes"(text, uuid[]) from public;

revoke all on function "jobs"."work"(bigint) from public;

grant execute on function "jobs"."work"(bigint) to "service_role";

revoke all on function "jobs"."work_batch"(uuid, text, bigint) from public;

grant execute on function "jobs"."work_batch"(uuid, text, bigint) to "service_role";

revoke all on function "jobs"."work_item"(jobs.definitions, jobs.items) from public;

revoke all on function "jobs"."work_off"(bigint) from public;

revoke all on function "private"."read_secret_json"(uuid) from public;
