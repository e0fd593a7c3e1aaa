-- tried by strangers again: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

drop function "jobs"."day_begins"(date, text);

drop function "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], timestamp
  with time zone[], timestamp with time zone);

drop function "jobs"."load_batch"(jobs.definitions, jobs.batches, jobs.items[], timestamp with time zone);

drop function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp with time zone);

alter type "jobs"."settled" drop attribute "place" cascade;

create table "jobs"."throttles" (
  "tenant_id" uuid not null,
  "provider" public.provider not null,
  "until" timestamp with time zone not null,
  "reason" text,
  constraint "throttles_pkey" primary key (tenant_id, provider)
);

alter table "jobs"."throttles"
  enable row level security;

alter type "jobs"."settled" add attribute "dedupe_key" text cascade;

create or replace function jobs.answer_doorbell (
  ticket uuid
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_drain jobs.drains;
begin
  update jobs.drains d
  set answered_at = clock_timestamp(), seen_at = clock_timestamp()
  where d.drain_id = answer_doorbell.ticket and d.answered_at is null and d.ended_at is null
    and d.rung_at > clock_timestamp() - interval '300 seconds'
  returning * into v_drain;
  if not found then
    return null;
  end if;
  update jobs.drains d set run_id = jobs.open_run(v_drain.job, 'queue') where d.drain_id = v_drain.drain_id returning d.run_id into v_drain.run_id;
  -- For the log. The items of a scheduled job have runs of their own: mostly one is open.
  return jsonb_build_object('drain_id', v_drain.drain_id, 'job', v_drain.job, 'run_id', coalesce(v_drain.run_id,
    (select max(r.run_id) from jobs.runs r where r.job = v_drain.job and r.finished_at is null)));
end
$function$;

create or replace function jobs.batch_again (
  p_request uuid
)
  returns json
  language plpgsql
  set search_path to ''
  AS $function$
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
$function$;

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
    'lease_seconds', (p_definition).lease_seconds, 'cost_unit', (p_definition).cost_unit, 'tenants', p_tenants);
end
$function$;

create or replace function jobs.begin_by_hand (
  p_job text
)
  returns jobs.definitions
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_definition jobs.definitions;
begin
  select d.* into v_definition from jobs.definitions d where d.job = p_job;
  if not found then
    raise exception 'There is no job "%".', p_job using errcode = 'P0002';
  end if;
  if v_definition.paused then
    raise exception 'The job "%" is paused. Resume it first.', p_job using errcode = '55000';
  elsif (select p.stopped from jobs.platform p) then
    raise exception 'All background work is stopped by the platform''s switch. Start it first.' using errcode = '55000';
  end if;
  update jobs.lanes l
  set wake_at = now(), not_before = '-infinity', reason = 'waiting'
  from (
    select s.tenant_id from jobs.lanes s where s.job = p_job and s.reason = 'cadence' order by s.tenant_id for no key update
  ) resting
  where l.job = p_job and l.tenant_id = resting.tenant_id;
  return v_definition;
end
$function$;

create or replace function jobs.begin_drain (
  p_job text
)
  returns uuid
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_drain_id uuid;
begin
  if not exists (select from jobs.lanes l where l.job = p_job and l.awake)
    and not exists (select from jobs.lanes l where l.job = p_job and l.wake_at <= clock_timestamp()) then
    return null;
  end if;
  insert into jobs.drains (job, run_id, answered_at, seen_at)
  values (p_job, jobs.open_run(p_job, 'queue'), clock_timestamp(), clock_timestamp())
  returning drain_id into v_drain_id;
  return v_drain_id;
end
$function$;

create or replace function jobs.begin_effects (
  batch_id bigint,
  items bigint[],
  request uuid default null::uuid
)
  returns bigint[]
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
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
    on conflict on constraint effects_pkey do update set request = excluded.request where x.request = excluded.request
    returning x.item_id
  )
  select coalesce(array_agg(marked.item_id), '{}') into v_begun from marked;
  return v_begun;
end
$function$;

create or replace function jobs.bundle_emails (
  batch_id bigint,
  items bigint[],
  sender text,
  request uuid default null::uuid
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  AS $function$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_tenant_id uuid;
  v_ids uuid[];
  v_source text;
  v_fingerprint text;
  v_bundle private.email_bundles;
  v_wanted uuid[];
  v_alone uuid[];
  v_version integer;
  v_send_before timestamptz;
begin
  -- The batch row is locked, so the lease cannot expire between this check and what is noted.
  perform from jobs.batches b where b.batch_id = bundle_emails.batch_id and b.job = 'send-emails' and b.lease_until > v_now for update;
  if not found then
    return null;
  end if;
  -- One tenant's, whoever asks: mails of two tenants never share a call.
  select i.tenant_id, array_agg(i.subject_id order by array_position(bundle_emails.items, i.item_id)), min(i.credential_source), min(i.credential_fingerprint)
  into v_tenant_id, v_ids, v_source, v_fingerprint
  from jobs.leased_items i
  where i.batch_id = bundle_emails.batch_id and i.item_id = any (bundle_emails.items)
  group by i.tenant_id
  order by i.tenant_id
  limit 1;
  if v_ids is null or v_source is null or v_fingerprint is null then
    return null;
  end if;

  select b.* into v_bundle
  from private.email_bundles b
  where b.tenant_id = v_tenant_id
    and b.id in (select m.bundle_id from private.bundled_emails m where m.tenant_id = v_tenant_id and m.outbox_id = any (v_ids))
  order by b.created_at, b.id
  limit 1
  for update;

  if v_bundle.id is null then
    select array_agg(j.id order by j.n) filter (where j.over is null and j.hold_until is null and m.bundled),
      array_agg(j.id) filter (where j.over is null and j.hold_until is null and not m.bundled)
    into v_wanted, v_alone
    from private.judge_emails(array_fill(v_tenant_id, array[cardinality(v_ids)]), v_ids, v_now) j
    join public.notification_outbox m on m.tenant_id = v_tenant_id and m.id = j.id
    where j.n <= 100;
    if v_wanted is null then
      return jsonb_build_object('bundle_id', null, 'mails', '[]'::jsonb, 'alone', coalesce(to_jsonb(v_alone), '[]'));
    end if;
    -- Nobody asks about these any more.
    delete from private.email_bundles b
    where (b.tenant_id, b.id) in (
      select o.tenant_id, o.id from private.email_bundles o where o.created_at < v_now - interval '30 days'
      order by o.created_at limit 100 for update skip locked);
    insert into private.email_bundles (tenant_id, sender, credential_source, credential_fingerprint)
    values (v_tenant_id, bundle_emails.sender, v_source, v_fingerprint)
    returning * into v_bundle;
    insert into private.bundled_emails (tenant_id, outbox_id, bundle_id, place)
    select v_tenant_id, u.id, v_bundle.id, u.n from unnest(v_wanted) with ordinality as u (id, n);
    v_version := 1;
  else
    -- The key is known to the account that it was given to, and for a day.
    if v_bundle.lost_reason is null then
      v_bundle.lost_reason := case
        when v_bundle.credential_source <> v_source or v_bundle.credential_fingerprint <> v_fingerprint
          then 'the e-mail account was changed before an answer came'
        when v_bundle.created_at <= v_now - interval '23 hours 30 minutes' then 'no answer came within a day' end;
    end if;
    if v_bundle.lost_reason is not null then
      update private.email_bundles b set lost_reason = v_bundle.lost_reason where b.tenant_id = v_tenant_id and b.id = v_bundle.id;
      return jsonb_build_object('bundle_id', v_bundle.id, 'lost', v_bundle.lost_reason);
    end if;
    -- Versions only become smaller: a mail that was left out waits until it is known what became of the rest, also when it may leave again.
    select coalesce(array_agg(j.id order by j.n) filter (where v_bundle.versions = any (x.versions)), array_agg(j.id order by j.n)) into v_wanted
    from (
      select array_agg(m.outbox_id order by m.place) as ids from private.bundled_emails m where m.tenant_id = v_tenant_id and m.bundle_id = v_bundle.id
    ) a
    cross join lateral private.judge_emails(array_fill(v_tenant_id, array[cardinality(a.ids)]), a.ids, v_now) j
    join private.bundled_emails x on x.tenant_id = v_tenant_id and x.outbox_id = j.id
    where j.over is null and j.hold_until is null;
    if v_wanted is null then
      return jsonb_build_object('bundle_id', v_bundle.id, 'mails', '[]'::jsonb, 'alone', '[]'::jsonb);
    end if;
    -- The version with exactly these mails, or a new one.
    select max(v.n) into v_version
    from generate_series(1, v_bundle.versions) as v (n)
    where v_wanted = array(
      select m.outbox_id from private.bundled_emails m
      where m.tenant_id = v_tenant_id and m.bundle_id = v_bundle.id and v.n = any (m.versions)
      order by m.place);
    if v_version is null then
      v_version := v_bundle.versions + 1;
      update private.bundled_emails m set versions = m.versions || v_version
      where m.tenant_id = v_tenant_id and m.bundle_id = v_bundle.id and m.outbox_id = any (v_wanted);
    end if;
  end if;

  update private.email_bundles b
  set versions = greatest(b.versions, v_version), request = bundle_emails.request,
    calls = b.calls + case when b.request = bundle_emails.request then 0 else 1 end
  where b.tenant_id = v_tenant_id and b.id = v_bundle.id
  returning * into v_bundle;
  select min(j.send_before) into v_send_before
  from private.judge_emails(array_fill(v_tenant_id, array[cardinality(v_wanted)]), v_wanted, v_now) j;
  return jsonb_build_object('bundle_id', v_bundle.id, 'call', v_bundle.calls, 'version', v_version, 'sender', v_bundle.sender,
    'send_before', v_send_before, 'alone', coalesce(to_jsonb(v_alone), '[]'),
    'mails', (
      select jsonb_agg(jsonb_build_object('outbox_id', m.id, 'to', m.recipient, 'subject', m.subject, 'text', m.body, 'html', m.payload -> 'html') order by u.n)
      from unnest(v_wanted) with ordinality as u (id, n)
      join public.notification_outbox m on m.tenant_id = v_tenant_id and m.id = u.id));
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
  with gone as (
    delete from jobs.items i
    where i.job = cancel.job and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
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
  AS $function$
begin
  update jobs.platform p set cleaned_at = p_now where p.cleaned_at < p_now - interval '1 hour';
  if not found then
    return;
  end if;
  perform jobs.make_partitions(p_now);
  perform private.learn_time_zones();
  perform jobs.forget_strays();
  delete from jobs.drains d where d.ended_at < p_now - interval '1 day';
  delete from jobs.slots s where s.slot < p_now - interval '90 days';
  -- What came before its partition was made; nearly always nothing.
  delete from jobs.runs_default r where r.finished_at < p_now - interval '90 days';
  delete from jobs.run_tenants_default r where r.started_at < p_now - interval '90 days';
  delete from jobs.attempts_default a where a.finished_at < p_now - interval '30 days';
  delete from jobs.alerts a where a.closed_at < p_now - interval '90 days';
  -- What a crash of the server cut off has no end.
  delete from cron.job_run_details d where coalesce(d.end_time, d.start_time) < p_now - interval '1 day';
  -- Answers to doorbells say nothing that the drains do not say. pg_net's own clean-up waits for its next request.
  begin
    delete from net._http_response r where r.created < p_now - interval '1 hour';
  exception when insufficient_privilege then
    null; -- pg_net before 0.12 lets nobody; it keeps its answers for six hours
  end;
end
$function$;

create or replace function jobs.close_batch (
  batch_id bigint,
  outcomes jsonb,
  next boolean default false,
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
$function$;

create or replace function jobs.count_run (
  p_batch jobs.batches,
  p_settled jobs.settled[]
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
begin
  insert into jobs.run_tenants as rt (tenant_id, run_id, drain_id, started_at, processed, failed)
  select c.tenant_id, c.run_id, (p_batch).drain_id, r.started_at, c.processed, c.failed
  from (
    select u.tenant_id, u.run_id, count(*) filter (where u.dies is null) as processed, count(*) filter (where u.dies is not null) as failed
    from unnest(p_settled) u
    where u.ends and u.run_id is not null
    group by u.tenant_id, u.run_id
  ) c
  cross join lateral (select x.started_at from jobs.runs x where x.run_id = c.run_id offset 0) r
  order by c.run_id, c.tenant_id
  on conflict (tenant_id, run_id, drain_id, started_at) do update set processed = rt.processed + excluded.processed, failed = rt.failed + excluded.failed;

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
$function$;

create or replace function jobs.define (
  job text,
  settings jsonb
)
  returns jobs.definitions
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
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
  insert into jobs.clocks (job) values (define.job) on conflict do nothing;
  perform private.audit(null, 'job.defined', jsonb_build_object('job', define.job, 'settings', settings));
  return v_definition;
end
$function$;

create or replace function jobs.end_drain (
  drain_id uuid,
  error text default null::text
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_drain jobs.drains;
begin
  update jobs.drains d
  set ended_at = clock_timestamp(), error = left(end_drain.error, 500)
  where d.drain_id = end_drain.drain_id and d.ended_at is null
  returning * into v_drain;
  if not found then
    return;
  end if;
  -- The last one of a run ends it. The run is locked, so that of two that end at once one sees the other gone.
  perform from jobs.runs r where r.run_id = v_drain.run_id and r.expected is null for update;
  if found and not exists (select from jobs.drains d where d.run_id = v_drain.run_id and d.ended_at is null) then
    perform jobs.finish_run(v_drain.run_id);
  end if;
  perform jobs.finish_run(r.run_id)
  from jobs.runs r
  where r.job = v_drain.job and r.finished_at is null
    and r.expected <= (select coalesce(sum(rt.processed + rt.failed), 0) from jobs.run_tenants rt where rt.run_id = r.run_id);
  -- What this drain has made ready (a message for what it verified) need not wait for the tick.
  perform jobs.ring_soon();
end
$function$;

create or replace function jobs.enqueue_many (
  job text,
  tenant_ids uuid[],
  subject_ids uuid[] default null::uuid[],
  run_at timestamp with time zone default null::timestamp with time zone,
  dedupe_keys text[] default null::text[],
  payloads jsonb[] default null::jsonb[]
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
#variable_conflict use_variable
declare
  v_definition jobs.definitions;
  v_run_at timestamptz;
  v_count integer;
begin
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

  perform jobs.take_guards(enqueue_many.job, tenant_ids);

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
$function$;

create or replace function jobs.finish_run (
  p_run_id bigint
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  delete from jobs.open_runs o where o.run_id = p_run_id;
  update jobs.runs r
  set finished_at = clock_timestamp(), processed = c.processed, failed = c.failed, errors = c.errors,
    status = case when c.processed = 0 and (c.failed > 0 or jsonb_path_exists(c.errors, '$[*].drain_id')) then 'error' when c.failed > 0 or c.errors <> '[]' then 'warning' else 'success' end::jobs.run_status,
    message = case
      when c.processed = 0 and c.failed = 0 and c.errors = '[]' then 'Nothing to do.'
      else format('%s done, %s failed.', c.processed, c.failed) end
  from jobs.run_counts(p_run_id) c
  where r.run_id = p_run_id and r.finished_at is null
$function$;

create or replace function jobs.first_moment (
  p_local timestamp without time zone,
  p_time_zone text
)
  returns timestamp with time zone
  language sql
  stable
  set search_path to ''
  AS $function$
  select coalesce(
    (select min(earlier.at)
     from (select p_local at time zone p_time_zone - d as at
       from unnest(array[interval '30 minutes', interval '1 hour', interval '2 hours', interval '3 hours']) d) earlier
     where earlier.at at time zone p_time_zone = p_local),
    p_local at time zone p_time_zone)
$function$;

create or replace function jobs.follow_clock (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- Worked out anew when it is written.
  update jobs.definitions d set next_slot_at = null where d.schedule is not null and d.next_slot_at > p_now;
  update jobs.platform p set last_tick_at = p_now, watched_at = '-infinity', cleaned_at = '-infinity';
  delete from jobs.backlogs;
  update jobs.drains d
  set rung_at = least(d.rung_at, p_now), answered_at = case when d.answered_at is not null then least(d.answered_at, p_now) end,
    seen_at = case when d.seen_at is not null then least(d.seen_at, p_now) end
  where d.ended_at is null;
  update jobs.batches b set lease_until = p_now + make_interval(secs => d.lease_seconds)
  from jobs.definitions d
  where d.job = b.job and b.lease_until > p_now + make_interval(secs => d.lease_seconds);
  update jobs.breakers b set since = least(b.since, p_now), open_until = case when b.state = 'open' then p_now end
  where b.since > p_now or b.open_until > p_now + interval '20 minutes';
  update jobs.rates r set free_at = p_now + interval '1 minute' where r.free_at > p_now + interval '1 minute';
  -- What was enqueued under the later time waits for as long as it was meant to, and no longer.
  update jobs.items i set run_at = i.run_at - (i.enqueued_at - p_now), enqueued_at = p_now where i.enqueued_at > p_now;
  -- All that sleep until a time are looked at; those that still have a reason sleep on.
  update jobs.lanes l set wake_at = p_now, not_before = '-infinity', head_at = null, head_id = null
  from (
    select x.tenant_id, x.job from jobs.lanes x where x.wake_at > p_now order by x.job, x.tenant_id for no key update
  ) asleep
  where l.tenant_id = asleep.tenant_id and l.job = asleep.job;
end
$function$;

create or replace function jobs.forget_strays()
  returns void
  language sql
  set search_path to ''
  AS $function$
  select jobs.forget_tenant(stray.tenant_id)
  from (
    select distinct l.tenant_id
    from jobs.definitions d
    cross join lateral (select x.tenant_id from jobs.lanes x where x.job = d.job and x.reason = 'paused') l
    where l.tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = l.tenant_id)
  ) stray
$function$;

create or replace function jobs.forget_tenant (
  p_tenant_id uuid
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_run_ids bigint[];
  v_items bigint[];
begin
  -- The lanes first, as claims and closes do: then what these put back is here to be seen, and none waits for the other.
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
$function$;

create or replace function jobs.how_to_sleep (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_tenant_ids uuid[],
  p_refused boolean[],
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
    from unnest(p_tenant_ids, p_not_before, v_guards) as l (tenant_id, not_before, guard)
    -- Those that may not be served are judged anew: what held them back may be over by now.
    left join jobs.judge_lanes(p_definition,
      array(select u.tenant_id from unnest(p_tenant_ids, p_refused) as u (tenant_id, is_refused) where u.is_refused),
      array(select u.paused from unnest(p_paused, p_refused) as u (paused, is_refused) where u.is_refused),
      (p_clock).oldest_batch, p_now) j on j.tenant_id = l.tenant_id
    left join lateral (
      select i.run_at,
        case when i.waiting_for in ('delay', 'backoff', 'quiet hours', 'rate limit') then i.waiting_for end as waiting_for
      from jobs.items i
      where i.job = (p_definition).job and i.tenant_id = l.tenant_id
      order by i.run_at, i.item_id
      limit 1
    ) n on true
    -- Work that is ready now keeps its lane awake (it arrived just now, or its place under the cap became free).
    where j.reason is not null or n.run_at is null or n.run_at > p_now
  ) s;
end
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
      where e.tenant_id = u.tenant_id and e.job = (p_definition).job
        and (e.tenant_id, e.job, e.batch_id) >= (u.tenant_id, (p_definition).job, p_oldest_batch)
    ) f
  ) lane;
end
$function$;

create or replace function jobs.keep_batch()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if exists (select from jobs.leases e where e.batch_id = old.batch_id) then
    raise exception 'Batch % holds items.', old.batch_id using errcode = '23503';
  end if;
  return old;
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
  select s.decrypted_secret::jsonb || jsonb_build_object('access_token', keep_refreshed_token.token) into v_secret
  from vault.decrypted_secrets s where s.id = v_credential.secret_id;
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

create or replace function jobs.load_batch (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_now timestamp with time zone
)
  returns json
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_loaded jobs.loaded[];
  v_outcomes jsonb;
begin
  if (p_definition).load_function is not null then
    v_loaded := jobs.call_load(p_definition, array(
      select i from jobs.leases e cross join lateral unnest(e.items) i where e.batch_id = (p_batch).batch_id));
    select jsonb_agg(case
        when l.cancel is null then jsonb_build_object('item_id', l.item_id, 'outcome', 'retry', 'error', l.reason)
        when l.cancel then jsonb_build_object('item_id', l.item_id, 'outcome', 'cancelled', 'error', l.reason)
        else jsonb_build_object('item_id', l.item_id, 'outcome', 'held', 'until', l.hold_until, 'reason', l.reason) end)
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
$function$;

create or replace function jobs.look_at_backlogs (
  p_now timestamp with time zone
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  insert into jobs.backlogs as b (job, seen_at, ready)
  select d.job, p_now, coalesce(w.ready, 0)
  from jobs.definitions d
  left join lateral (
    select sum(i.ready) as ready
    from (select l.tenant_id from jobs.lanes l where l.job = d.job and l.awake order by l.vtime limit 200) l
    cross join lateral (
      select count(*) as ready
      from (
        select from jobs.items i
        where i.job = d.job and i.tenant_id = l.tenant_id and i.run_at <= p_now
        order by i.run_at, i.item_id
        limit 500
      ) few
    ) i
  ) w on true
  on conflict (job) do update
    set ready = excluded.ready, seen_at = excluded.seen_at,
      growth_per_minute = 60 * (excluded.ready - b.ready) / greatest(1, extract(epoch from excluded.seen_at - b.seen_at)),
      -- A look that comes much later than the one before tells nothing of a rate.
      grown_for = case when excluded.ready > b.ready and excluded.seen_at < b.seen_at + interval '5 minutes' then b.grown_for + 1 else 0 end
    where b.seen_at <= excluded.seen_at - interval '30 seconds'
$function$;

create or replace function jobs.match_outcomes (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_outcomes jsonb,
  p_now timestamp with time zone
)
  returns jobs.settled[]
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
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
        -- Waiting times come from outside: never negative, never longer than 30 days. (least and greatest skip nulls.)
        least(greatest(coalesce(o.seconds, 60), 0), 2592000) as seconds, least(greatest(o.after_seconds, 0), 2592000) as after_seconds,
        case when o.until is not null then least(o.until, p_now + interval '400 days') end as until,
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
    v_got := jobs.pick(v_definition, v_clock, v_batch.batch_id, v_room, v_width, v_now);
    v_width := least(v_width * 2, 64);
    v_picked := v_picked + coalesce(v_got, 0);
    v_room := v_room - coalesce(v_got, 0);
    if v_got is null or v_room <= 0 or v_round = 100 then
      exit when v_picked = 0;
      v_tenants := jobs.load_batch(v_definition, v_batch, v_now);
      exit when v_tenants is not null or v_got is null;
      v_picked := 0;
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

create or replace function jobs.next_slots (
  schedule text,
  time_zone text default 'UTC'::text,
  after timestamp with time zone default now(),
  count integer default 5
)
  returns SETOF timestamp with time zone
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_variable
declare
  v_cron jobs.cron := jobs.parse_cron(schedule);
  v_day date;
  v_slot timestamptz;
  v_slots timestamptz[] := '{}';
  v_moved timestamptz[] := '{}';
  v_found integer := 0;
begin
  if not isfinite(after) then
    raise exception 'after must be a time, not infinity.' using errcode = '22008';
  end if;
  if time_zone is null or not private.is_time_zone(time_zone) then
    raise exception '"%" is not an IANA time zone. Use a name like Europe/Berlin.', time_zone using errcode = '22023';
  end if;
  -- A slot that a clock change moved may belong to the day before. February 29 is at most eight years away.
  for v_day in
    select d::date
    from generate_series((after at time zone time_zone)::date - 1, (after at time zone time_zone)::date + 2930, interval '1 day') d
    where jobs.is_slot_day(v_cron, d::date)
      and (d::date >= (after at time zone time_zone)::date
        or jobs.first_moment(d::date + 1, time_zone) - jobs.first_moment(d::date, time_zone) <> interval '24 hours')
  loop
    -- A time that the clock skips may be moved past midnight: it takes its turn among those of the next day.
    v_slots := array(
      select u from (select unnest(v_moved) as u union select s from jobs.slots_of_day(v_cron, time_zone, v_day) s) x where u > after order by u);
    v_moved := array(select u from unnest(v_slots) u where u >= jobs.first_moment(v_day + 1, time_zone));
    foreach v_slot in array v_slots[:cardinality(v_slots) - cardinality(v_moved)] loop
      exit when v_found >= count;
      v_found := v_found + 1;
      return next v_slot;
    end loop;
    exit when v_found >= count;
  end loop;
end
$function$;

create or replace function jobs.next_wake (
  job text
)
  returns double precision
  language plpgsql
  stable
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
#variable_conflict use_column
begin
  if (select p.stopped from jobs.platform p) or (select d.paused from jobs.definitions d where d.job = next_wake.job) is not false then
    return null;
  end if;
  return (
    select extract(epoch from l.wake_at - clock_timestamp())
    from jobs.lanes l
    where l.job = next_wake.job and l.wake_at > clock_timestamp()
    order by l.wake_at
    limit 1);
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

create or replace function jobs.park_broken (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_settled jobs.settled[]
)
  returns uuid[]
  language plpgsql
  set search_path to ''
  AS $function$
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
$function$;

create or replace function jobs.parse_cron_field (
  p_field text,
  p_name text,
  p_low integer,
  p_high integer,
  p_names text[]
)
  returns integer[]
  language plpgsql
  immutable
  set search_path to ''
  AS $function$
declare
  v_part text;
  v_match text[];
  v_from integer;
  v_to integer;
  v_step integer;
  v_values integer[] := '{}';
begin
  foreach v_part in array string_to_array(lower(p_field), ',') loop
    v_match := regexp_match(v_part, '^(\*|([0-9a-z]+)(-([0-9a-z]+))?)(/([0-9]{1,4}))?$');
    if v_match is null then
      raise exception 'Cron field "%": "%" is not *, a number, a range a-b or one of these with /step.', p_name, v_part using errcode = '22023';
    end if;
    v_from := case when v_match[1] = '*' then p_low else jobs.parse_cron_value(v_match[2], p_name, p_low, p_high, p_names) end;
    v_to := case
      when v_match[1] = '*' then p_high
      when v_match[4] is not null then jobs.parse_cron_value(v_match[4], p_name, p_low, p_high, p_names)
      when v_match[6] is not null then p_high
      else v_from end;
    v_step := coalesce(v_match[6]::integer, 1);
    if v_step = 0 then
      raise exception 'Cron field "%": a step of 0 in "%".', p_name, v_part using errcode = '22023';
    end if;
    -- Every 90 minutes is not to be had this way: it would be every hour, without a word.
    if v_step > p_high - p_low then
      raise exception 'Cron field "%": the step of "%" is longer than from % to %.', p_name, v_part, p_low, p_high using errcode = '22023';
    end if;
    if v_to < v_from then
      raise exception 'Cron field "%": the range "%" runs backwards.', p_name, v_part using errcode = '22023';
    end if;
    v_values := v_values || array(select generate_series(v_from, v_to, v_step));
  end loop;
  return array(select distinct u from unnest(v_values) u order by u);
end
$function$;

create or replace function jobs.pick (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_batch_id bigint,
  p_room integer,
  p_width integer,
  p_now timestamp with time zone
)
  returns integer
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
  v_tag double precision;
  v_picked integer;
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
    return null;
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
    -- What it got in an earlier round of this batch. Compared as a row, which only the primary key can answer: there is no later batch.
    left join lateral (
      select x.open from jobs.leases x
      where x.tenant_id = u.tenant_id and x.job = (p_definition).job
        and (x.tenant_id, x.job, x.batch_id) >= (u.tenant_id, (p_definition).job, p_batch_id)
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
  into v_picked, v_tag, v_rates, v_items, v_costs, v_to_ats, v_to_ids, v_refused, v_empty
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
    select array_agg(s.reason order by u.n), array_agg(s.detail order by u.n), array_agg(s.wake_at order by u.n), array_agg(s.head_at order by u.n)
    into v_reasons, v_details, v_wake_ats, v_next_ats
    from unnest(v_lanes) with ordinality as u (tenant_id, n)
    left join (
      select h.*
      from (
        select array_agg(e.tenant_id) as tenant_ids, array_agg(e.is_refused) as refused, array_agg(e.paused) as paused,
          array_agg(e.not_before) as not_before
        from unnest(v_lanes, v_refused, v_paused, v_not_before, v_empty) as e (tenant_id, is_refused, paused, not_before, is_empty)
        where e.is_empty
      ) closer
      cross join lateral jobs.how_to_sleep(
        p_definition, p_clock, closer.tenant_ids, closer.refused, closer.paused, closer.not_before, p_now) h
    ) s on s.tenant_id = u.tenant_id;
  end if;
  perform jobs.write_lanes(
    v_places, v_costs, v_to_ats, v_to_ids, v_since, v_empty, v_reasons, v_details, v_wake_ats, v_next_ats, p_now);
  if v_picked > 0 then
    -- The start of the last turn served: a lane that wakes now is at most one turn ahead of the others, not a batch.
    update jobs.clocks c
    set vtime = greatest(c.vtime, v_tag), due_from = (p_clock).due_from, woken_to = (p_clock).woken_to, served_from = (p_clock).served_from,
      oldest_batch = (p_clock).oldest_batch, looked_at = (p_clock).looked_at
    where c.job = (p_definition).job;
  end if;
  return v_picked;
end
$function$;

create or replace function jobs.queue_state (
  p_tenant_ids uuid[] default null::uuid[]
)
  returns table (
    tenant_id uuid,
    job text,
    plan_id text,
    awake boolean,
    reason text,
    detail text,
    wake_at timestamp with time zone,
    ready bigint,
    waiting bigint,
    in_flight bigint,
    oldest_ready_seconds numeric,
    dead bigint,
    expected_start timestamp with time zone
  )
  language plpgsql
  stable
  set search_path to ''
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
#variable_conflict use_column
begin
  return query
  select l.tenant_id, l.job, t.plan_id, l.awake, l.reason, l.detail, l.wake_at,
    coalesce(i.ready, 0), coalesce(i.waiting, 0), coalesce(f.open, 0)::bigint, i.oldest_ready_seconds, coalesce(d.dead, 0),
    -- What came in now would start when what is ready has started, at the pace of the last five minutes; not before the lane wakes.
    case
      when l.awake or l.wake_at is not null or l.reason = 'idle' then date_trunc('second', greatest(l.wake_at, now())
        + make_interval(secs => coalesce(i.ready / nullif(s.started / 300.0, 0), 0)::double precision)) end
  from jobs.lanes l
  left join public.tenants t on t.id = l.tenant_id
  left join lateral (
    select count(*) filter (where i.run_at <= now()) as ready, count(*) filter (where i.run_at > now()) as waiting,
      round(extract(epoch from now() - min(i.run_at) filter (where i.run_at <= now())), 1) as oldest_ready_seconds
    from jobs.items i where i.job = l.job and i.tenant_id = l.tenant_id
  ) i on true
  left join lateral (select sum(e.open) as open from jobs.leases e where e.tenant_id = l.tenant_id and e.job = l.job) f on true
  left join lateral (select count(*) as dead from jobs.dead_items x where x.tenant_id = l.tenant_id and x.job = l.job) d on true
  left join (
    select a.tenant_id, a.job, count(*) as started
    from jobs.attempts a
    where a.finished_at > now() - interval '5 minutes' and (p_tenant_ids is null or a.tenant_id = any (p_tenant_ids))
    group by a.tenant_id, a.job
  ) s on s.tenant_id = l.tenant_id and s.job = l.job
  where p_tenant_ids is null or l.tenant_id = any (p_tenant_ids);
end
$function$;

create or replace function jobs.reap (
  p_now timestamp with time zone,
  p_limit integer default 50
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
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_outcomes jsonb;
  v_count integer := 0;
begin
  for v_batch in
    select b.* from jobs.batches b where b.lease_until <= p_now order by b.lease_until limit p_limit for update skip locked
  loop
    -- A batch that cannot be taken back now (a client holds one of its lanes) must not stop the tick.
    begin
      perform set_config('lock_timeout', '200ms', true);
      select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
      select jsonb_agg(case
          when v_definition.effects and exists (
            select from jobs.effects x where x.batch_id = v_batch.batch_id and x.item_id = i.item_id) then jsonb_build_object('item_id', i.item_id, 'outcome', 'done', 'result',
            jsonb_build_object('status', 'unknown', 'reason', 'the worker was lost after the call began'))
          else jsonb_build_object('item_id', i.item_id, 'outcome', 'lost', 'error', 'the lease ran out') end)
      into v_outcomes
      from jobs.leased_items i
      where i.batch_id = v_batch.batch_id;
      if v_outcomes is not null then
        v_count := v_count + jobs.settle(v_definition, v_batch, v_outcomes, p_now);
      end if;
      delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    exception
      when lock_not_available or deadlock_detected then
        null; -- the next tick
      when others then
        perform jobs.open_alert(null, format('reap %s', v_batch.job), format('A batch of %s could not be taken back: %s', v_batch.job, sqlerrm),
          jsonb_build_object('batch_id', v_batch.batch_id));
        -- Others get their turn first.
        update jobs.batches b set lease_until = p_now + interval '1 minute' where b.batch_id = v_batch.batch_id;
    end;
  end loop;
  perform set_config('lock_timeout', '2s', true);
  return v_count;
end
$function$;

create or replace function jobs.record_comments (
  batch_id bigint,
  tenant_id uuid,
  post jsonb
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  AS $function$
#variable_conflict use_column
declare
  v_surface text := post ->> 'surface';
  v_post_id text := post ->> 'post_id';
  v_since timestamptz;
  v_source text;
  v_count integer := 0;
begin
  -- Only who holds an item for this post, while the lease lives.
  select min(t.created_at), min(i.credential_source) into v_since, v_source
  from jobs.batches b
  join jobs.leased_items i on i.batch_id = b.batch_id and i.tenant_id = record_comments.tenant_id
  join public.completions c on c.tenant_id = i.tenant_id and c.id = i.subject_id
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  where b.batch_id = record_comments.batch_id and b.job = 'verify-social-tasks' and b.lease_until > clock_timestamp()
    and t.post_id = v_post_id and t.kind::text = v_surface || '_comment';
  if v_since is null then
    return 0;
  end if;

  if jsonb_typeof(post -> 'comments') = 'array' then
    v_count := (private.take_signals(record_comments.tenant_id, (
      select jsonb_agg(jsonb_build_object('surface', v_surface, 'kind', 'comment', 'external_id', c.value ->> 'id', 'target_id', v_post_id,
        'author_id', c.value ->> 'author_id', 'author_username', c.value ->> 'username', 'codes', c.value -> 'codes',
        'happened_at', c.value ->> 'at'))
      from jsonb_array_elements(post -> 'comments') c
      where jsonb_typeof(c.value) = 'object'), 'api', v_source) ->> 'recorded')::integer;
  end if;

  if post -> 'complete' = 'true' and post -> 'newest' ->> 'id' ~ '^[!-~]{1,200}$'
    and post -> 'newest' ->> 'at' ~ '^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]|29|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])$'
  then
    begin
      insert into private.post_readings as r (tenant_id, surface, post_id, newest_id, newest_at, read_since)
      values (record_comments.tenant_id, v_surface, v_post_id, post -> 'newest' ->> 'id', (post -> 'newest' ->> 'at')::timestamptz, v_since)
      on conflict on constraint post_readings_pkey do update
        set newest_id = case when excluded.newest_at >= r.newest_at then excluded.newest_id else r.newest_id end,
          newest_at = greatest(excluded.newest_at, r.newest_at), read_since = least(excluded.read_since, r.read_since), read_at = now();
    exception when datetime_field_overflow then
      -- A day that no month has is no mark; the next reading starts from the newest again.
      null;
    end;
  end if;
  return v_count;
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
  v_jobs text[] := coalesce(jobs, array(select d.job from jobs.definitions d where d.effects));
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
    return (
      select count(*) from jobs.dead_items d
      where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id)
        and (replay.reason is null or d.reason = replay.reason) and (replay.died_after is null or d.died_at >= replay.died_after));
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

create or replace function jobs.ring (
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_definition jobs.definitions;
  v_wanted integer;
  v_url text;
  v_secret text;
  v_count integer := 0;
begin
  for v_definition in select d.* from jobs.definitions d where d.kind <> 'sql' and not d.paused order by d.job loop
    -- As many drains as there are batches waiting. What is counted is bounded: up to as many lanes as max_drains full batches could
    -- have, and the items of a sample of them.
    -- There is at least one where not all lanes were looked at: the sample may be of lanes that turn out empty, before those with work.
    select least(v_definition.max_drains, greatest(
      case when min(waiting.lanes) >= least(100, v_definition.batch_size * v_definition.max_drains) then 1 else 0 end,
      ceil(coalesce(avg(ready.items) * min(waiting.lanes), 0) / v_definition.batch_size))) into v_wanted
    from (
      select lane.tenant_id, row_number() over () as position, count(*) over () as lanes
      from (
        (select l.tenant_id from jobs.lanes l where l.job = v_definition.job and l.awake
          order by l.vtime limit v_definition.batch_size * v_definition.max_drains)
        union all
        (select l.tenant_id from jobs.lanes l where l.job = v_definition.job and l.wake_at <= p_now
          order by l.wake_at limit v_definition.batch_size * v_definition.max_drains)
      ) lane
    ) waiting
    cross join lateral (
      select count(*) as items
      from (
        select from jobs.items i
        where i.job = v_definition.job and i.tenant_id = waiting.tenant_id and i.run_at <= p_now
        order by i.run_at, i.item_id
        limit greatest(v_definition.quantum, v_definition.batch_size * v_definition.max_drains / waiting.lanes)
      ) few
    ) ready
    where waiting.position <= 100;
    continue when v_wanted = 0 or jobs.provider_room(v_definition.provider, 1, p_now) = 0;
    v_wanted := v_wanted - (
      select count(*) from jobs.drains d
      where d.job = v_definition.job and d.ended_at is null and jobs.drain_is_live(d, v_definition.lease_seconds, p_now));
    continue when v_wanted <= 0;

    v_url := coalesce(v_url, private.platform_secret('project_url'));
    v_secret := coalesce(v_secret, private.platform_secret('cron_secret'));
    if coalesce(v_url, '') = '' or length(coalesce(v_secret, '')) < 32 then
      perform jobs.open_alert(null, 'doorbell', 'Vault needs the secrets project_url and cron_secret (32 characters or more): no doorbell can be rung.');
      return v_count;
    end if;
    for v_n in 1..v_wanted loop
      perform jobs.ring_once(v_definition.job, v_url, v_secret, p_now);
      v_count := v_count + 1;
    end loop;
  end loop;
  return v_count;
end
$function$;

create or replace function jobs.ring_soon()
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if not (select p.stopped from jobs.platform p) and pg_try_advisory_xact_lock(hashtextextended('onecron tick', 0)) then
    begin
      perform jobs.ring(clock_timestamp());
    exception when others then
      null; -- the tick will ring, and says why when it cannot
    end;
  end if;
end
$function$;

create or replace function jobs.run_counts (
  p_run_id bigint
)
  returns table (
    processed bigint,
    failed bigint,
    errors jsonb
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select coalesce(sum(rt.processed), 0)::bigint, coalesce(sum(rt.failed), 0)::bigint,
    (select coalesce(jsonb_agg(x.error), '[]')
     from (
       select jsonb_build_object('drain_id', d.drain_id, 'error', d.error) as error
       from jobs.drains d
       where d.run_id = p_run_id and d.error is not null
       union all
       select e - 'run_id'
       from jobs.runs r
       join jobs.drains d on d.job = r.job and coalesce(d.ended_at, 'infinity') >= r.started_at
       cross join lateral jsonb_array_elements(d.errors) e
       where r.run_id = p_run_id and (e ->> 'run_id')::bigint = p_run_id
       limit 20
     ) x)
  from jobs.run_tenants rt
  where rt.run_id = p_run_id
$function$;

create or replace function jobs.run_now (
  job text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions := jobs.begin_by_hand(run_now.job);
  v_run_id bigint;
  v_drain_id uuid;
begin
  -- A scheduled job has nothing waiting between its slots: by hand it gets one of its own.
  v_run_id := case when v_definition.schedule is null then jobs.open_run(run_now.job, 'manual')
    else jobs.start_slot(v_definition, clock_timestamp(), 'manual') end;
  insert into jobs.drains (job, run_id, answered_at, seen_at) values (run_now.job, v_run_id, clock_timestamp(), clock_timestamp())
  returning drains.drain_id into v_drain_id;
  perform private.audit(null, 'job.run_now', jsonb_build_object('job', run_now.job, 'run_id', v_run_id));
  return jsonb_build_object('run_id', v_run_id, 'drain_id', v_drain_id, 'kind', v_definition.kind);
end
$function$;

create or replace function jobs.service_report (
  p_since timestamp with time zone,
  p_tenant_ids uuid[] default null::uuid[],
  p_by_tenant boolean default true
)
  returns table (
    job text,
    tenant_id uuid,
    plan_id text,
    tries bigint,
    succeeded bigint,
    success_rate numeric,
    per_minute numeric,
    wait_p50_seconds numeric,
    wait_p95_seconds numeric,
    wait_p99_seconds numeric,
    target_seconds integer,
    within_target numeric
  )
  language plpgsql
  stable
  set search_path to ''
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
#variable_conflict use_column
begin
  return query
  select a.job, g.tenant_id, t.plan_id, count(*), count(*) filter (where a.outcome = 'done'),
    -- Being put off (a throttle, a snooze, a broken credential) is neither success nor failure.
    round(count(*) filter (where a.outcome = 'done')::numeric
      / nullif(count(*) filter (where a.outcome in ('done', 'unknown', 'retry', 'refused', 'lost')), 0), 4),
    round(count(*) / greatest(extract(epoch from now() - p_since) / 60, 1), 4),
    round(percentile_cont(0.5) within group (order by w.seconds)::numeric, 3),
    round(percentile_cont(0.95) within group (order by w.seconds)::numeric, 3),
    round(percentile_cont(0.99) within group (order by w.seconds)::numeric, 3),
    p.target_seconds,
    round(count(*) filter (where w.seconds <= p.target_seconds)::numeric / count(*), 4)
  from jobs.attempts a
  left join public.tenants t on t.id = a.tenant_id
  left join public.plans p on p.plan_id = t.plan_id
  cross join lateral (select greatest(extract(epoch from a.started_at - a.due_at), 0)::double precision as seconds) w
  cross join lateral (select case when p_by_tenant then a.tenant_id end as tenant_id) g
  where a.finished_at >= p_since and a.outcome <> 'cancelled' and (p_tenant_ids is null or a.tenant_id = any (p_tenant_ids))
  group by a.job, g.tenant_id, t.plan_id, p.target_seconds;
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

create or replace function jobs.slots_of_day (
  p_cron jobs.cron,
  p_time_zone text,
  p_day date
)
  returns SETOF timestamp with time zone
  language sql
  stable
  set search_path to ''
  AS $function$
  with midnight as (
    select jobs.first_moment(p_day, p_time_zone) as starts, jobs.first_moment(p_day + 1, p_time_zone) as ends
  ),
  wanted as (
    select p_day + make_interval(hours => h, mins => m) as local
    from unnest((p_cron).hours) h, unnest((p_cron).minutes) m
  )
  -- A plain day, as nearly all are: each local time is once.
  select w.local at time zone p_time_zone
  from wanted w, midnight
  where midnight.ends - midnight.starts = interval '24 hours'
  union all
  -- A day with a clock change and fixed hours: each local time once.
  select distinct jobs.first_moment(w.local, p_time_zone)
  from wanted w, midnight
  where not (p_cron).any_hour and midnight.ends - midnight.starts <> interval '24 hours'
  union all
  -- A day with a clock change and a schedule for every hour: every minute that the wall clock shows.
  select t.at
  from midnight, generate_series(midnight.starts, midnight.ends - interval '1 minute', interval '1 minute') as t (at)
  where (p_cron).any_hour and midnight.ends - midnight.starts <> interval '24 hours'
    and extract(minute from t.at at time zone p_time_zone)::integer = any ((p_cron).minutes)
$function$;

create or replace function jobs.start (
  job text
)
  returns bigint
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions := jobs.begin_by_hand(start.job);
  v_run_id bigint;
begin
  if v_definition.schedule is not null then
    v_run_id := jobs.start_slot(v_definition, clock_timestamp(), 'manual');
  end if;
  perform private.audit(null, 'job.started', jsonb_build_object('job', start.job, 'run_id', v_run_id));
  perform jobs.ring_soon();
  return v_run_id;
end
$function$;

create or replace function jobs.tick()
  returns jsonb
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
  set lock_timeout to '2s'
  AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_reaped integer;
  v_opened integer := 0;
  v_rung integer := 0;
begin
  -- An overlapping tick leaves at once.
  if not pg_try_advisory_xact_lock(hashtextextended('onecron tick', 0)) then
    return jsonb_build_object('skipped', 'another tick is running');
  end if;
  perform jobs.require_read_committed();
  if (select p.last_tick_at > v_now + interval '10 seconds' from jobs.platform p) then
    perform jobs.follow_clock(v_now);
    return jsonb_build_object('skipped', 'the clock was set back');
  end if;
  v_reaped := jobs.reap(v_now);
  perform jobs.finish_lost_drains(v_now);
  if not (select p.stopped from jobs.platform p) then
    v_opened := jobs.open_due_slots(v_now);
    begin
      v_rung := jobs.ring(v_now);
      perform jobs.close_alert(null, 'doorbell') where v_rung > 0;
    exception when others then
      perform jobs.open_alert(null, 'doorbell', 'No doorbell could be rung: ' || sqlerrm);
    end;
  end if;
  -- Looking after things may fail (somebody holds a partition that is to be dropped); the doorbells above are rung all the same.
  begin
    update jobs.platform p set watched_at = v_now where p.watched_at < v_now - interval '1 minute';
    if found then
      perform jobs.watch(v_now);
      delete from jobs.breakers b where b.state = 'recovering' and b.since < v_now - interval '1 minute';
    end if;
    perform jobs.clean(v_now);
    perform jobs.close_alert(null, 'housekeeping');
  exception when others then
    perform jobs.open_alert(null, 'housekeeping', 'The tick could not look after its history: ' || sqlerrm);
  end;
  update jobs.platform p
  set last_tick_at = v_now, last_tick_ms = round(extract(epoch from clock_timestamp() - v_now) * 1000, 3);
  return jsonb_build_object('reaped', v_reaped, 'opened', v_opened, 'rung', v_rung);
end
$function$;

create or replace function jobs.unpark (
  p_tenant_id uuid,
  p_provider public.provider
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
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
$function$;

create or replace function jobs.watch (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_bitmapscan to 'on'
  AS $function$
declare
  v_found record;
  v_open text[] := '{}';
  -- What somebody has stopped is late for a reason that is known.
  v_stopped text[] := array(select d.job from jobs.definitions d where d.paused or (select p.stopped from jobs.platform p));
begin
  perform jobs.look_at_backlogs(p_now);
  for v_found in
    -- A run that ended in error.
    select format('failed %s', r.job) as incident,
      format('The last run of %s failed: %s', r.job, coalesce(jsonb_path_query_first(r.errors, '$[*] ? (exists (@.drain_id)).error') #>> '{}', r.message)) as message, '{}'::jsonb as details
    from jobs.definitions d
    cross join lateral (
      select x.* from jobs.runs x where x.job = d.job and x.finished_at is not null order by x.started_at desc limit 1) r
    where r.status = 'error'
    union all
    -- A scheduled run that should be over. One that waits for paused or parked lanes only is late for a reason that is known.
    select format('overdue %s', r.job), format('A run of %s started at %s and is not over.', r.job, r.started_at), '{}'
    from jobs.runs r
    where r.finished_at is null and r.trigger = 'schedule' and r.started_at < p_now - interval '1 hour' and r.job <> all (v_stopped)
      and r.expected - (select coalesce(sum(rt.processed + rt.failed), 0) from jobs.run_tenants rt where rt.run_id = r.run_id) > (
        select count(*)
        from jobs.lanes l
        join jobs.items i on i.job = l.job and i.tenant_id = l.tenant_id
        where l.job = r.job and l.reason in ('paused', 'breaker') and i.run_id = r.run_id)
    union all
    -- More comes than goes: within the hour the wait will be longer than the plans promise.
    select format('growth %s', f.job),
      format('%s: the backlog grows faster than it drains: %s items are ready, %s more each minute, %s are done per minute. '
        'At this rate the target of %s s will be broken at %s UTC.', f.job, f.ready, f.growth_per_minute, f.drained_per_minute, f.target_seconds,
        to_char(f.breach_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI')),
      to_jsonb(f)
    from jobs.forecast(p_now) f
    where f.breach_at <= p_now + interval '1 hour' and f.job <> all (v_stopped)
    union all
    -- Work waits longer than the plans promise.
    select format('backlog %s', b.job), format('%s: the oldest ready item waits since %s; the target of its plan is %s s. Drained per minute: %s.',
      b.job, b.since, b.target_seconds, b.per_minute),
      jsonb_build_object('job', b.job, 'since', b.since, 'target_seconds', b.target_seconds, 'drained_per_minute', b.per_minute)
    from (
      select l.job, min(n.run_at) as since, min(coalesce(p.target_seconds, 600)) as target_seconds,
        (select count(*) / 5 from jobs.attempts a where a.job = l.job and a.finished_at > p_now - interval '5 minutes') as per_minute
      from jobs.definitions d
      -- Of each job, for each has a virtual time of its own; also lanes that are due and that no worker has come to wake.
      cross join lateral (
        (select x.tenant_id, x.job from jobs.lanes x where x.job = d.job and x.awake order by x.vtime limit 200)
        union all
        (select x.tenant_id, x.job from jobs.lanes x where x.job = d.job and x.wake_at <= p_now order by x.wake_at limit 200)
      ) l
      join lateral (
        select i.run_at from jobs.items i where i.job = l.job and i.tenant_id = l.tenant_id order by i.run_at, i.item_id limit 1) n on true
      left join public.tenants t on t.id = l.tenant_id
      left join public.plans p on p.plan_id = t.plan_id
      where n.run_at < p_now - make_interval(secs => coalesce(p.target_seconds, 600)) and d.job <> all (v_stopped)
      group by l.job
    ) b
    union all
    -- Items died within the last hour.
    select format('dead %s', d.job), format('%s items of %s died within the last hour. jobs.why(item_id) tells why; jobs.replay tries them again.', count(*), d.job), '{}'
    from jobs.dead_items d where d.died_at > p_now - interval '1 hour' group by d.job
    union all
    -- Doorbells that nobody answers.
    select format('doorbells %s', d.job), format('%s of the last doorbells of %s were not answered within 10 s.', count(*) filter (where d.answered_at is null), d.job), '{}'
    from jobs.drains d
    where d.rung_at between p_now - interval '5 minutes' and p_now - interval '10 seconds'
    group by d.job
    having count(*) filter (where d.answered_at is null) >= 3 and count(*) filter (where d.answered_at is null) > count(*) filter (where d.answered_at is not null)
    union all
    -- The clock stood still: this tick came much later than it should.
    select 'tick', format('No tick came between %s and %s.', p.last_tick_at, p_now), '{}'
    from jobs.platform p where p.last_tick_at < p_now - make_interval(secs => 5 * p.tick_seconds + 60)
  loop
    v_open := v_open || v_found.incident;
    perform jobs.open_alert(null, v_found.incident, v_found.message, v_found.details);
  end loop;
  -- What this looks for and does not find any more is over.
  update jobs.alerts a set closed_at = p_now
  where a.closed_at is null and a.tenant_id is null and a.incident ~ '^(failed|overdue|growth|backlog|dead|doorbells|tick)( |$)' and a.incident <> all (v_open);
  -- So is the trouble with a batch that is not there any more, and with the schedule of a job that has none.
  update jobs.alerts a set closed_at = p_now
  where a.closed_at is null and a.tenant_id is null and (
    a.incident like 'reap %' and not exists (select from jobs.batches b where b.batch_id = (a.details ->> 'batch_id')::bigint)
    or a.incident like 'schedule %' and not exists (
      select from jobs.definitions d where format('schedule %s', d.job) = a.incident and d.next_slot_at <= p_now and not d.paused));
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
    ) then 'No worker answers the doorbells of its job: it starts when one does.' end;
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

create or replace function jobs.work()
  returns boolean
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
declare
  v_definition jobs.definitions;
  v_drain_id uuid;
  v_batch jsonb;
begin
  for v_definition in
    select d.* from jobs.definitions d where d.kind = 'sql' and not d.paused order by d.job
  loop
    select d.drain_id into v_drain_id from jobs.drains d
    where d.job = v_definition.job and d.ended_at is null and d.request_id is null
      -- Not one that was started by hand: that has a run of its own.
      and d.run_id is not distinct from (select o.run_id from jobs.open_runs o where o.job = v_definition.job)
      and jobs.drain_is_live(d, v_definition.lease_seconds, clock_timestamp())
    limit 1;
    v_drain_id := coalesce(v_drain_id, jobs.begin_drain(v_definition.job));
    continue when v_drain_id is null;
    v_batch := jobs.next_batch(v_drain_id, v_definition.job, 1);
    if v_batch is not null then
      perform jobs.work_item(v_definition, (v_batch ->> 'batch_id')::bigint,
        (v_batch -> 'tenants' -> 0 ->> 'tenant_id')::uuid, (v_batch -> 'tenants' -> 0 -> 'items' -> 0 ->> 'item_id')::bigint);
      return true;
    end if;
    perform jobs.end_drain(v_drain_id);
  end loop;
  return false;
end
$function$;

create or replace function jobs.work_item (
  p_definition jobs.definitions,
  p_batch_id bigint,
  p_tenant_id uuid,
  p_item_id bigint
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_item record;
  v_result jsonb;
  v_outcome jsonb;
  v_began timestamptz := clock_timestamp();
begin
  select i.subject_id, i.payload into v_item from jobs.leased_items i where i.batch_id = p_batch_id and i.item_id = p_item_id;
  if not found then
    return;
  end if;
  begin
    execute format('select to_jsonb(%s($1, $2, $3))', (p_definition).work_function::regproc)
      into v_result using p_tenant_id, v_item.subject_id, v_item.payload;
    v_outcome := jsonb_build_object('item_id', p_item_id, 'outcome', 'done', 'result', coalesce(v_result, 'null'));
  exception
    when query_canceled or admin_shutdown or crash_shutdown then
      raise;
    when others then
      v_outcome := jsonb_build_object('item_id', p_item_id, 'outcome', 'retry', 'error', left(format('%s (%s)', sqlerrm, sqlstate), 500));
  end;
  if (p_definition).cost_unit = 'milliseconds' then
    v_outcome := v_outcome || jsonb_build_object('cost', 1000 * extract(epoch from clock_timestamp() - v_began));
  end if;
  perform jobs.close_batch(p_batch_id, jsonb_build_array(v_outcome));
end
$function$;

create or replace function jobs.write_lanes (
  p_places tid[],
  p_costs double precision[],
  p_to_ats timestamp with time zone[],
  p_to_ids bigint[],
  p_since timestamp with time zone[],
  p_empty boolean[],
  p_reasons text[],
  p_details text[],
  p_wake_ats timestamp with time zone[],
  p_next_ats timestamp with time zone[],
  p_now timestamp with time zone
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
begin
  update jobs.lanes l
  set written_at = p_now, vtime = l.vtime + coalesce(u.cost, 0),
    -- A lane that turns out to have more forgets its watermark: the ready item may lie before it.
    head_at = case when u.is_empty then u.next_at else u.to_at end,
    head_id = case when not u.is_empty then u.to_id when u.next_at is not null then 0 end, head_since = u.since,
    awake = u.reason is null, reason = u.reason, detail = u.detail, wake_at = u.wake_at
  from unnest(p_places, p_costs, p_to_ats, p_to_ids, p_since, p_empty, p_reasons, p_details, p_wake_ats, p_next_ats)
    as u (place, cost, to_at, to_id, since, is_empty, reason, detail, wake_at, next_at)
  -- The rows are locked, so they are where they were.
  where l.ctid = u.place and (u.cost is not null or u.is_empty);
end
$function$;

create or replace function jobs.write_settled (
  p_batch jobs.batches,
  p_settled jobs.settled[]
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
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
$function$;

create or replace function private.apply_verifications (
  p_ended jobs.ended[]
)
  returns void
  language plpgsql
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  AS $function$
declare
  v_verdicts private.verdict[];
  v_acted record;
  v_tenant_ids uuid[];
  v_participant_ids uuid[];
  v_open record;
begin
  if exists (select from unnest(p_ended) e where e.outcome = 'done' and e.result ->> 'verdict' in ('acted', 'needs_user_action')) then
    -- The step that was asked for was taken, and Instagram tells about the person now: the claim goes on.
    for v_acted in
      select e.tenant_id, array_agg(c.participant_id) as participant_ids
      from unnest(p_ended) e
      join public.completions c on c.tenant_id = e.tenant_id and c.id = e.subject_id
      where e.outcome = 'done' and e.result ->> 'verdict' = 'acted'
      group by e.tenant_id
      order by e.tenant_id
    loop
      perform private.wake_claims(v_acted.tenant_id, v_acted.participant_ids);
    end loop;
  end if;

  -- A claim's code came back from an account, and nothing else was there to store: it is linked here, as record_comments would.
  if exists (select from unnest(p_ended) e where e.result ? 'account') then
    with came as (
      select e.tenant_id, c.participant_id, e.result #>> '{account,platform}' as platform, e.result #>> '{evidence,author_id}' as author_id,
        substring(lower(ltrim(btrim(e.result #>> '{account,username}'), '@')) from '^[a-z0-9._]{1,30}$') as username,
        e.result #>> '{evidence,commented_at}' as at, e.item_id
      from unnest(p_ended) e
      cross join lateral (
        select x.participant_id from public.completions x
        where x.tenant_id = e.tenant_id and x.id = e.subject_id and x.status::text in ('pending', 'needs_user_action') offset 0
      ) c
      where e.outcome = 'done' and e.result ->> 'verdict' = 'verified'
    ),
    linked as (
      insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, username, linked_by)
      select came.tenant_id, came.participant_id, came.platform, came.author_id, came.username, 'claim code'
      from came
      where came.platform in ('instagram', 'facebook') and came.author_id ~ '^[!-~]{1,200}$'
      order by came.tenant_id, came.at, came.item_id
      on conflict do nothing
      returning tenant_id, participant_id
    )
    select array_agg(l.tenant_id), array_agg(l.participant_id) into v_tenant_ids, v_participant_ids from linked l;
  end if;

  select array_agg((e.tenant_id, e.subject_id, r.verdict, 'api', coalesce(e.result ->> 'reason', e.error), r.evidence,
      case when r.verdict = 'verified' then array_remove(array[
        coalesce('comment:' || regexp_replace(r.evidence ->> 'comment_id', '^.*_', ''), 'media:' || (r.evidence ->> 'media_id'),
          'message:' || (r.evidence ->> 'message_id')),
        coalesce('author:' || (r.evidence ->> 'author_id'), 'name:' || lower(r.evidence ->> 'author_username'))], null) end,
      e.credential_source, 'manual_review',
      case when r.verdict = 'needs_user_action' then (
        select private.contact_link(c.tenant_id, 'instagram', c.code) from public.completions c where c.tenant_id = e.tenant_id and c.id = e.subject_id) end
    )::private.verdict)
  into v_verdicts
  from unnest(p_ended) e
  cross join lateral (
    select case when e.outcome = 'done' and e.result ->> 'verdict' in ('verified', 'failed', 'needs_user_action')
        then e.result ->> 'verdict' else 'manual_review' end as verdict,
      case when jsonb_typeof(e.result -> 'evidence') = 'object' then e.result -> 'evidence' end as evidence
  ) r
  where e.outcome <> 'cancelled' and e.result ->> 'verdict' is distinct from 'acted';
  perform private.decide_completions(v_verdicts, 'worker', '{pending,needs_user_action}', p_item_ended => true);

  -- Who is linked now may have other claims that wait for that, or are proven by what was seen before.
  for v_open in
    select u.tenant_id, array_agg(distinct u.participant_id) as participant_ids
    from unnest(v_tenant_ids, v_participant_ids) as u (tenant_id, participant_id)
    where exists (
      select from public.completions c
      where c.tenant_id = u.tenant_id and c.participant_id = u.participant_id and c.status::text in ('pending', 'needs_user_action'))
    group by u.tenant_id
    order by u.tenant_id
  loop
    perform private.wake_claims(v_open.tenant_id, v_open.participant_ids);
    perform private.decide_by_signals(v_open.tenant_id, '{}', v_open.participant_ids, null,
      (select min(e.credential_source) from unnest(p_ended) e where e.tenant_id = v_open.tenant_id));
  end loop;
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
    'secret', private.read_secret(c.secret_id)::jsonb)
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

create or replace function private.forget_tenant()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  perform jobs.forget_tenant(old.id);
  return null;
end
$function$;

create or replace function private.forgetting_key()
  returns text
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_key text := private.platform_secret('forgetting_key');
begin
  if v_key is null then
    v_key := encode(extensions.gen_random_bytes(32), 'hex');
    -- One that was written with another key of Vault: its marks can never be compared again.
    delete from vault.secrets s where s.name = 'forgetting_key';
    perform vault.create_secret(v_key, 'forgetting_key', 'Onecron: marks of people who were forgotten');
  end if;
  return v_key;
end
$function$;

create or replace function private.keep_secret (
  p_name text,
  p_secret text
)
  returns uuid
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_id uuid;
begin
  -- Of two that store it for the first time at once, the second changes what the first made.
  perform pg_advisory_xact_lock(hashtextextended('onecron secret ' || p_name, 0));
  select s.id into v_id from vault.secrets s where s.name = p_name;
  -- Vault reads a secret before it changes it, so what was written with another key can only be replaced.
  if v_id is not null and private.read_secret(v_id) is null then
    delete from vault.secrets s where s.id = v_id;
    v_id := null;
  end if;
  if v_id is null then
    return vault.create_secret(p_secret, p_name, 'Onecron credential');
  end if;
  perform vault.update_secret(v_id, p_secret);
  return v_id;
end
$function$;

create or replace function private.load_credential_checks (
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  p_subject_ids uuid[],
  p_payloads jsonb[]
)
  returns SETOF jobs.loaded
  language sql
  stable
  set search_path to ''
  AS $function$
  select u.item_id, jsonb_build_object('fingerprint', c.fingerprint), null::timestamptz,
    case when c.fingerprint is null then 'the credential is gone' end, c.fingerprint is null
  from unnest(p_tenant_ids, p_item_ids) as u (tenant_id, item_id)
  left join jobs.leased_items i on i.tenant_id = u.tenant_id and i.item_id = u.item_id
  left join jobs.definitions d on d.job = i.job
  left join lateral (
    select own.fingerprint from public.credentials own where own.tenant_id = u.tenant_id and own.provider = d.provider
    union all
    select p.fingerprint from private.platform_credentials p where u.tenant_id = jobs.platform_id() and p.provider = d.provider
  ) c on true
$function$;

create or replace function private.platform_secret (
  p_name text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select private.read_secret(s.id) from vault.secrets s where s.name = p_name
$function$;

create or replace function private.read_secret (
  p_id uuid
)
  returns text
  language plpgsql
  stable
  set search_path to ''
  AS $function$
begin
  return (select s.decrypted_secret from vault.decrypted_secrets s where s.id = p_id);
exception when data_exception then
  -- Vault has one code for all of its errors. Without any key nothing is readable, and no secret is to blame.
  if sqlerrm not like '%invalid ciphertext%' then
    raise;
  end if;
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
      update jobs.items i set run_at = now(), waiting_for = null
      from jobs.dedupe_keys k
      where k.tenant_id = p_tenant_id and k.job = 'verify-social-tasks' and k.dedupe_key = any (array(select 'mention/' || w from unnest(v_waiting) w))
        and i.tenant_id = k.tenant_id and i.item_id = k.item_id and i.run_at > now();
      perform jobs.enqueue_many('verify-social-tasks', array(select p_tenant_id from unnest(v_waiting)), v_waiting, now(),
        array(select 'mention/' || w from unnest(v_waiting) w));
    end if;
  end if;

  return jsonb_build_object('recorded', cardinality(v_new), 'skipped', v_given - v_valid,
    'decided', private.decide_by_signals(p_tenant_id, v_signal_ids, v_linked, null, p_credential_source));
end
$function$;

create or replace function private.unreadable_claims (
  p_tenant_id uuid
)
  returns text
  language plpgsql
  stable
  set search_path to ''
  AS $function$
begin
  return (
    select format('%s: %s', t.title, substr(i.waiting_for, 10))
    from jobs.items i
    join public.completions c on c.tenant_id = i.tenant_id and c.id = i.subject_id
    join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
    where i.job = 'verify-social-tasks' and i.tenant_id = p_tenant_id
      and i.waiting_for ~ '^unknown: (Meta (3|10|100|1705|2[0-9][0-9])[:/]|only an account connected|the credential does not name|The credential is )'
      and i.waiting_for !~ '^unknown: Meta 230:' and (t.kind::text <> 'instagram_follow' or i.waiting_for !~ '^unknown: Meta 100/33:')
    order by i.run_at
    limit 1);
end
$function$;

create or replace function private.wake_capped()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_job text;
begin
  for v_job in select d.job from jobs.definitions d order by d.job loop
    -- Guards first, and then a look: a claim may be about to put a lane to sleep for the old cap.
    perform jobs.take_guards(v_job, array(select t.id from public.tenants t where t.plan_id = new.plan_id));
    perform jobs.wake_blocked(v_job, array(
      select l.tenant_id from jobs.lanes l join public.tenants t on t.id = l.tenant_id
      where l.job = v_job and l.reason = 'cap' and t.plan_id = new.plan_id), 'cap');
  end loop;
  return null;
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
    update jobs.items i set run_at = now(), waiting_for = null
    from jobs.dedupe_keys k
    where k.tenant_id = p_tenant_id and k.job = 'verify-social-tasks' and k.dedupe_key = any (array(select 'asked/' || w from unnest(v_awake) w))
      and i.tenant_id = k.tenant_id and i.item_id = k.item_id and i.run_at > now();
    perform jobs.enqueue_many('verify-social-tasks', array(select p_tenant_id from unnest(v_awake)), v_awake, now(),
      array(select 'asked/' || w from unnest(v_awake) w));
  end if;
end
$function$;

create view "jobs"."leased_items" with (security_invoker=true) AS  SELECT e.batch_id,
    e.credential_source,
    e.credential_fingerprint,
    i.tenant_id,
    i.item_id,
    i.job,
    i.subject_id,
    i.run_id,
    i.run_at,
    i.enqueued_at,
    i.attempts,
    i.tries,
    i.waiting_for,
    i.last_error,
    i.dedupe_key,
    i.trace_id,
    i.payload
   FROM (jobs.leases e
     CROSS JOIN LATERAL unnest(e.items) i(tenant_id, item_id, job, subject_id, run_id, run_at, enqueued_at, attempts, tries, waiting_for, last_error, dedupe_key, trace_id, payload));

create trigger batches_before_delete_keep
  before delete on jobs.batches
  for each row
  execute function jobs.keep_batch();

comment on column "jobs"."effects"."request" is 'The call of begin_effects that marked it, by the worker''s own id: made again, it is answered as the first time.';

comment on column "jobs"."leases"."items" is 'The items as they were when they were handed out. They end from here, or go back to jobs.items.';

comment on function "jobs"."answer_doorbell"(uuid) is 'A worker answers a doorbell: {"drain_id","job","run_id"}. Null when the ticket is unknown, older than 300 s or answered before: a doorbell that comes twice drains once. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."begin_by_hand"(text) is 'The definition of a job that may be started by hand; lanes that rest wake. Errors: P0002 no such job, 55000 paused, or everything stopped.';

comment on function "jobs"."close_batch"(bigint, jsonb, boolean, uuid) is 'Outcomes of items of a batch: [{"item_id","outcome":"done","result"} | {"outcome":"retry","error","after_seconds"?} | {"outcome":"refused","error"} | {"outcome":"snooze","seconds"|"until","reason"} | {"outcome":"throttled","seconds","error","scope"?: "account"} | {"outcome":"credential_broken","error"}], each with "hint"?: {"seconds","reason","scope"?} when the provider''s limit is nearly used up, and "cost"? in the job''s unit. Returns {"closed","stale","next"}: stale items belong to this batch no more (lease over, or closed before) and were not touched. Safe to repeat; with the same request (the caller''s own id of this call) the next batch of a lost answer is handed out again. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."finish_run"(bigint) is 'Ends a run: error when all failed, or its drain did and nothing was done; warning when something failed, else success.';

comment on function "jobs"."first_moment"(timestamp without time zone, text) is 'When a local time is: the first of two, or the moment to which one that the clock skips is moved.';

comment on function "jobs"."follow_clock"(timestamp with time zone) is 'After the server''s clock was set back: schedules, sleeping lanes, leases, drains and watches go by the new time. Called by the tick that sees it.';

comment on function "jobs"."forget_strays"() is 'Forgets work of tenants that are not there any more. Called by the tick once an hour.';

comment on function "jobs"."forget_tenant"(uuid) is 'The work of a tenant that is deleted goes, and its alerts are over.';

comment on function
  "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], boolean[], timestamp
  with time zone[], timestamp with time zone) is 'Of these lanes those that go to sleep, with reason and wake_at: until the next item is due, until the reason is gone, or until work arrives. head_at: where the next claim may begin to look.';

comment on function "jobs"."keep_batch"() is 'Trigger: a batch with leases stays.';

comment on function "jobs"."load_batch"(jobs.definitions, jobs.batches, timestamp
  with time zone) is 'The batch as the worker gets it: items with data, grouped by tenant, each group with its credential.';

comment on function "jobs"."next_batch"(uuid, text, integer, uuid) is 'The next batch for a drain: {"batch_id","job","now","lease_until","lease_seconds","cost_unit","tenants":[{"tenant_id","slug","credential","items":[{"item_id","attempt","trace_id","subject_id","data"}]}]}, or null when nothing is awake. With a request (the caller''s own id of this call) it can be repeated: the batch of an answer that was lost is handed out again. The only place where secrets leave the database. Definer: writes the engine''s tables and reads the tenants'' secrets in Vault, which service_role must not do row by row.';

comment on function "jobs"."next_wake"(text) is 'In how many seconds the next sleeping lane of a job wakes; null when none does by itself, or the job may not run. Definer: the engine''s tables are its own.';

comment on function "jobs"."note_throttles"(jobs.definitions, jobs.batches, jsonb, jobs.settled[], timestamp
  with time zone) is 'Notes until when a provider wants to hear nothing with a credential, or of a tenant: lanes of all jobs, and of all tenants that lean on it, wait.';

comment on function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp
  with time zone) is 'One round: leases up to p_room items to the batch from the lanes that are furthest behind, charges them, puts empty ones to sleep. Returns how many; null when no lane is awake.';

comment on function "jobs"."recover_from_backup"(text[], boolean) is 'After a restore from a backup, while everything is stopped: what was due or running in these jobs (default: all whose provider has no idempotency key) ends as unknown, because it may have been sent since; ids move on. dry_run (the default) says how many it would be. Returns how many. Errors: P0002 no such job, 55000 not stopped. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."ring_soon"() is 'Rings for work that waits, unless a tick is just doing it.';

comment on function "jobs"."run_counts"(bigint) is 'Processed, failed and the first errors of a run so far, those of its drains before those of its items.';

comment on function "jobs"."run_now"(text) is 'For who drains the job: {"run_id","drain_id","kind"} (a SQL job by jobs.work_batch). Whoever does not calls jobs.start. Errors: P0002 no such job, 55000 paused, or everything stopped. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."settle"(jobs.definitions, jobs.batches, jsonb, timestamp
  with time zone) is 'Applies outcomes to the items that still belong to the batch: ended ones are gone, others go back; history, leases, run and lanes follow. Returns how many.';

comment on function "jobs"."start"(text) is 'Starts a job now, without waiting for it: a worker, or jobs.work after the next tick, does what there is. Returns the run of a scheduled job; null for a queue, whose work has a run of its own. Errors: P0002 no such job, 55000 paused, or everything stopped. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."unpark"(uuid, public.provider) is 'The credential of this owner changed: its breaker closes, its throttle is over, and the lanes held by them wake.';

comment on function "jobs"."why"(bigint, uuid) is 'Why an item is not running, in words: running, stopped, paused, breaker, due at, capped (its tenant, or the job or provider for all), rate limited, asleep until because, behind n items with the expected start, no tick or worker comes, dead, or ended how. Definer: reads definitions and history without a grant on each.';

comment on function "jobs"."write_lanes"(tid[], double precision[], timestamp
  with time zone[],
  bigint[],
  timestamp with time zone[],
  boolean[],
  text[],
  text[],
  timestamp with time zone[],
  timestamp with time zone[], timestamp with time zone) is 'Charges the lanes at these places, moves their watermarks, and puts those to sleep that have a reason.';

comment on function "jobs"."write_settled"(jobs.batches, jobs.settled[]) is 'Remembers the attempts, puts back what comes back, buries the dead, frees the places.';

comment on function "private"."credential_for"(uuid, public.provider, boolean) is 'The credential an item of this tenant is processed with, secret included (null when it cannot be read). Called by jobs.next_batch only; nobody else may execute it.';

comment on function "private"."forget_tenant"() is 'Trigger: the work of a deleted tenant goes with it. Definer: lanes and items belong to the engine.';

comment on function "private"."platform_secret"(text) is 'A secret of the platform by its name in Vault (`project_url`, `cron_secret`), or null, also when it was written with another key. Callable by its owner only.';

comment on function "private"."read_secret"(uuid) is 'A secret in Vault, or null when there is none or it was written with another key. Callable by its owner only.';

comment on table "jobs"."dedupe_keys" is 'Which item has a dedupe key: one at a time per tenant and job, from its enqueue to its end.';

comment on table "jobs"."effects" is 'Items of open batches for which a call without an idempotency key may have left: if the worker is lost, they end as unknown and are not sent again.';

comment on table "jobs"."items" is 'Work that waits for its run_at or its turn. What was handed out is in jobs.leases until it ends or comes back.';

comment on table "jobs"."leases" is 'What each lane has in flight, by batch; the batch''s id is the fence. Only a claim adds to it, under the claim lock of the job, so caps hold exactly.';

comment on table "jobs"."throttles" is 'What a provider said: not before `until`. A tenant''s row holds its lanes for the provider, that of jobs.platform_id() all lanes that would use the platform''s credential, however many tenants lean on it. Over when its time is.';

comment on view "jobs"."leased_items" is 'The items that are out with workers, one row each.';

revoke all on function "jobs"."begin_by_hand"(text) from public;

revoke all on function "jobs"."first_moment"(timestamp without time zone, text) from public;

revoke all on function "jobs"."follow_clock"(timestamp with time zone) from public;

revoke all on function "jobs"."forget_strays"() from public;

revoke all on function "jobs"."forget_tenant"(uuid) from public;

revoke all
  on function "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], boolean[], timestamp
    with time zone[], timestamp with time zone)
  from public;

revoke all on function "jobs"."keep_batch"() from public;

revoke all
  on function "jobs"."load_batch"(jobs.definitions, jobs.batches, timestamp with time zone)
  from public;

revoke all on function "jobs"."next_wake"(text) from public;

grant execute on function "jobs"."next_wake"(text) to "service_role";

revoke all
  on function "jobs"."note_throttles"(jobs.definitions, jobs.batches, jsonb, jobs.settled[], timestamp
    with time zone)
  from public;

revoke all
  on function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp with time zone)
  from public;

revoke all on function "jobs"."recover_from_backup"(text[], boolean) from public;

grant execute on function "jobs"."recover_from_backup"(text[], boolean) to "service_role";

revoke all on function "jobs"."ring_soon"() from public;

revoke all on function "jobs"."start"(text) from public;

grant execute on function "jobs"."start"(text) to "service_role";

revoke all
  on function "jobs"."write_lanes"(tid[], double precision[], timestamp with time zone[], bigint[], timestamp
    with time zone[],
    boolean[],
    text[], text[], timestamp with time zone[], timestamp with time zone[], timestamp with time zone)
  from public;

revoke all on function "private"."read_secret"(uuid) from public;

grant select on table "jobs"."throttles" to "service_role";

grant select on table "jobs"."leased_items" to "service_role";
