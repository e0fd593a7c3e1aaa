-- tried by strangers: written by `npm run db:diff` from sql/.
-- By hand: a migration is one transaction with a lock_timeout: it comes whole or not at all, and cannot make an index concurrently.
-- squawk-ignore-file require-concurrent-index-creation
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

revoke all on table "public"."participants" from "authenticated";

drop trigger "tenants_after_update_audit" on "public"."tenants";

drop view "jobs"."plan_levels";

drop view "jobs"."queues";

drop view "jobs"."service_levels";

drop view "public"."job_queues";

drop function "jobs"."latest_slot"(text, text, timestamp with time zone, timestamp with time zone);

drop function "jobs"."queue_state"(uuid[]);

drop function "jobs"."service_report"(timestamp with time zone, uuid[]);

drop function "private"."my_queues"();

drop function "private"."stop_sender"(uuid, integer, text);

create table "private"."bundled_emails" (
  "tenant_id" uuid not null,
  "outbox_id" uuid not null,
  "bundle_id" uuid not null,
  "place" smallint not null,
  "versions" integer[] not null default '{1}'::integer[],
  constraint "bundled_emails_pkey" primary key (tenant_id, outbox_id),
  constraint "one_mail_per_place" unique (tenant_id, bundle_id, place)
);

alter table "private"."bundled_emails"
  enable row level security;

create table "private"."email_bundles" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "sender" text not null,
  "credential_source" text not null,
  "credential_fingerprint" text not null,
  "calls" integer not null default 0,
  "versions" integer not null default 1,
  "request" uuid,
  "lost_reason" text,
  "created_at" timestamp with time zone not null default clock_timestamp(),
  constraint "email_bundles_pkey" primary key (tenant_id, id),
  constraint "sender_is_short" check (((char_length(sender) >= 1) AND (char_length(sender) <= 320)))
);

alter table "private"."email_bundles"
  enable row level security;

alter table "private"."senders"
  add column "resumed_at" timestamp with time zone;

alter table "public"."follower_counts"
  add column "account_id" text;

alter table "public"."notification_outbox"
  add column "bundled" boolean not null default false;

create or replace function jobs.add_member (
  tenant_id uuid,
  user_id uuid,
  role public.member_role
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_from public.member_role;
begin
  select m.role into v_from from public.memberships m where m.tenant_id = add_member.tenant_id and m.user_id = add_member.user_id for update;
  insert into public.memberships as m (tenant_id, user_id, role)
  values (add_member.tenant_id, add_member.user_id, add_member.role)
  on conflict on constraint memberships_pkey do update set role = excluded.role;
  perform private.audit(add_member.tenant_id, case when v_from is null then 'member.added' else 'member.role_changed' end,
    jsonb_strip_nulls(jsonb_build_object('user_id', add_member.user_id, 'role', add_member.role, 'from', v_from)));
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
  select e.tenant_id, array_agg(i.subject_id order by array_position(bundle_emails.items, i.item_id)), min(e.credential_source), min(e.credential_fingerprint)
  into v_tenant_id, v_ids, v_source, v_fingerprint
  from jobs.leases e
  cross join lateral unnest(e.item_ids) as u (item_id)
  cross join lateral (
    select x.item_id, x.subject_id from jobs.items x
    where x.tenant_id = e.tenant_id and x.item_id = u.item_id and x.batch_id = bundle_emails.batch_id
    offset 0
  ) i
  where e.batch_id = bundle_emails.batch_id and u.item_id = any (bundle_emails.items)
  group by e.tenant_id
  order by e.tenant_id
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
  if cancel.dry_run then
    return (
      select count(*) from jobs.items i
      where i.job = cancel.job and i.batch_id is null and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
        and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than));
  end if;
  with gone as (
    delete from jobs.items i
    where i.job = cancel.job and i.batch_id is null and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
      and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than)
    returning i.*
  ),
  remembered as (
    insert into jobs.attempts (tenant_id, item_id, try, job, subject_id, run_id, outcome, error, due_at, started_at, trace_id)
    select g.tenant_id, g.item_id, g.tries + 1, g.job, g.subject_id, g.run_id, 'cancelled', 'cancelled by the platform', g.run_at, now(), g.trace_id
    from gone g
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

create or replace function jobs.check_default_time_zone()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if tg_when = 'BEFORE' then
    if not private.is_time_zone(new.value) then
      raise exception '"%" is not an IANA time zone. Use a name like Europe/Berlin.', new.value using errcode = '22023';
    end if;
    return new;
  end if;
  update jobs.definitions d set next_slot_at = null where d.schedule is not null and d.time_zone is null;
  return null;
end
$function$;

create or replace function jobs.check_definition()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  if new.schedule is null then
    new.next_slot_at := null;
  elsif tg_op = 'INSERT' or new.schedule is distinct from old.schedule or new.time_zone is distinct from old.time_zone
    or (new.next_slot_at is null) then
    select s into new.next_slot_at
    from jobs.next_slots(new.schedule, coalesce(new.time_zone, private.setting('default_time_zone'), 'UTC'), now(), 1) s;
    if new.next_slot_at is null then
      raise exception 'The schedule "%" never comes.', new.schedule using errcode = '22023';
    end if;
  end if;
  return new;
end
$function$;

create or replace function jobs.day_begins (
  p_day date,
  p_time_zone text
)
  returns timestamp with time zone
  language sql
  stable
  set search_path to ''
  AS $function$
  select coalesce(
    (select min(earlier.at)
     from (select p_day::timestamp at time zone p_time_zone - d as at from unnest(array[interval '30 minutes', interval '1 hour', interval '2 hours']) d) earlier
     where earlier.at at time zone p_time_zone = p_day::timestamp),
    p_day::timestamp at time zone p_time_zone)
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
  if not (select p.stopped from jobs.platform p) and pg_try_advisory_xact_lock(hashtextextended('onecron tick', 0)) then
    begin
      perform jobs.ring(clock_timestamp());
    exception when others then
      null; -- the tick will ring, and says why when it cannot
    end;
  end if;
end
$function$;

create or replace function jobs.expect_fewer (
  p_run_ids bigint[],
  p_items bigint[]
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  update jobs.runs r set expected = r.expected - g.items
  from unnest(p_run_ids, p_items) as g (run_id, items)
  where r.run_id = g.run_id and r.finished_at is null and r.expected is not null
$function$;

create or replace function jobs.finish_lost_drains (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  update jobs.drains d
  set ended_at = p_now, error = case when d.answered_at is null then 'the doorbell was not answered' else 'the worker was lost' end
  from jobs.definitions x
  where x.job = d.job and d.ended_at is null and not jobs.drain_is_live(d, x.lease_seconds, p_now)
    and d.rung_at < p_now - interval '10 seconds';

  perform jobs.finish_run(r.run_id)
  from jobs.runs r
  where r.finished_at is null and r.expected is not null
    and r.expected <= (select coalesce(sum(rt.processed + rt.failed), 0) from jobs.run_tenants rt where rt.run_id = r.run_id);

  perform jobs.finish_run(r.run_id)
  from jobs.runs r
  where r.finished_at is null and r.expected is null
    and r.started_at < p_now - interval '10 seconds'
    and not exists (select from jobs.drains d where d.run_id = r.run_id and d.ended_at is null);
end
$function$;

create or replace function jobs.is_slot_day (
  p_cron jobs.cron,
  p_day date
)
  returns boolean
  language sql
  immutable
  set search_path to ''
  AS $function$
  select extract(month from p_day)::integer = any ((p_cron).months)
    and case
      when (p_cron).any_day or (p_cron).any_weekday
        then extract(day from p_day)::integer = any ((p_cron).days) and extract(dow from p_day)::integer = any ((p_cron).weekdays)
      else extract(day from p_day)::integer = any ((p_cron).days) or extract(dow from p_day)::integer = any ((p_cron).weekdays) end
$function$;

create or replace function jobs.latest_slots (
  p_schedule text,
  p_zone text,
  p_from timestamp with time zone,
  p_until timestamp with time zone,
  p_count integer
)
  returns SETOF timestamp with time zone
  language plpgsql
  stable
  set search_path to ''
  AS $function$
declare
  v_cron jobs.cron := jobs.parse_cron(p_schedule);
  v_day date;
  v_slot timestamptz;
  v_found integer := 0;
begin
  -- A slot that a clock change moved may belong to the day before.
  for v_day in
    select d::date
    from generate_series((p_until at time zone p_zone)::date, (p_from at time zone p_zone)::date - 1, interval '-1 day') d
    where jobs.is_slot_day(v_cron, d::date)
  loop
    for v_slot in select s from jobs.slots_of_day(v_cron, p_zone, v_day) s where s between p_from and p_until order by s desc loop
      return next v_slot;
      v_found := v_found + 1;
      if v_found >= p_count then
        return;
      end if;
    end loop;
  end loop;
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
        or jobs.day_begins(d::date + 1, time_zone) - jobs.day_begins(d::date, time_zone) <> interval '24 hours')
  loop
    -- A time that the clock skips may be moved past midnight: it takes its turn among those of the next day.
    v_slots := array(
      select u from (select unnest(v_moved) as u union select s from jobs.slots_of_day(v_cron, time_zone, v_day) s) x where u > after order by u);
    v_moved := array(select u from unnest(v_slots) u where u >= jobs.day_begins(v_day + 1, time_zone));
    foreach v_slot in array v_slots[:cardinality(v_slots) - cardinality(v_moved)] loop
      exit when v_found >= count;
      v_found := v_found + 1;
      return next v_slot;
    end loop;
    exit when v_found >= count;
  end loop;
end
$function$;

create or replace function jobs.open_due_slots (
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_definition jobs.definitions;
  v_zone text;
  v_slots timestamptz[];
  v_slot timestamptz;
  v_opened integer;
  v_count integer := 0;
begin
  for v_definition in
    select d.* from jobs.definitions d where d.next_slot_at <= p_now and not d.paused order by d.next_slot_at for update skip locked
  loop
    begin
      v_opened := 0;
      v_zone := coalesce(v_definition.time_zone, private.setting('default_time_zone'), 'UTC');
      v_slots := array(
        select s from jobs.latest_slots(v_definition.schedule, v_zone, v_definition.next_slot_at, p_now,
          case v_definition.misfire when 'all' then v_definition.misfire_limit else 1 end) s order by s);
      if v_slots = '{}' then
        v_slots := array[v_definition.next_slot_at];
      end if;
      if v_definition.misfire = 'skip' and v_slots[1] < p_now - interval '2 minutes' then
        v_slots := '{}';
      end if;
      foreach v_slot in array v_slots loop
        if jobs.start_slot(v_definition, v_slot) is not null then
          v_opened := v_opened + 1;
        end if;
      end loop;
      update jobs.definitions d
      set next_slot_at = (select s from jobs.next_slots(v_definition.schedule, v_zone, p_now, 1) s)
      where d.job = v_definition.job;
      v_count := v_count + v_opened;
      perform jobs.close_alert(null, format('schedule %s', v_definition.job));
    exception
      when lock_not_available or deadlock_detected then
        null; -- the next tick
      when others then
        -- One job whose condition or eligibility raises must not stop the others. Its slot stays due: every tick tries again, and
        -- when it works again the misfire policy says what becomes of what was missed.
        perform jobs.open_alert(null, format('schedule %s', v_definition.job),
          format('The slot %s of %s could not be started: %s', v_definition.next_slot_at, v_definition.job, sqlerrm));
    end;
  end loop;
  return v_count;
end
$function$;

create or replace function jobs.parse_cron (
  expression text
)
  returns jobs.cron
  language plpgsql
  immutable
  set search_path to ''
  AS $function$
declare
  v_fields text[];
  v_cron jobs.cron;
  v_text text := lower(btrim(regexp_replace(expression, '\s+', ' ', 'g')));
begin
  if char_length(expression) > 500 then
    raise exception 'A schedule has at most 500 characters, not %.', char_length(expression) using errcode = '22023';
  end if;
  v_text := case v_text
    when '@yearly' then '0 0 1 1 *' when '@annually' then '0 0 1 1 *' when '@monthly' then '0 0 1 * *' when '@weekly' then '0 0 * * 0'
    when '@daily' then '0 0 * * *' when '@midnight' then '0 0 * * *' when '@hourly' then '0 * * * *'
    else v_text end;
  if coalesce(v_text, '') = '' or v_text like '@%' then
    raise exception '"%" is not a schedule. Known words: @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually.', expression
      using errcode = '22023';
  end if;
  v_fields := string_to_array(v_text, ' ');
  if cardinality(v_fields) <> 5 then
    raise exception 'A schedule has five fields (minute hour day month weekday); "%" has %.', expression, cardinality(v_fields)
      using errcode = '22023';
  end if;
  v_cron.minutes := jobs.parse_cron_field(v_fields[1], 'minute', 0, 59, '{}');
  v_cron.hours := jobs.parse_cron_field(v_fields[2], 'hour', 0, 23, '{}');
  v_cron.days := jobs.parse_cron_field(v_fields[3], 'day', 1, 31, '{}');
  v_cron.months := jobs.parse_cron_field(v_fields[4], 'month', 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}');
  v_cron.weekdays := jobs.parse_cron_field(v_fields[5], 'weekday', 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
  -- 7 is Sunday too.
  v_cron.weekdays := array(select distinct u % 7 from unnest(v_cron.weekdays) u order by 1);
  v_cron.any_hour := v_fields[2] = '*';
  v_cron.any_day := v_fields[3] like '*%';
  v_cron.any_weekday := v_fields[5] like '*%';
  return v_cron;
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
    if pause.tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = pause.tenant_id) then
      raise exception 'There is no tenant %.', pause.tenant_id using errcode = 'P0002';
    end if;
    perform jobs.make_lanes(pause.job, array[pause.tenant_id]);
    update jobs.lanes l
    set paused = true, awake = false, wake_at = null, reason = 'paused', detail = 'this lane is paused', head_at = null, head_id = null
    where l.tenant_id = pause.tenant_id and l.job = pause.job;
  end if;
  perform private.audit(pause.tenant_id, 'job.paused', jsonb_build_object('job', pause.job, 'tenant_id', pause.tenant_id));
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
    from jobs.items i where i.job = l.job and i.tenant_id = l.tenant_id and i.batch_id is null
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
          when i.begun and v_definition.effects then jsonb_build_object('item_id', i.item_id, 'outcome', 'done', 'result',
            jsonb_build_object('status', 'unknown', 'reason', 'the worker was lost after the call began'))
          else jsonb_build_object('item_id', i.item_id, 'outcome', 'lost', 'error', 'the lease ran out') end)
      into v_outcomes
      from jobs.leases e
      cross join lateral unnest(e.item_ids) as u (item_id)
      cross join lateral (
        select x.item_id, x.begun from jobs.items x
        where x.tenant_id = e.tenant_id and x.item_id = u.item_id and x.batch_id = v_batch.batch_id
        offset 0
      ) i
      where e.batch_id = v_batch.batch_id;
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
  v_definition jobs.definitions;
  v_run_id bigint;
  v_drain_id uuid;
begin
  select d.* into v_definition from jobs.definitions d where d.job = run_now.job;
  if not found then
    raise exception 'There is no job "%".', run_now.job using errcode = 'P0002';
  end if;
  if v_definition.paused then
    raise exception 'The job "%" is paused. Resume it first.', run_now.job using errcode = '55000';
  elsif (select p.stopped from jobs.platform p) then
    raise exception 'All background work is stopped by the platform''s switch. Start it first.' using errcode = '55000';
  end if;
  -- A run by hand does not wait for the cadence.
  update jobs.lanes l
  set wake_at = now(), not_before = '-infinity', reason = 'waiting'
  from (
    select s.tenant_id from jobs.lanes s where s.job = run_now.job and s.reason = 'cadence' order by s.tenant_id for no key update
  ) resting
  where l.job = run_now.job and l.tenant_id = resting.tenant_id;
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
    round(count(*) filter (where a.outcome = 'done')::numeric / count(*), 4),
    round(count(*) / greatest(extract(epoch from now() - p_since) / 60, 1), 2),
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

create or replace function jobs.set_plan (
  tenant_id uuid,
  plan_id text
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_from text;
begin
  select t.plan_id into v_from from public.tenants t where t.id = set_plan.tenant_id for no key update;
  if not found then
    raise exception 'There is no tenant %.', set_plan.tenant_id using errcode = 'P0002';
  end if;
  update public.tenants t set plan_id = set_plan.plan_id where t.id = set_plan.tenant_id;
  perform private.audit(set_plan.tenant_id, 'plan.changed', jsonb_build_object('plan_id', set_plan.plan_id, 'from', v_from));
end
$function$;

create or replace function jobs.settle_emails (
  tenant_id uuid,
  bundle_id uuid,
  call integer,
  version integer,
  outcome text,
  outbox_ids uuid[] default '{}'::uuid[],
  message_ids text[] default '{}'::text[]
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
  v_bundle private.email_bundles;
  v_others integer[];
  v_mails jsonb;
  v_unknown boolean;
begin
  if outcome is null or outcome not in ('accepted', 'accepted before', 'content refused', 'refused', 'not sent') then
    raise exception 'Unknown outcome "%".', coalesce(outcome, 'null') using errcode = '22023';
  end if;
  select b.* into v_bundle from private.email_bundles b where b.tenant_id = settle_emails.tenant_id and b.id = settle_emails.bundle_id for update;
  if not found then
    return null;
  end if;

  if outcome in ('content refused', 'refused', 'not sent') then
    -- This call sent nothing. The mails are free only if no other call may have: it was the first one, or its content is what was refused
    -- and every other version has all of these mails, the bad one among them: content that is refused once was never accepted.
    -- Whoever has set out after it will say what became of that.
    if v_bundle.calls <> settle_emails.call
      or not (v_bundle.calls = 1 or (outcome = 'content refused' and not exists (
        select from private.bundled_emails u
        where u.tenant_id = v_bundle.tenant_id and u.bundle_id = v_bundle.id and settle_emails.version = any (u.versions)
          and not u.versions @> array(select v from generate_series(1, v_bundle.versions) v)))) then
      return '{"dissolved": false}';
    end if;
    if outcome <> 'not sent' then
      -- In the same moment: from now on each goes with its own key.
      update public.notification_outbox m
      set bundled = false
      from private.bundled_emails u
      where u.tenant_id = v_bundle.tenant_id and u.bundle_id = v_bundle.id and m.tenant_id = u.tenant_id and m.id = u.outbox_id;
    end if;
    delete from private.email_bundles b where b.tenant_id = v_bundle.tenant_id and b.id = v_bundle.id;
    return '{"dissolved": true}';
  end if;

  v_others := array(select v from generate_series(1, v_bundle.versions) v where v <> settle_emails.version);
  with judged as materialized (
    select u.outbox_id, u.place, g.message_id,
      case
        when outcome = 'accepted' then case when settle_emails.version = any (u.versions) then 'sent' else 'free' end
        when u.versions @> v_others then 'sent'
        when u.versions && v_others then 'unknown'
        else 'free' end as status
    from private.bundled_emails u
    left join unnest(settle_emails.outbox_ids, settle_emails.message_ids) as g (outbox_id, message_id) on g.outbox_id = u.outbox_id
    where u.tenant_id = v_bundle.tenant_id and u.bundle_id = v_bundle.id
  ),
  locked as materialized (
    select m.id from public.notification_outbox m join judged j on m.id = j.outbox_id
    where m.tenant_id = v_bundle.tenant_id order by m.id for update of m
  ),
  -- Whatever was decided about it since: it was sent, and the record says so.
  changed as (
    update public.notification_outbox m
    set status = j.status::public.message_status, held_until = null, credential_source = v_bundle.credential_source,
      sent_at = case when j.status = 'sent' then now() end, delivery = case when j.status = 'sent' then 'sent' end,
      delivery_at = case when j.status = 'sent' then now() end, unknown_since = case when j.status = 'unknown' then now() end,
      provider_message_id = left(j.message_id, 200),
      reason = case
        when j.status = 'unknown' then 'nobody knows which of the calls arrived that it was in'
        when outcome = 'accepted before' then 'accepted with an earlier call, whose answer was lost' end
    from judged j
    where m.tenant_id = v_bundle.tenant_id and m.id = j.outbox_id and m.id in (select l.id from locked l)
      and ((j.status = 'sent' and m.status <> 'sent') or (j.status = 'unknown' and m.status = 'queued'))
  )
  select jsonb_agg(jsonb_build_object('outbox_id', j.outbox_id, 'status', j.status) order by j.place), coalesce(bool_or(j.status = 'unknown'), false)
  into v_mails, v_unknown
  from judged j;

  if v_unknown then
    -- These stay bound to it, so that nobody sends them again.
    update private.email_bundles b set lost_reason = 'nobody knows which of its calls arrived' where b.tenant_id = v_bundle.tenant_id and b.id = v_bundle.id;
    delete from private.bundled_emails u
    where u.tenant_id = v_bundle.tenant_id and u.bundle_id = v_bundle.id and (u.versions @> v_others or not u.versions && v_others);
  else
    delete from private.email_bundles b where b.tenant_id = v_bundle.tenant_id and b.id = v_bundle.id;
  end if;
  return jsonb_build_object('mails', coalesce(v_mails, '[]'));
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
    select jobs.day_begins(p_day, p_time_zone) as starts, jobs.day_begins(p_day + 1, p_time_zone) as ends
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
  -- A day with a clock change and fixed hours: each local time once. Postgres takes the second of two equal times: look for the first.
  select distinct coalesce(
    (select min(earlier.at)
     from (select w.local at time zone p_time_zone - d as at from unnest(array[interval '30 minutes', interval '1 hour', interval '2 hours']) d) earlier
     where earlier.at at time zone p_time_zone = w.local),
    w.local at time zone p_time_zone)
  from wanted w, midnight
  where not (p_cron).any_hour and midnight.ends - midnight.starts <> interval '24 hours'
  union all
  -- A day with a clock change and a schedule for every hour: every minute that the wall clock shows.
  select t.at
  from midnight, generate_series(midnight.starts, midnight.ends - interval '1 minute', interval '1 minute') as t (at)
  where (p_cron).any_hour and midnight.ends - midnight.starts <> interval '24 hours'
    and extract(minute from t.at at time zone p_time_zone)::integer = any ((p_cron).minutes)
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
  v_job text;
begin
  delete from jobs.breakers b where b.tenant_id = p_tenant_id and b.provider = p_provider;
  perform jobs.close_alert(nullif(p_tenant_id, jobs.platform_id()), format('credential %s', p_provider));
  -- The platform's credential serves many tenants.
  for v_job in select d.job from jobs.definitions d where d.provider = p_provider order by d.job loop
    perform jobs.wake_blocked(v_job, case when p_tenant_id <> jobs.platform_id() then array[p_tenant_id] end, 'breaker');
    -- What takes a credential of the tenant's own, and was held for want of one, is looked at now.
    if p_tenant_id <> jobs.platform_id() then
      perform jobs.hurry(v_job, p_tenant_id, array(
        select i.subject_id from jobs.items i
        where i.job = v_job and i.tenant_id = p_tenant_id and i.batch_id is null and i.waiting_for = 'waiting for a credential of the tenant''s own'));
    end if;
  end loop;
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
begin
  perform jobs.look_at_backlogs(p_now);
  for v_found in
    -- A run that ended in error.
    select format('failed %s', r.job) as incident,
      format('The last run of %s failed: %s done, %s failed.', r.job, r.processed, r.failed) as message, '{}'::jsonb as details
    from jobs.definitions d
    cross join lateral (
      select x.* from jobs.runs x where x.job = d.job and x.finished_at is not null order by x.started_at desc limit 1) r
    where r.status = 'error'
    union all
    -- A scheduled run that should be over. One that waits for paused or parked lanes only is late for a reason that is known.
    select format('overdue %s', r.job), format('A run of %s started at %s and is not over.', r.job, r.started_at), '{}'
    from jobs.runs r
    where r.finished_at is null and r.trigger = 'schedule' and r.started_at < p_now - interval '1 hour'
      and r.expected - (select coalesce(sum(rt.processed + rt.failed), 0) from jobs.run_tenants rt where rt.run_id = r.run_id) > (
        select count(*)
        from jobs.lanes l
        join jobs.items i on i.job = l.job and i.tenant_id = l.tenant_id and i.batch_id is null
        where l.job = r.job and l.reason in ('paused', 'breaker') and i.run_id = r.run_id)
    union all
    -- More comes than goes: within the hour the wait will be longer than the plans promise.
    select format('growth %s', f.job),
      format('%s: the backlog grows faster than it drains: %s items are ready, %s more each minute, %s are done per minute. '
        'At this rate the target of %s s will be broken at %s UTC.', f.job, f.ready, f.growth_per_minute, f.drained_per_minute, f.target_seconds,
        to_char(f.breach_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI')),
      to_jsonb(f)
    from jobs.forecast(p_now) f
    where f.breach_at <= p_now + interval '1 hour'
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
        select i.run_at from jobs.items i where i.job = l.job and i.tenant_id = l.tenant_id and i.batch_id is null order by i.run_at, i.item_id limit 1) n on true
      left join public.tenants t on t.id = l.tenant_id
      left join public.plans p on p.plan_id = t.plan_id
      where n.run_at < p_now - make_interval(secs => coalesce(p.target_seconds, 600))
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
  v_lane jobs.lanes;
  v_definition jobs.definitions;
  v_dead jobs.dead_items;
  v_last jobs.attempts;
  v_judged record;
  v_behind bigint;
  v_rate numeric;
begin
  select i.* into v_item from jobs.items i where i.item_id = why.item_id and (why.tenant_id is null or i.tenant_id = why.tenant_id);
  if not found then
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
  if v_item.batch_id is not null then
    return (select format('It is running: batch %s, lease until %s.', b.batch_id, b.lease_until) from jobs.batches b where b.batch_id = v_item.batch_id);
  elsif (select p.stopped from jobs.platform p) then
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
      case when v_judged.wake_at is not null then format(', next probe at %s', v_judged.wake_at) else '; it waits until the credential changes' end);
  elsif jobs.provider_is_down(v_definition.provider) then
    return format('The provider %s does not answer for anybody; it is probed from time to time.', v_definition.provider);
  elsif v_item.run_at > clock_timestamp() then
    return format('It is not due before %s%s%s.', v_item.run_at,
      case when v_item.waiting_for is not null then ' because of: ' || v_item.waiting_for else '' end,
      case when v_item.attempts > 0 then format(' (attempt %s of %s failed: %s)', v_item.attempts, v_definition.max_attempts, v_item.last_error) else '' end);
  elsif v_judged.reason = 'cap' then
    return format('Its tenant has as many items of %s in flight as its plan allows; it goes on when one of them ends.', v_item.job);
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
    where i.job = v_item.job and i.tenant_id = v_item.tenant_id and i.batch_id is null and (i.run_at, i.item_id) < (v_item.run_at, v_item.item_id)
    order by i.run_at, i.item_id
    limit 100000
  ) earlier;
  -- What the lane got in the last five minutes tells what it will get.
  select count(*) / 300.0 into v_rate from jobs.attempts a
  where a.tenant_id = v_item.tenant_id and a.job = v_item.job and a.finished_at > clock_timestamp() - interval '5 minutes';
  return format('It is ready, behind %s items of its own tenant%s. %s', v_behind,
    -- How many other tenants there are, and how busy, is none of a tenant's business.
    case when private.is_platform() then format('; %s other lanes are awake',
      (select count(*) from (select from jobs.lanes l where l.job = v_item.job and l.awake and l.tenant_id <> v_item.tenant_id limit 1000) o)) end,
    case when v_rate > 0
      then format('Expected start: about %s.', date_trunc('second', clock_timestamp() + make_interval(secs => (v_behind / v_rate)::double precision)))
      else 'Expected start: with the next drain.' end);
end
$function$;

create or replace function private.accounts_to_measure (
  p_tenant_id uuid
)
  returns table (
    platform text,
    account_id text
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select a.platform, a.account_id
  from public.credentials c
  cross join lateral (values
    ('instagram', c.account ->> 'ig_user_id'),
    ('facebook', case c.kind when 'facebook_login' then c.account ->> 'page_id' end)) as a (platform, account_id)
  where c.tenant_id = p_tenant_id and c.provider = 'meta' and a.account_id <> ''
    and not exists (
      select from public.follower_counts f
      where f.tenant_id = p_tenant_id and f.platform = a.platform and f.day = (now() at time zone 'UTC')::date)
    and exists (
      select
      from public.campaign_strategies s
      join public.campaigns g on g.tenant_id = s.tenant_id and g.id = s.campaign_id
      join public.social_tasks t on t.tenant_id = g.tenant_id and t.campaign_id = g.id
      where s.tenant_id = p_tenant_id and private.growth_platform(t.kind::text) = a.platform
        and (g.status = 'active' or (g.status = 'ended' and g.updated_at > now() - interval '2 days'))
        and g.starts_at < now() + interval '1 day' and (g.ends_at is null or g.ends_at > now() - interval '2 days')
        and (t.active or t.updated_at > now() - interval '2 days')
        and ((s.strategy = 'statistical' and s.statistical_basis = 'follower_growth') or exists (
          select from public.cohorts h
          where h.tenant_id = p_tenant_id and coalesce(h.strategy, s.strategy) = 'statistical'
            and coalesce(h.statistical_basis, s.statistical_basis) = 'follower_growth')))
$function$;

create or replace function private.act_on_account_errors (
  p_tenant_id uuid,
  p_errors jsonb
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_sender_id uuid := coalesce(p_tenant_id, jobs.platform_id());
  v_one record;
begin
  for v_one in
    select x.code, private.code_effect(x.code) as effect, left(format('WhatsApp %s: %s', x.code, private.code_words(x.code, x.words)), 500) as reason, x.at
    from (
      select case when e ->> 'code' ~ '^[0-9]{1,9}$' then (e ->> 'code')::integer end as code, left(coalesce(e ->> 'details', e ->> 'title'), 300) as words,
        private.time_of(e ->> 'at') as at, n
      from jsonb_array_elements(p_errors) with ordinality as e (e, n)
    ) x
    where x.at is not null and private.code_effect(x.code) in ('stop number', 'stop tenant', 'break credential')
    order by x.n
  loop
    if v_one.effect = 'break credential' then
      perform private.break_sender(v_sender_id, v_one.reason, v_one.at);
    else
      perform private.stop_sender(v_sender_id, v_one.code, v_one.reason, v_one.at);
    end if;
  end loop;
end
$function$;

create or replace function private.act_on_failures (
  p_tenant_ids uuid[],
  p_ids uuid[],
  p_codes integer[],
  p_reasons text[]
)
  returns void
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_one record;
  v_tenant_ids uuid[];
  v_ids uuid[];
  v_at timestamptz;
begin
  if not exists (select from unnest(p_codes) c where private.code_effect(c) is not null) then
    return;
  end if;

  update public.message_templates t
  set paused_at = now(), pause_reason = left(f.reason, 500)
  from (
    select distinct on (m.tenant_id, m.template_id) m.tenant_id, m.template_id, u.reason
    from unnest(p_tenant_ids, p_ids, p_codes, p_reasons) as u (tenant_id, id, code, reason)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    where private.code_effect(u.code) = 'pause template'
    order by m.tenant_id, m.template_id
  ) f
  where t.tenant_id = f.tenant_id and t.id = f.template_id and t.paused_at is null;

  for v_one in
    select x.sender_id, x.breaks, min(x.code) as code, min(x.reason) as reason, max(x.at) as at
    from (
      select case when private.code_effect(u.code) <> 'stop tenant' and m.credential_source = 'platform' then jobs.platform_id() else m.tenant_id end as sender_id,
        u.code, u.reason, private.code_effect(u.code) = 'break credential' as breaks, coalesce(m.delivery_at, now()) as at
      from unnest(p_tenant_ids, p_ids, p_codes, p_reasons) as u (tenant_id, id, code, reason)
      join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
      where private.code_effect(u.code) in ('stop number', 'stop tenant', 'break credential')
    ) x
    group by x.sender_id, x.breaks
    order by x.sender_id, x.breaks
  loop
    if v_one.breaks then
      perform private.break_sender(v_one.sender_id, v_one.reason, v_one.at);
    else
      perform private.stop_sender(v_one.sender_id, v_one.code, v_one.reason, v_one.at);
    end if;
  end loop;

  perform private.stop_marketing(array_agg(m.tenant_id), array_agg(m.participant_id), array_agg(now()), 'provider')
  from unnest(p_tenant_ids, p_ids, p_codes) as u (tenant_id, id, code)
  join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
  where private.code_effect(u.code) = 'no marketing' and m.participant_id is not null
  having count(*) > 0;

  -- The window is closed, whatever we thought of it: from now on the approved template goes, if there is one.
  insert into private.conversations as c (tenant_id, recipient, inbound_at)
  select x.sender_id, x.wa_key, now() - interval '25 hours'
  from (
    select distinct case when m.credential_source = 'platform' then jobs.platform_id() else m.tenant_id end as sender_id, private.wa_key(m.recipient) as wa_key
    from unnest(p_tenant_ids, p_ids, p_codes) as u (tenant_id, id, code)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    where private.code_effect(u.code) = 'template' and m.recipient is not null
  ) x
  order by x.sender_id, x.wa_key
  -- What the person wrote since the message was sent has opened it again.
  on conflict (tenant_id, recipient) do update set inbound_at = excluded.inbound_at
    where c.inbound_at is null or c.inbound_at < now() - interval '23 hours';

  -- Not sent, and not for the message's sake: it waits for its time, or until sending is resumed. Three times at most.
  for v_one in
    select private.code_effect(u.code) as effect, array_agg(m.tenant_id) as tenant_ids, array_agg(m.id) as ids, min(u.reason) as reason
    from unnest(p_tenant_ids, p_ids, p_codes, p_reasons) as u (tenant_id, id, code, reason)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    where (private.code_effect(u.code) in ('later', 'again', 'stop number', 'stop tenant', 'break credential') and m.resends < 3)
      or (private.code_effect(u.code) = 'template' and m.resends = 0 and m.payload ->> 'template' is not null)
    group by 1
    order by 1
  loop
    v_at := now() + case v_one.effect when 'later' then interval '24 hours' when 'template' then interval '0' else interval '15 minutes' end;
    -- Worth nothing by then: the campaign or the time for the claim is over.
    update public.notification_outbox m
    set status = 'cancelled', reason = left(v_one.reason || ' It is not sent again: it would come too late.', 500)
    from unnest(v_one.tenant_ids, v_one.ids) as u (tenant_id, id)
    join public.notification_outbox x on x.tenant_id = u.tenant_id and x.id = u.id
    left join public.campaigns g on g.tenant_id = x.tenant_id and g.id = x.campaign_id
    left join public.completions c on c.tenant_id = x.tenant_id and c.id = x.completion_id and x.kind::text = 'reminder'
    where m.tenant_id = u.tenant_id and m.id = u.id and (g.status <> 'active' or g.ends_at <= v_at or c.deadline <= v_at);
    select array_agg(m.tenant_id), array_agg(m.id) into v_tenant_ids, v_ids
    from unnest(v_one.tenant_ids, v_one.ids) as u (tenant_id, id)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id and m.status = 'failed';
    if v_ids is not null then
      perform private.requeue_messages(v_tenant_ids, v_ids, v_at, v_one.reason);
    end if;
  end loop;
end
$function$;

create or replace function private.action_url (
  p_task public.social_tasks,
  p_code text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select case (p_task).kind::text
    when 'whatsapp_join' then coalesce(private.contact_link((p_task).tenant_id, 'whatsapp', p_code),
      case when (p_task).platform_credential_allowed then private.platform_contact_link((p_task).tenant_id, p_code) end)
    when 'instagram_dm_keyword' then private.contact_link((p_task).tenant_id, 'instagram', p_code)
    when 'instagram_follow' then private.contact_link((p_task).tenant_id, 'instagram', p_code)
    when 'link_visit' then format('%s/functions/v1/webhooks/visit/%s/%s', rtrim(private.platform_secret('project_url'), '/'),
      (select t.slug from public.tenants t where t.id = (p_task).tenant_id), p_code)
    when 'link_sign_up' then replace((p_task).url, '{code}', p_code) end
$function$;

create or replace function private.apply_credential_checks (
  p_ended jobs.ended[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_found record;
  v_reason text;
begin
  for v_found in
    select e.tenant_id, (e.result ->> 'provider')::public.provider as provider, e.result ->> 'fingerprint' as fingerprint,
      e.result ->> 'verdict' as verdict, left(e.result ->> 'error', 500) as error, e.result ? 'expires_at' as knows_end,
      (e.result ->> 'expires_at')::timestamptz as expires_at,
      case when jsonb_typeof(e.result -> 'scopes') = 'array' then array(select left(s, 100) from jsonb_array_elements_text(e.result -> 'scopes') s limit 100) end as scopes
    from unnest(p_ended) e
    where e.outcome = 'done' and e.result ->> 'verdict' in ('healthy', 'broken', 'not_renewed') and (e.credential_source = 'platform') = (e.tenant_id = jobs.platform_id())
    order by e.tenant_id
  loop
    if v_found.verdict = 'broken' then
      perform jobs.park(v_found.tenant_id, v_found.provider, v_found.fingerprint, coalesce(v_found.error, 'the provider refused it'));
      continue;
    end if;
    if v_found.verdict = 'not_renewed' then
      v_reason := format('It could not be renewed and ends on its own: %s', coalesce(v_found.error, 'no reason was given'));
    elsif v_found.expires_at < now() + interval '7 days' then
      v_reason := format('It expires on %s (UTC).', to_char(v_found.expires_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'));
    else
      v_reason := case when v_found.provider = 'meta' and v_found.tenant_id <> jobs.platform_id()
        then 'Some claims cannot be verified. ' || private.unreadable_claims(v_found.tenant_id) end;
    end if;
    -- One that broke meanwhile stays broken: what is asked here is less than what the work needs.
    if v_found.tenant_id = jobs.platform_id() then
      update private.platform_credentials c
      set health = 'healthy', state = 'ok', health_reason = v_reason, checked_at = now(),
        expires_at = case when v_found.knows_end then v_found.expires_at else c.expires_at end, scopes = coalesce(v_found.scopes, c.scopes)
      where c.provider = v_found.provider and c.fingerprint = v_found.fingerprint and c.health <> 'broken';
    else
      update public.credentials c
      set health = 'healthy', state = 'ok', health_reason = v_reason, checked_at = now(),
        expires_at = case when v_found.knows_end then v_found.expires_at else c.expires_at end, scopes = coalesce(v_found.scopes, c.scopes)
      where c.tenant_id = v_found.tenant_id and c.provider = v_found.provider and c.fingerprint = v_found.fingerprint and c.health <> 'broken';
    end if;
    if found then
      perform private.warn_of_credential(v_found.tenant_id, v_found.provider, v_reason);
    end if;
  end loop;
end
$function$;

create or replace function private.apply_emails (
  p_ended jobs.ended[]
)
  returns void
  language sql
  set search_path to ''
  set jit to 'off'
  AS $function$
  update public.notification_outbox m
  set status = e.status::public.message_status, sent_at = case when e.status = 'sent' then now() end, held_until = null, reason = left(e.reason, 500),
    delivery = case when e.status = 'sent' then 'sent' end, delivery_at = case when e.status = 'sent' then now() end,
    unknown_since = case when e.status = 'unknown' then now() end,
    provider_message_id = left(e.result ->> 'provider_message_id', 200), credential_source = e.credential_source
  from (
    select u.*, coalesce(u.result ->> 'reason', u.error) as reason,
      case
        when u.outcome = 'cancelled' and u.error like 'notifications are switched off%' then 'disabled'
        when u.outcome = 'cancelled' and u.error like '%withdrawn consent' then 'no_consent'
        -- Its bundle may have left; so may a mail whose last attempt, or one before, had no clear answer.
        when b.bundle_id is not null and (u.outcome = 'dead' or u.error like 'it could not be sent%') then 'unknown'
        when u.outcome = 'dead' and u.error ~ '^(the lease ran out|The worker failed|Resend (could not|did not|broke|5|409 concurrent|answered (with|2|408|5)))' then 'unknown'
        when u.outcome = 'cancelled' and u.error like 'it could not be sent%' then 'failed'
        when u.outcome = 'cancelled' then 'cancelled'
        when u.outcome = 'done' and u.result ->> 'status' = 'sent' then 'sent'
        when u.outcome = 'dead' or (u.outcome = 'done' and u.result ->> 'status' = 'failed') then 'failed'
        else 'unknown' end as status
    from unnest(p_ended) u
    left join private.bundled_emails b on b.tenant_id = u.tenant_id and b.outbox_id = u.subject_id
  ) e
  where m.tenant_id = e.tenant_id and m.id = e.subject_id
    and (m.status = 'queued' or (m.status = 'no_consent' and e.status in ('sent', 'unknown')))
$function$;

create or replace function private.apply_follower_counts (
  p_ended jobs.ended[]
)
  returns void
  language sql
  set search_path to ''
  set jit to 'off'
  AS $function$
  insert into public.follower_counts (tenant_id, platform, day, followers, account_id)
  select distinct on (n.tenant_id, n.platform) n.tenant_id, n.platform, (now() at time zone 'UTC')::date, n.followers, n.account_id
  from (
    select e.tenant_id, e.item_id, r.value ->> 'platform' as platform, r.value ->> 'account_id' as account_id,
      case when r.value ->> 'followers' ~ '^[0-9]{1,9}$' then (r.value ->> 'followers')::integer end as followers
    from unnest(p_ended) e
    join public.credentials c on c.tenant_id = e.tenant_id and c.provider = 'meta' and c.fingerprint = e.result ->> 'fingerprint'
    cross join lateral jsonb_array_elements(case jsonb_typeof(e.result -> 'counts') when 'array' then e.result -> 'counts' else '[]' end) r
    where e.outcome = 'done' and e.credential_source = 'tenant'
  ) n
  where n.platform in ('instagram', 'facebook') and n.followers is not null
  order by n.tenant_id, n.platform, n.item_id
  on conflict on constraint follower_counts_pkey do nothing
$function$;

create or replace function private.apply_messages (
  p_ended jobs.ended[]
)
  returns void
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_tenant_ids uuid[];
  v_ids uuid[];
  v_codes integer[];
  v_reasons text[];
begin
  with ended as (
    select u.*, coalesce(u.result ->> 'reason', u.error) as reason, left(u.result ->> 'provider_message_id', 200) as message_id,
      coalesce(case when u.result ->> 'code' ~ '^[0-9]{1,9}$' then (u.result ->> 'code')::integer end,
        substring(u.error from '^WhatsApp ([0-9]{1,9})\M')::integer) as code,
      case
        when u.outcome = 'cancelled' and u.error like 'notifications are switched off%' then 'disabled'
        when u.outcome = 'cancelled' and u.error like '%withdrawn consent' then 'no_consent'
        when u.outcome = 'cancelled' then 'cancelled'
        when u.outcome = 'done' and u.result ->> 'status' = 'sent' then 'sent'
        when u.outcome = 'dead' or (u.outcome = 'done' and u.result ->> 'status' = 'failed') then 'failed'
        else 'unknown' end as status
    from unnest(p_ended) u
  ),
  -- A report of the provider may have come before the answer of its own API.
  judged as (
    select e.*, r.is_reported, case
        when e.status in ('sent', 'unknown') and r.is_reported then case when m.delivery = 'failed' then 'failed' else 'sent' end
        else e.status end as final
    from ended e
    join public.notification_outbox m on m.tenant_id = e.tenant_id and m.id = e.subject_id
    cross join lateral (
      select m.delivery is not null and (e.message_id is null or m.provider_message_id is null or m.provider_message_id = e.message_id) as is_reported
    ) r
  ),
  changed as (
    update public.notification_outbox m
    set status = j.final::public.message_status, sent_at = case when j.final = 'sent' then now() end, held_until = null,
      delivery = case
        when j.is_reported then m.delivery
        when j.status = 'sent' then 'sent' end,
      delivery_at = case when j.is_reported then m.delivery_at when j.status = 'sent' then now() end,
      reason = case when j.is_reported and j.final = 'failed' then m.reason else left(j.reason, 500) end,
      error_code = coalesce(j.code, case when j.is_reported then m.error_code end),
      unknown_since = case when j.final = 'unknown' then now() end,
      provider_message_id = coalesce(j.message_id, m.provider_message_id), credential_source = j.credential_source
    from judged j
    where m.tenant_id = j.tenant_id and m.id = j.subject_id
      -- Consent that was withdrawn while the message was on its way: it was sent all the same, and the record says so.
      and (m.status = 'queued' or (m.status = 'no_consent' and j.final in ('sent', 'unknown')))
    returning m.tenant_id, m.id, m.status, m.error_code, m.reason, j.outcome
  )
  -- What was tried again until its attempts were used up is over.
  select array_agg(c.tenant_id), array_agg(c.id), array_agg(c.error_code), array_agg(c.reason)
  into v_tenant_ids, v_ids, v_codes, v_reasons
  from changed c
  where c.status = 'failed' and c.error_code is not null and (c.outcome <> 'dead' or private.code_effect(c.error_code) is distinct from 'again');

  -- From the answer on it counts: the next one to this person comes 6 seconds later.
  update private.conversations c
  set next_at = greatest(c.next_at, clock_timestamp() + interval '6 seconds')
  from (
    select x.sender_id, x.wa_key
    from (
      select case when u.credential_source = 'platform' then jobs.platform_id() else u.tenant_id end as sender_id, private.wa_key(m.recipient) as wa_key
      from unnest(p_ended) u
      join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
      where u.outcome = 'done'
    ) x
    join private.conversations y on y.tenant_id = x.sender_id and y.recipient = x.wa_key
    order by x.sender_id, x.wa_key
    for update of y
  ) sent
  where c.tenant_id = sent.sender_id and c.recipient = sent.wa_key;

  if v_ids is not null then
    perform private.act_on_failures(v_tenant_ids, v_ids, v_codes, v_reasons);
  end if;
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
    -- The items end here: their keys are free for the next ones.
    update jobs.items i set dedupe_key = null
    from unnest(p_ended) e
    where i.tenant_id = e.tenant_id and i.item_id = e.item_id and i.dedupe_key = 'asked/' || i.subject_id and e.outcome = 'done';
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

create or replace function private.audit_change()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_old jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_new jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_row jsonb := coalesce(v_new, v_old);
  v_tenant_id uuid := (v_row ->> 'tenant_id')::uuid;
  v_detail jsonb := v_row - array['tenant_id', 'id', 'secret_id', 'token_hash', 'account', 'created_at', 'updated_at'];
begin
  if tg_op = 'UPDATE' then
    select jsonb_object_agg(n.key, jsonb_build_object('from', v_old -> n.key, 'to', n.value)) into v_detail
    from jsonb_each(v_new) n
    where n.value is distinct from v_old -> n.key and n.key not in ('secret_id', 'token_hash', 'next_slot_at', 'updated_at');
    if v_detail is null then
      return null;
    end if;
  elsif tg_op = 'DELETE' and v_tenant_id is not null and not exists (select from public.tenants t where t.id = v_tenant_id) then
    return null; -- It went with its tenant.
  end if;
  perform private.audit(v_tenant_id, tg_argv[0] || case tg_op when 'INSERT' then '.added' when 'UPDATE' then '.changed' else '.removed' end,
    v_detail || jsonb_build_object(tg_argv[1], v_row -> tg_argv[1]));
  return null;
end
$function$;

create or replace function private.audit_end_of_tenant()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  perform private.audit(old.id, 'tenant.deleted', jsonb_build_object('slug', old.slug, 'name', old.name));
  return null;
end
$function$;

create or replace function private.audit_tenant()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_changes jsonb;
begin
  select jsonb_object_agg(n.key, jsonb_build_object('from', o.value, 'to', n.value)) into v_changes
  from jsonb_each(to_jsonb(new)) n
  join jsonb_each(to_jsonb(old)) o on o.key = n.key
  where n.value <> o.value
    and n.key <> 'updated_at';
  if v_changes is not null then
    perform private.audit(new.id, 'tenant.changed', v_changes);
  end if;
  return null;
end
$function$;

create or replace function private.break_sender (
  p_sender_id uuid,
  p_reason text,
  p_at timestamp with time zone
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select jobs.park(p_sender_id, 'whatsapp', c.fingerprint, p_reason)
  from (
    select o.fingerprint from public.credentials o where o.tenant_id = p_sender_id and o.provider = 'whatsapp' and o.secret_at <= p_at
    union all
    select p.fingerprint from private.platform_credentials p where p_sender_id = jobs.platform_id() and p.provider = 'whatsapp' and p.updated_at <= p_at
  ) c
$function$;

create or replace function private.claims_by_messages (
  p_messages jsonb
)
  returns table (
    tenant_id uuid,
    messages jsonb
  )
  language plpgsql
  stable
  set search_path to ''
  set enable_seqscan to 'off'
  AS $function$
begin
  return query
  select n.tenant_id, jsonb_agg(n.message order by n.position)
  from (
    select min(o.tenant_id::text)::uuid as tenant_id, m.message, m.position
    from jsonb_array_elements(p_messages) with ordinality as m (message, position)
    cross join lateral unnest(private.codes_in(left(m.message ->> 'text', 10000))) as u (code)
    cross join lateral (
      select c.tenant_id
      from (
        select x.tenant_id, x.task_id from public.completions x
        where x.code = u.code and x.route = 'signal' and x.status = 'pending' offset 0
      ) c
      join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
      where t.kind::text = 'whatsapp_join' and t.platform_credential_allowed
      union all
      select l.tenant_id from private.link_codes l
      where l.code = u.code and l.platform = 'whatsapp' and l.used_at is null and l.expires_at > now()
      offset 0
    ) o
    join public.tenants b on b.id = o.tenant_id
    where b.status = 'active'
      and not exists (select from public.credentials w where w.tenant_id = o.tenant_id and w.provider = 'whatsapp')
    group by m.message, m.position
    having count(*) = 1
  ) n
  group by n.tenant_id
  order by n.tenant_id;
end
$function$;

create or replace function private.code_effect (
  p_code integer
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case
    when p_code = 131047 then 'template'
    when p_code = 131049 then 'later'
    when p_code = 131050 then 'no marketing'
    when p_code in (132000, 132001, 132005, 132007, 132012, 132015, 132016) then 'pause template'
    -- The account as a whole: locked, blocked for a policy, unpaid.
    when p_code in (368, 131031, 131042) then 'stop number'
    when p_code = 131048 then 'stop tenant'
    -- What the worker tries again when it is the answer.
    when p_code in (1, 2, 4, 80007, 130429, 131000, 131016, 131056, 131057, 133004) then 'again'
    -- The token, what it may do, the registration of the number.
    when p_code in (0, 3, 10, 190, 131005, 133010) or p_code between 200 and 299 then 'break credential' end
$function$;

create or replace function private.code_words (
  p_code integer,
  p_details text
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select coalesce(
    case
      when p_code = 368 then 'blocked for a policy violation; see WhatsApp Manager'
      when p_code = 131031 then 'the account is locked; see WhatsApp Manager'
      when p_code = 131042 then 'a payment problem; settle it in WhatsApp Manager'
      when p_code = 131048 then 'too many messages were marked as spam; let the number rest'
      when p_code in (0, 190) then 'the token does not work; connect the account again'
      when p_code in (3, 10, 131005) or p_code between 200 and 299 then 'a permission is missing; connect the account again'
      when p_code = 133010 then 'the sender''s number is not registered; register it' end || coalesce(format(' (%s)', p_details), ''),
    p_details, 'not delivered')
$function$;

create or replace function private.create_tenant (
  p_name text,
  p_slug text,
  p_time_zone text
)
  returns public.tenants
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_user_id uuid := private.require_user();
  v_tenant public.tenants;
begin
  perform private.limit_calls('create_tenant', v_user_id);
  insert into public.tenants (name, slug, time_zone)
  values (p_name, p_slug, p_time_zone)
  returning * into v_tenant;
  insert into public.memberships (tenant_id, user_id, role) values (v_tenant.id, v_user_id, 'owner');
  perform private.audit(v_tenant.id, 'tenant.created', jsonb_build_object('slug', v_tenant.slug));
  return v_tenant;
exception
  -- Without its details, which would tell the whole row, with the columns that nobody may read.
  when check_violation or not_null_violation then
    raise exception '%', sqlerrm using errcode = sqlstate;
end
$function$;

create or replace function private.credential_advice (
  p_state text,
  p_health_reason text
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case p_state
    when 'unchecked' then 'Nothing to do: it is checked when it is first used, at the latest tomorrow.'
    when 'ok' then case
      when p_health_reason is null then 'Nothing to do.'
      when p_health_reason like 'Some claims%' then 'Do what the reason names, for the account or in the task. Until then a person decides these claims.'
      else 'Connect the account again before it expires.' end
    when 'expired' then 'The access has expired: connect the account again.'
    when 'permission_lost' then 'A permission is missing: connect the account again and agree to everything that is asked.'
    when 'role_lost' then 'Your user has lost its role on the Page: have the role restored there, then check again.'
    when 'checkpoint' then 'Log in at facebook.com and pass the check that waits there, then check again.'
    when 'password_changed' then 'The password was changed: connect the account again.'
    when 'app_removed' then 'The app was removed from the account: connect the account again.'
    when 'unconfirmed' then 'Confirm your user at facebook.com, then check again.'
    when 'blocked' then 'The account is blocked: see its status at the provider and settle what is named there, then check again.'
    else case
      when p_health_reason like 'Meta 100:%' then 'The Meta app asks for the proof of its secret: enter the access again, with the app secret of this app.'
      else 'The access is not valid: enter it again.' end end
$function$;

create or replace function private.decide_completions (
  p_verdicts private.verdict[],
  p_actor text,
  p_from text[] default '{pending}'::text[],
  p_item_ended boolean default false,
  p_actor_id uuid default null::uuid
)
  returns integer
  language plpgsql
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
declare
  v_judged private.judged[];
  v_used uuid[];
  v_count integer;
  v_tenant_ids uuid[];
  v_completion_ids uuid[];
  v_again record;
  v_key text;
begin
  if coalesce(cardinality(p_verdicts), 0) = 0 then
    return 0;
  end if;
  -- Whoever decides holds the claim: a worker, a webhook and a reviewer at once are one after the other, and the first one counts.
  perform from (select distinct u.tenant_id, u.completion_id from unnest(p_verdicts) u order by u.tenant_id, u.completion_id) v
  cross join lateral (
    select from public.completions x
    where x.tenant_id = v.tenant_id and x.id = v.completion_id and x.status::text = any (p_from) offset 0 for no key update
  ) c;

  select array_agg((j.tenant_id, j.completion_id, j.task_id, j.campaign_id, j.participant_id, j.claimed_at, j.from_status,
      case
        -- What nobody can prove is never decided by a proof.
        when j.proven_by = 'nobody' and j.method in ('api', 'webhook', 'link') then 'manual_review'
        when j.look_again_at > now() then 'pending'
        else j.verdict end,
      j.method,
      case
        when j.proven_by = 'nobody' and j.method in ('api', 'webhook', 'link') then 'nothing can prove this kind of task'
        when j.look_again_at > now() then format('seen, and looked at again from %s', to_char(j.look_again_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'))
        when j.verdict = 'failed' and j.seen_at is not null and j.method in ('api', 'webhook')
          then 'it was there, and was gone at the second look' || coalesce(': ' || j.reason, '')
        else j.reason end,
      j.evidence, j.proofs, j.credential_source, j.if_used, j.action_url, j.rule_version, j.look_again_at, false)::private.judged)
  into v_judged
  from (
    select distinct on (v.tenant_id, v.completion_id)
      v.tenant_id, v.completion_id, c.task_id, t.campaign_id, c.participant_id, c.claimed_at, c.status::text as from_status, c.seen_at,
      v.verdict, v.method, left(v.reason, 500) as reason, v.evidence, v.credential_source, v.if_used, v.action_url,
      case when v.verdict = 'verified' and k.proven_by <> 'nobody' then v.proofs end as proofs,
      k.proven_by, k.rule_version,
      -- What can be undone is looked at twice where the campaign says so. A message or a visit cannot be undone.
      case when v.verdict = 'verified' and k.proven_by = 'worker' and v.method in ('api', 'webhook') and g.reward_after is not null
        then coalesce(c.seen_at, now()) + g.reward_after end as look_again_at
    from unnest(p_verdicts) v
    -- Fenced, like all look-ups of many keys here: one by one by the primary key, whatever the planner believes of a table that
    -- just grew (measured: 2,000 claims in milliseconds instead of minutes).
    cross join lateral (
      select x.* from public.completions x
      where x.tenant_id = v.tenant_id and x.id = v.completion_id and x.status::text = any (p_from) offset 0
    ) c
    cross join lateral (
      select x.campaign_id, x.kind::text as kind from public.social_tasks x where x.tenant_id = c.tenant_id and x.id = c.task_id offset 0
    ) t
    cross join lateral (
      select x.reward_after from public.campaigns x where x.tenant_id = c.tenant_id and x.id = t.campaign_id offset 0
    ) g
    join public.task_kinds k on k.kind = t.kind
    order by v.tenant_id, v.completion_id, v.verdict = 'verified' desc
  ) j;
  if v_judged is null then
    return 0;
  end if;

  -- One proof, one claim: the earliest of those that are decided here, and whoever was first of all others.
  if exists (select from unnest(v_judged) j where j.proofs is not null) then
    -- In a task with marks of forgotten people a proof is also what its mark would be.
    if exists (
      select
      from unnest(v_judged) j
      cross join lateral (
        select from private.proofs x where x.tenant_id = j.tenant_id and x.task_id = j.task_id and x.proof like 'forgotten:%' offset 0
      ) o
      where j.proofs is not null)
    then
      v_key := private.platform_secret('forgetting_key');
      for v_n in 1..cardinality(v_judged) loop
        continue when v_key is null or v_judged[v_n].proofs is null;
        v_judged[v_n].proofs := v_judged[v_n].proofs || array(
          select private.mark_of_forgotten(v_judged[v_n].tenant_id, u.proof, v_key)
          from unnest(v_judged[v_n].proofs) as u (proof)
          where u.proof !~ '^(comment|media):');
      end loop;
    end if;
    insert into private.proofs (tenant_id, task_id, proof, completion_id)
    select j.tenant_id, j.task_id, u.proof, j.completion_id
    from unnest(v_judged) j cross join lateral unnest(j.proofs) as u (proof)
    order by j.tenant_id, j.task_id, u.proof, j.claimed_at, j.completion_id
    on conflict do nothing;
    v_used := array(
      select distinct j.completion_id
      from unnest(v_judged) j cross join lateral unnest(j.proofs) as u (proof)
      cross join lateral (
        select x.completion_id from private.proofs x
        where x.tenant_id = j.tenant_id and x.task_id = j.task_id and x.proof = u.proof offset 0
      ) o
      where o.completion_id <> j.completion_id);
    if cardinality(v_used) > 0 then
      delete from private.proofs o
      where o.ctid = any (array(
        select x.place
        from unnest(v_judged) j
        cross join lateral (
          select y.ctid as place from private.proofs y where y.tenant_id = j.tenant_id and y.completion_id = j.completion_id offset 0
        ) x
        where j.completion_id = any (v_used)));
      v_judged := array(
        select (j.tenant_id, j.completion_id, j.task_id, j.campaign_id, j.participant_id, j.claimed_at, j.from_status,
          case when u.is_used then j.if_used else j.verdict end, j.method,
          case when u.is_used then 'what proves this claim has proven another claim of this task' else j.reason end,
          j.evidence, j.proofs, j.credential_source, j.if_used, j.action_url, j.rule_version,
          case when not u.is_used then j.look_again_at end, u.is_used)::private.judged
        from unnest(v_judged) j
        cross join lateral (select j.completion_id = any (v_used) as is_used) u
        where not u.is_used or j.if_used is not null);
    end if;
  end if;

  with changed as (
    update public.completions c
    set status = j.verdict::public.completion_status,
      verified_at = case when j.verdict = 'verified' then now() end,
      reason = j.reason,
      -- The participant reads this row: with what chance a draw accepts is not told here, only in the record of the decision.
      evidence = case when j.method = 'statistical' then c.evidence else coalesce(j.evidence, c.evidence) end,
      -- Who leaves it to a person has not decided it.
      method = case when j.verdict in ('verified', 'failed') then j.method end,
      credential_source = coalesce(j.credential_source, c.credential_source),
      seen_at = case when j.verdict = 'pending' then coalesce(c.seen_at, now()) else c.seen_at end,
      settle_at = case j.verdict
        -- Who is linked is asked about until the deadline: the worker's own answer comes first.
        when 'needs_user_action' then greatest(c.deadline, now()) + case when j.is_asked_about and c.deadline > now() then interval '1 day' else interval '0' end
        when 'pending' then greatest(c.deadline, j.look_again_at) + interval '1 day' end,
      action_url = coalesce(j.action_url, c.action_url)
    from (
      select u.*, x.place, u.verdict = 'needs_user_action' and exists (
          select from public.linked_accounts a where a.tenant_id = u.tenant_id and a.participant_id = u.participant_id and a.platform = 'instagram'
        ) as is_asked_about
      from unnest(v_judged) u
      cross join lateral (
        select y.ctid as place from public.completions y where y.tenant_id = u.tenant_id and y.id = u.completion_id offset 0
      ) x
    ) j
    where c.ctid = j.place and c.status::text = any (p_from)
    returning c.tenant_id, c.id, c.task_id, c.participant_id, j.campaign_id, j.verdict, j.from_status, j.method, j.reason, j.evidence, j.rule_version
  ),
  noted as (
    insert into public.completion_decisions (
      tenant_id, completion_id, task_id, participant_id, from_status, to_status, method, rule_version, reason, evidence, actor, actor_id)
    select d.tenant_id, d.id, d.task_id, d.participant_id, d.from_status, d.verdict, d.method, d.rule_version, d.reason, d.evidence, p_actor, p_actor_id
    from changed d
  ),
  earned as (
    insert into public.spin_ledger (tenant_id, participant_id, campaign_id, completion_id, spins, reason)
    select d.tenant_id, d.participant_id, d.campaign_id, d.id, t.reward_spins, 'task verified'
    from changed d
    cross join lateral (
      select x.reward_spins from public.social_tasks x where x.tenant_id = d.tenant_id and x.id = d.task_id offset 0
    ) t
    where d.verdict = 'verified'
    on conflict on constraint a_completion_earns_once do nothing
    returning spin_ledger.tenant_id, spin_ledger.completion_id
  )
  select (select count(*) filter (where d.verdict <> 'pending') from changed d),
    array_agg(e.tenant_id order by e.tenant_id, e.completion_id), array_agg(e.completion_id order by e.tenant_id, e.completion_id)
  into v_count, v_tenant_ids, v_completion_ids
  from earned e;

  if v_tenant_ids is not null then
    perform private.congratulate(v_tenant_ids, v_completion_ids);
  end if;

  -- The item that saw it is over; the second look is a new one. Where a signal saw it, the item still waits, and is held until then.
  if p_item_ended then
    for v_again in
      select j.look_again_at as at, array_agg(j.tenant_id order by j.tenant_id) as tenant_ids, array_agg(j.completion_id order by j.tenant_id) as subject_ids
      from unnest(v_judged) j
      where j.verdict = 'pending'
      group by j.look_again_at
    loop
      perform jobs.enqueue_many('verify-social-tasks', v_again.tenant_ids, v_again.subject_ids, v_again.at);
    end loop;
    -- So is the question whether the person has written: no webhook need tell of it.
    for v_again in
      select least(c.deadline, now() + interval '15 minutes') as at, array_agg(j.tenant_id order by j.tenant_id, c.id) as tenant_ids,
        array_agg(c.id order by j.tenant_id, c.id) as subject_ids
      from unnest(v_judged) j
      cross join lateral (
        select x.id, x.deadline from public.completions x
        where x.tenant_id = j.tenant_id and x.id = j.completion_id and x.status::text = 'needs_user_action' and x.settle_at > x.deadline offset 0
      ) c
      where j.verdict = 'needs_user_action' and c.deadline > now()
      group by 1
    loop
      perform jobs.enqueue_many('verify-social-tasks', v_again.tenant_ids, v_again.subject_ids, v_again.at,
        array(select 'asked/' || u from unnest(v_again.subject_ids) u));
    end loop;
  end if;
  return v_count;
end
$function$;

create or replace function private.erase_person (
  p_tenant_id uuid,
  p_subject text
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_event record;
  v_usernames text[] := '{}';
  v_erased jsonb := '{}';
  v_count integer;
begin
  -- What was told about the person and waits becomes rows first, so that no later run brings them back.
  for v_event in
    select e.id from private.webhook_events e
    where e.tenant_id = p_tenant_id and e.processed_at is null and strpos(e.body::text, p_subject) > 0
  loop
    perform private.process_webhook(p_tenant_id, v_event.id);
  end loop;
  update private.webhook_events e set body = null
  where e.tenant_id = p_tenant_id and e.body is not null and strpos(e.body::text, p_subject) > 0;
  get diagnostics v_count = row_count;
  v_erased := v_erased || jsonb_build_object('webhooks', v_count);
  delete from private.webhook_removals r where r.tenant_id = p_tenant_id and p_subject = any (string_to_array(r.external_id, ':'));

  if to_regclass('public.linked_accounts') is not null then
    -- By value, not by column: the id counts wherever the row has it.
    execute $sql$
      with gone as (
        delete from public.linked_accounts l
        where l.tenant_id = $1 and exists (select from jsonb_each_text(to_jsonb(l)) c where c.value = $2)
        returning to_jsonb(l) as row
      )
      select count(*), coalesce(array_agg(distinct lower(c.value)) filter (where c.value <> ''), '{}')
      from gone left join lateral jsonb_each_text(gone.row) c on c.key ~ 'username$'
    $sql$ into v_count, v_usernames using p_tenant_id, p_subject;
    v_erased := v_erased || jsonb_build_object('linked_accounts', v_count);
  end if;
  if to_regclass('private.signals') is not null then
    execute $sql$
      with gone as (
        delete from private.signals s where s.tenant_id = $1 and s.author_id = $2
        returning lower(to_jsonb(s) ->> 'author_username') as username
      )
      select count(*), $3 || coalesce(array_agg(distinct g.username) filter (where g.username <> ''), '{}') from gone g
    $sql$ into v_count, v_usernames using p_tenant_id, p_subject, v_usernames;
    v_erased := v_erased || jsonb_build_object('signals', v_count);
  end if;
  if to_regclass('private.proofs') is not null then
    -- A mark stays in the place of the person: an account proves a task once, though nobody knows any more whose it was.
    execute $sql$
      with gone as (
        delete from private.proofs p
        where p.tenant_id = $1 and ($2 = any (string_to_array(p.proof, ':')) or p.proof = any (array(select 'name:' || u from unnest($3) u)))
        returning p.tenant_id, p.task_id, p.proof, p.completion_id
      ),
      marked as (
        insert into private.proofs (tenant_id, task_id, proof, completion_id)
        select m.tenant_id, m.task_id, private.mark_of_forgotten(m.tenant_id, m.proof, $4), m.completion_id from gone m
        on conflict do nothing
      )
      select count(*) from gone
    $sql$ into v_count using p_tenant_id, p_subject, v_usernames, private.forgetting_key();
    v_erased := v_erased || jsonb_build_object('proofs', v_count);
  end if;
  if to_regclass('public.completion_decisions') is not null then
    -- Decisions are not changed: each is replaced by one that is the same without the person.
    execute $sql$
      with gone as (
        delete from public.completion_decisions d
        where d.tenant_id = $1 and (d.evidence ->> 'author_id' = $2 or lower(d.evidence ->> 'author_username') = any ($3))
        returning to_jsonb(d) as row
      )
      insert into public.completion_decisions
      select r.*
      from gone, jsonb_populate_record(null::public.completion_decisions,
        gone.row || jsonb_build_object('evidence', private.evidence_without(gone.row -> 'evidence', $2))) r
    $sql$ using p_tenant_id, p_subject, v_usernames;
    get diagnostics v_count = row_count;
    v_erased := v_erased || jsonb_build_object('decisions', v_count);
  end if;
  update public.completions c set evidence = private.evidence_without(c.evidence, p_subject)
  where c.tenant_id = p_tenant_id
    and (c.evidence ->> 'author_id' = p_subject or lower(c.evidence ->> 'author_username') = any (v_usernames));
  get diagnostics v_count = row_count;
  v_erased := v_erased || jsonb_build_object('evidence', v_count);
  update public.participants p
  set facebook_user_id = case when p.facebook_user_id is distinct from p_subject then p.facebook_user_id end,
    instagram_username = case when lower(p.instagram_username) = any (v_usernames) then null else p.instagram_username end
  where p.tenant_id = p_tenant_id and (p.facebook_user_id = p_subject or lower(p.instagram_username) = any (v_usernames));
  get diagnostics v_count = row_count;
  return v_erased || jsonb_build_object('participants', v_count);
end
$function$;

create or replace function private.evidence_without (
  p_evidence jsonb,
  p_subject text
)
  returns jsonb
  language sql
  immutable
  set search_path to ''
  AS $function$
  select coalesce(jsonb_object_agg(e.key, e.value), '{}')
  from jsonb_each(p_evidence) e
  where e.key not in ('author_id', 'author_username') and (p_subject = any (string_to_array(e.value #>> '{}', ':'))) is not true
$function$;

create or replace function private.followers_are_to_be_measured()
  returns boolean
  language sql
  stable
  set search_path to ''
  AS $function$
  select exists (select from private.tenants_to_measure())
$function$;

create or replace function private.forget_tenant()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_run_ids bigint[];
  v_items bigint[];
begin
  with gone as (
    delete from jobs.items i where i.tenant_id = old.id and i.batch_id is null returning i.run_id
  )
  select array_agg(g.run_id), array_agg(g.items) into v_run_ids, v_items
  from (select gone.run_id, count(*) as items from gone where gone.run_id is not null group by gone.run_id) g;
  perform jobs.expect_fewer(v_run_ids, v_items);
  update jobs.alerts a set closed_at = now() where a.tenant_id = old.id and a.closed_at is null;
  delete from jobs.lane_keys l where l.tenant_id = old.id;
  delete from jobs.dead_items d where d.tenant_id = old.id;
  delete from jobs.breakers b where b.tenant_id = old.id;
  delete from jobs.rates r where r.tenant_id = old.id;
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
    perform vault.create_secret(v_key, 'forgetting_key', 'Onecron: marks of people who were forgotten');
  end if;
  return v_key;
end
$function$;

create or replace function private.invite_member (
  p_tenant_id uuid,
  p_email text,
  p_role public.member_role,
  p_valid_days integer
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  -- 32 random bytes: too many to try.
  v_token text := 'inv_' || encode(extensions.gen_random_bytes(32), 'hex');
  -- The invited side is put into one spelling, the address of the user who accepts is not: no other mailbox becomes this one by it.
  v_email text := lower(btrim(normalize(p_email, nfkc)));
  v_invitation public.invitations;
begin
  if p_role is null or p_valid_days is null or p_valid_days not between 1 and 30 then
    raise exception 'An invitation needs a role, and is valid for 1 to 30 days.' using errcode = '22023';
  end if;
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, greatest('admin', p_role));
    perform private.limit_calls('invite_member', p_tenant_id);
  end if;
  -- A new invitation takes the place of one that is waiting.
  update public.invitations i set revoked_at = now()
  where i.tenant_id = p_tenant_id and i.email = v_email and i.accepted_at is null and i.revoked_at is null;
  insert into public.invitations (tenant_id, email, role, token_hash, invited_by, expires_at)
  values (p_tenant_id, v_email, p_role, encode(sha256(convert_to(v_token, 'UTF8')), 'hex'), (select auth.uid()),
    now() + make_interval(days => p_valid_days))
  returning * into v_invitation;
  perform private.audit(p_tenant_id, 'invitation.created',
    jsonb_build_object('invitation_id', v_invitation.id, 'email', v_email, 'role', p_role));
  return jsonb_build_object('invitation_id', v_invitation.id, 'email', v_email, 'role', p_role,
    'expires_at', v_invitation.expires_at, 'token', v_token);
exception
  -- Without its details, which would tell the whole row, with the columns that nobody may read.
  when check_violation or not_null_violation then
    raise exception '%', sqlerrm using errcode = sqlstate;
end
$function$;

create or replace function private.is_stop_word (
  p_text text
)
  returns boolean
  language sql
  immutable
  set search_path to ''
  AS $function$
  select w.word in ('stop', 'stopp', 'stop all', 'stopall', 'unsubscribe', 'cancel', 'end', 'quit', 'opt out', 'opt-out', 'optout', 'revoke', 'no more messages',
    'stop promotions', 'stop promotion', 'stop marketing', 'stop messages', 'stop sending', 'stop it', 'stop please', 'please stop',
    'abmelden', 'abbestellen', 'ende', 'aufhören', 'baja', 'alto', 'parar', 'pare', 'cancelar', 'detener', 'no más', 'sair', 'remover',
    'basta', 'annulla', 'disiscrivi', 'disiscrivimi', 'cancellami', 'fermare', 'arret', 'arrêt', 'arreter', 'arrêter', 'désabonner',
    'desabonner', 'désinscrire', 'stopper', 'afmelden', 'uitschrijven', 'opzeggen', 'avsluta', 'avregistrera', 'afmeld', 'avmeld', 'lopeta',
    'peruuta', 'wypisz', 'rezygnuję', 'koniec', 'odhlásit', 'leiratkozás', 'dezabonare', 'стоп', 'отписаться', 'отписка', 'зупинити',
    'dur', 'durdur', 'iptal', 'ret', 'توقف', 'إيقاف', 'ايقاف', 'إلغاء', 'الغاء', 'עצור', 'הסר', 'रोकें', 'बंद', 'berhenti', 'hentikan',
    '停止', '退订', '取消', '退訂', '配信停止', '중지', '수신거부', '해지')
  -- Alone, whatever the case and the punctuation: "Stop!" ends messages, "don't stop" does not.
  from (select btrim(lower(regexp_replace(p_text, '\s+', ' ', 'g')), E' .,!?¡¿"''«»„“”()[]*_-') as word) w
$function$;

create or replace function private.join_campaign (
  p_tenant_id uuid,
  p_campaign_id uuid,
  p_display_name text,
  p_phone text,
  p_instagram_username text,
  p_facebook_user_id text,
  p_whatsapp_opt_in boolean
)
  returns uuid
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_id uuid;
begin
  -- Nobody, or a user who was deleted since the token was made.
  if not exists (select from auth.users u where u.id = (select auth.uid())) then
    raise exception 'Sign in first.' using errcode = '42501';
  end if;
  perform private.limit_calls('join_campaign', (select auth.uid()));
  if not exists (
    select from public.campaigns c join public.tenants t on t.id = c.tenant_id
    where c.tenant_id = p_tenant_id and c.id = p_campaign_id and c.status = 'active' and t.status = 'active'
      and now() >= c.starts_at and (c.ends_at is null or now() < c.ends_at)
  ) then
    raise exception 'There is no such campaign running.' using errcode = 'PT404';
  end if;
  insert into public.participants as p (
    tenant_id, user_id, display_name, phone, instagram_username, facebook_user_id, whatsapp_opt_in_at)
  values (p_tenant_id, (select auth.uid()), p_display_name, p_phone, p_instagram_username, p_facebook_user_id,
    case when p_whatsapp_opt_in then now() end)
  on conflict on constraint one_participant_per_tenant_and_user do update
    set display_name = excluded.display_name,
      phone = coalesce(excluded.phone, p.phone),
      instagram_username = coalesce(excluded.instagram_username, p.instagram_username),
      facebook_user_id = coalesce(excluded.facebook_user_id, p.facebook_user_id),
      whatsapp_opt_in_at = coalesce(p.whatsapp_opt_in_at, excluded.whatsapp_opt_in_at)
  returning p.id into v_id;
  perform private.welcome(p_tenant_id, v_id, p_campaign_id);
  return v_id;
exception
  -- Without its details, which would tell the whole row, with the columns that nobody may read.
  when check_violation or not_null_violation then
    raise exception '%', sqlerrm using errcode = sqlstate;
end
$function$;

create or replace function private.judge_emails (
  p_tenant_ids uuid[],
  p_ids uuid[],
  p_now timestamp with time zone
)
  returns table (
    n bigint,
    tenant_id uuid,
    id uuid,
    over text,
    hold_until timestamp with time zone,
    send_before timestamp with time zone
  )
  language sql
  stable
  set search_path to ''
  set jit to 'off'
  AS $function$
  select d.n, d.tenant_id, d.id, d.over,
    case when d.over is null and d.zone is not null and d.opens_at is distinct from p_now then coalesce(d.opens_at, p_now + interval '1 day') end,
    least(d.key_ends_at, coalesce(d.ends_at, 'infinity'),
      case when d.zone is null then 'infinity' else private.window_closes_at(d.zone, d.notify_from, d.notify_until, p_now) end)
  from (
    select u.n, u.tenant_id, u.id, h.opens_at, z.zone, z.notify_from, z.notify_until, g.ends_at,
      coalesce(m.first_tried_at, p_now) + interval '23 hours 30 minutes' as key_ends_at,
      case
        when m.id is null then 'the message is gone'
        when m.status <> 'queued' then format('the message is %s', m.status)
        when not g.notifications_enabled then 'notifications are switched off in this campaign'
        when g.status <> 'active' or g.ends_at <= p_now then 'the campaign has ended'
        when m.participant_id is not null and private.agrees(m.tenant_id, m.participant_id, 'email', 'all') is not true
          then 'the participant has withdrawn consent'
        when m.first_tried_at <= p_now - interval '23 hours 30 minutes' then 'it could not be sent within a day of its first try' end as over
    from unnest(p_tenant_ids, p_ids) with ordinality as u (tenant_id, id, n)
    left join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    left join public.tenants t on t.id = m.tenant_id
    left join public.campaigns g on g.tenant_id = m.tenant_id and g.id = m.campaign_id
    -- Members are written to at any time, participants within the hours of the campaign.
    left join lateral (
      select coalesce(g.time_zone, t.time_zone) as zone, coalesce(g.notify_from, t.campaign_notify_from) as notify_from,
        coalesce(g.notify_until, t.campaign_notify_until) as notify_until
      where m.participant_id is not null
    ) z on true
    left join lateral (
      select private.window_opens_at(z.zone, z.notify_from, z.notify_until, p_now) as opens_at where z.zone is not null
    ) h on true
  ) d
$function$;

create or replace function private.link_accounts (
  p_tenant_id uuid,
  p_new private.signals[]
)
  returns uuid[]
  language plpgsql
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
declare
  v_linked uuid[];
begin
  if not exists (
    select from unnest(p_new) n
    where n.codes <> '{}' and n.author_id is not null and n.surface in ('instagram', 'facebook', 'whatsapp')
  ) then
    return '{}';
  end if;

  with came as (
    select distinct on (u.code) u.code, n.surface, n.author_id, n.author_username, n.happened_at
    from unnest(p_new) n cross join lateral unnest(n.codes) as u (code)
    where n.author_id is not null
    order by u.code, n.happened_at, n.id
  ),
  used as (
    update private.link_codes l
    set used_at = now()
    from (
      select came.*, x.place
      from came
      cross join lateral (
        select y.ctid as place from private.link_codes y where y.tenant_id = p_tenant_id and y.code = came.code offset 0
      ) x
    ) c
    where l.ctid = c.place and l.platform = c.surface and l.used_at is null and l.expires_at > now()
    returning l.participant_id, l.platform, c.author_id, c.author_username, c.happened_at
  ),
  linked as (
    -- The account of somebody else stays where it is.
    insert into public.linked_accounts as a (tenant_id, participant_id, platform, external_id, username, linked_by)
    select distinct on (x.platform, x.author_id) p_tenant_id, x.participant_id, x.platform, x.author_id, x.author_username, 'link code'
    from used x
    where not exists (
      select from public.linked_accounts o
      where o.tenant_id = p_tenant_id and o.platform = x.platform and o.external_id = x.author_id and o.participant_id <> x.participant_id)
    order by x.platform, x.author_id, x.happened_at
    on conflict on constraint one_account_per_participant_and_platform do update
      set external_id = excluded.external_id, username = coalesce(excluded.username, a.username), linked_by = excluded.linked_by, linked_at = now()
    returning a.participant_id
  )
  select coalesce(array_agg(participant_id), '{}') into v_linked from linked;

  -- A code in a comment is there for all to copy: it is whose it came from first.
  with came as (
    select distinct on (n.surface, u.code) u.code, n.surface, n.author_id, n.author_username, n.happened_at
    from unnest(p_new) n cross join lateral unnest(n.codes) as u (code)
    where n.author_id is not null and n.surface in ('instagram', 'facebook', 'whatsapp')
    order by n.surface, u.code, n.happened_at, n.id
  ),
  linked as (
    insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, username, linked_by)
    select p_tenant_id, c.participant_id, came.surface, came.author_id, came.author_username, 'claim code'
    from came
    cross join lateral (
      select x.participant_id from public.completions x
      where x.tenant_id = p_tenant_id and x.code = came.code and x.status::text in ('pending', 'needs_user_action') offset 0
    ) c
    -- What is in the way may come from this very insert: the first one counts.
    order by came.happened_at, came.author_id, came.code
    on conflict do nothing
    returning participant_id
  )
  select v_linked || coalesce(array_agg(participant_id), '{}') into v_linked from linked;
  return v_linked;
end
$function$;

create or replace function private.load_emails (
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  p_subject_ids uuid[],
  p_payloads jsonb[]
)
  returns SETOF jobs.loaded
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_now timestamptz := clock_timestamp();
begin
  return query
  with message as (
    select u.item_id, m.*, b.bundle_id, j.over, j.hold_until, j.send_before,
      -- A mail that was tried alone, or may have been, keeps its own key; one that is in a bundle keeps that.
      j.over is null and j.hold_until is null and b.bundle_id is null and (m.first_tried_at is null or m.bundled) as is_free
    from unnest(p_tenant_ids, p_item_ids, p_subject_ids) with ordinality as u (tenant_id, item_id, subject_id, n)
    join private.judge_emails(p_tenant_ids, p_subject_ids, v_now) j on j.n = u.n
    left join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
    left join private.bundled_emails b on b.tenant_id = u.tenant_id and b.outbox_id = u.subject_id
  ),
  decided as materialized (
    select m.*, m.is_free and count(*) filter (where m.is_free) over (partition by m.tenant_id) > 1 as together
    from message m
  ),
  noted as (
    update public.notification_outbox o
    set held_until = d.hold_until, reason = case when d.hold_until is not null then 'quiet hours' else o.reason end,
      first_tried_at = case when d.hold_until is null then coalesce(o.first_tried_at, v_now) else o.first_tried_at end,
      bundled = case when d.hold_until is null and d.bundle_id is null then d.together else o.bundled end
    from decided d
    where o.tenant_id = d.tenant_id and o.id = d.id and d.over is null
      and (d.hold_until is null or o.held_until is distinct from d.hold_until)
  )
  select d.item_id,
    jsonb_build_object('outbox_id', d.id, 'to', d.recipient, 'subject', d.subject, 'text', d.body, 'html', d.payload -> 'html',
      -- The platform's sender, where the tenant's own credential names none.
      'from', case when own.account is not null and own.account ->> 'from' is null then (
        select p.account ->> 'from' from private.platform_credentials p where p.provider = 'email') end,
      'idempotency_key', d.id, 'bundle_id', d.bundle_id, 'together', d.together, 'send_before', d.send_before),
    d.hold_until, coalesce(d.over, 'quiet hours'), d.over is not null
  from decided d
  left join public.credentials own on own.tenant_id = d.tenant_id and own.provider = 'email';
end
$function$;

create or replace function private.load_follower_counts (
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
  select u.item_id, jsonb_build_object('fingerprint', c.fingerprint, 'accounts', w.accounts), null::timestamptz,
    case when c.id is null then 'the credential is gone' when w.accounts is null then 'there is nothing to count today' end,
    w.accounts is null
  from unnest(p_tenant_ids, p_item_ids) as u (tenant_id, item_id)
  left join public.credentials c on c.tenant_id = u.tenant_id and c.provider = 'meta'
  cross join lateral (
    select jsonb_agg(jsonb_build_object('platform', a.platform, 'account_id', a.account_id) order by a.platform desc) as accounts
    from private.accounts_to_measure(u.tenant_id) a
  ) w
$function$;

create or replace function private.load_messages (
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  p_subject_ids uuid[],
  p_payloads jsonb[]
)
  returns SETOF jobs.loaded
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_unofficial boolean := coalesce(private.setting('unofficial_gateways'), 'on') <> 'off';
  -- A setting that is no number must not stop all messages.
  v_per_second integer := greatest(1, coalesce(substring(private.setting('whatsapp_messages_per_second') from '^[0-9]{1,6}$')::integer, 80));
  -- What runs on somebody's phone is banned for what a phone does not do.
  v_gateway_per_second integer := greatest(1, coalesce(substring(private.setting('gateway_messages_per_second') from '^[0-9]{1,6}$')::integer, 4));
begin
  return query
  with message as (
    select u.item_id, m.*, g.status as campaign_status, g.ends_at, g.notifications_enabled, p.whatsapp_opt_in_at,
      coalesce(g.time_zone, t.time_zone) as zone, coalesce(g.notify_from, t.campaign_notify_from) as notify_from,
      coalesce(g.notify_until, t.campaign_notify_until) as notify_until,
      k.kind as gateway, case when k.tenant_id is null then jobs.platform_id() else m.tenant_id end as sender_id,
      private.wa_key(m.recipient) as wa_key, w.pause_reason,
      coalesce(own.stop_reason, via.stop_reason) as stop_reason, coalesce(via.free_at, '-infinity') as free_at,
      least(case when k.tenant_id is not null then s.messages_per_second end,
        case when k.kind in ('waapi', 'gateway') then least(v_per_second, v_gateway_per_second) else v_per_second end) as per_second
    from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
    left join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
    left join public.tenants t on t.id = m.tenant_id
    left join public.campaigns g on g.tenant_id = m.tenant_id and g.id = m.campaign_id
    left join public.participants p on p.tenant_id = m.tenant_id and p.id = m.participant_id
    left join public.credentials k on k.tenant_id = m.tenant_id and k.provider = 'whatsapp'
    left join public.message_settings s on s.tenant_id = m.tenant_id
    left join public.message_templates w on w.tenant_id = m.tenant_id and w.id = m.template_id
    left join private.senders own on own.tenant_id = m.tenant_id
    left join private.senders via on via.tenant_id = case when k.tenant_id is null then jobs.platform_id() else m.tenant_id end
  ),
  -- Reasons to end it come first, then reasons to wait.
  judged as (
    select m.*, c.inbound_at, coalesce(c.next_at, '-infinity') as next_at, h.opens_at,
      case
        when m.id is null then 'the message is gone'
        when m.status <> 'queued' then format('the message is %s', m.status)
        when not m.notifications_enabled then 'notifications are switched off in this campaign'
        when m.campaign_status <> 'active' or m.ends_at <= v_now then 'the campaign has ended'
        when m.participant_id is not null and m.whatsapp_opt_in_at is null then 'the participant has withdrawn consent'
        when m.participant_id is not null and m.category = 'marketing' and private.agrees(m.tenant_id, m.participant_id, 'whatsapp', 'marketing') is false
          then 'the participant has withdrawn consent' end as over,
      case
        -- A window that never opens is looked at once a day: it may be changed.
        when h.opens_at is distinct from v_now then 'quiet hours'
        when m.stop_reason is not null then left('sending is stopped: ' || m.stop_reason, 200)
        when not v_unofficial and m.gateway in ('waapi', 'gateway') then 'unofficial gateways are switched off on this platform'
        when m.pause_reason is not null and m.gateway is distinct from 'waapi' and m.gateway is distinct from 'gateway'
          and c.inbound_at <= v_now - interval '24 hours' then left('the template is paused: ' || m.pause_reason, 200) end as wait_for
    from message m
    left join private.conversations c on c.tenant_id = m.sender_id and c.recipient = m.wa_key
    left join lateral (
      select private.window_opens_at(m.zone, m.notify_from, m.notify_until, v_now) as opens_at where m.zone is not null
    ) h on true
  ),
  -- One number and one person: a message every 6 seconds. The oldest goes first.
  paired as (
    select j.*, j.over is null and j.wait_for is null as may_go,
      greatest(j.next_at, v_now) + interval '6 seconds'
        * (count(*) filter (where j.over is null and j.wait_for is null) over (
          partition by j.sender_id, j.wa_key order by j.created_at, j.item_id rows unbounded preceding) - 1) as pair_at
    from judged j
  ),
  -- One number: so many a second, a quarter of them at once.
  timed as (
    select p.*, p.may_go and p.pair_at <= v_now as is_turn,
      greatest(p.free_at, v_now) + make_interval(secs => (count(*) filter (where p.may_go and p.pair_at <= v_now) over (
          partition by p.sender_id order by p.created_at, p.item_id rows unbounded preceding) - greatest(1, p.per_second / 4))
        / greatest(1, p.per_second - p.per_second / 4)::double precision) as rate_at
    from paired p
  ),
  decided as materialized (
    select d.*, d.is_turn and d.rate_at <= v_now as goes,
      case
        when d.over is not null or (d.is_turn and d.rate_at <= v_now) then null
        when d.wait_for = 'quiet hours' then coalesce(d.opens_at, v_now + interval '1 day')
        when d.wait_for is not null then v_now + interval '15 minutes'
        when not d.is_turn then d.pair_at
        else d.rate_at end as hold_until,
      case
        when d.wait_for is not null then d.wait_for
        when not d.is_turn then 'one message in 6 seconds to the same person'
        else 'the number''s messages per second' end as hold_reason
    from timed d
  ),
  -- What members see of a held message: until when, and why.
  noted as (
    update public.notification_outbox o
    set held_until = d.hold_until, reason = d.hold_reason
    from decided d
    where o.tenant_id = d.tenant_id and o.id = d.id and d.hold_until is not null and o.held_until is distinct from d.hold_until
  ),
  reserved as (
    insert into private.conversations as c (tenant_id, recipient, next_at)
    select d.sender_id, d.wa_key, v_now + interval '6 seconds'
    from decided d
    where d.goes and d.wa_key is not null
    group by d.sender_id, d.wa_key
    order by d.sender_id, d.wa_key
    on conflict (tenant_id, recipient) do update set next_at = greatest(c.next_at, excluded.next_at), touched_at = now()
  ),
  counted as (
    insert into private.senders as s (tenant_id, free_at)
    select d.sender_id, v_now + make_interval(secs => count(*) / greatest(1, min(d.per_second) - min(d.per_second) / 4)::double precision)
    from decided d
    where d.goes
    group by d.sender_id
    order by d.sender_id
    on conflict (tenant_id) do update set free_at = greatest(s.free_at, v_now) + (excluded.free_at - v_now)
  )
  select d.item_id,
    jsonb_build_object('outbox_id', d.id, 'to', d.recipient, 'text', d.body, 'callback', d.tenant_id || '/' || d.id, 'category', d.category,
      'window', case when d.inbound_at is null then 'not_known' when d.inbound_at > v_now - interval '24 hours' then 'open' else 'closed' end,
      'window_open_until', case when d.inbound_at > v_now - interval '24 hours' then d.inbound_at + interval '24 hours' end,
      'template', case when d.pause_reason is null then d.payload -> 'template' end,
      'send_before', nullif(least(
        private.window_closes_at(d.zone, d.notify_from, d.notify_until, v_now), coalesce(d.ends_at, 'infinity')), 'infinity')),
    d.hold_until, coalesce(d.over, d.hold_reason), d.over is not null
  from decided d;
end
$function$;

create or replace function private.load_verifications (
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  p_subject_ids uuid[],
  p_payloads jsonb[]
)
  returns SETOF jobs.loaded
  language plpgsql
  stable
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
begin
  return query
  -- What is stored already proves a claim without a call.
  with known as materialized (
    select k.tenant_id, k.completion_id, k.evidence from private.proven(private.candidates_of_completions(p_tenant_ids, p_subject_ids)) k
  )
  select u.item_id,
    jsonb_build_object(
      'completion_id', c.id, 'kind', t.kind, 'post_id', t.post_id, 'code', c.code,
      'author', jsonb_build_object('instagram_id', a.instagram_id, 'instagram_username', a.instagram_username, 'facebook_id', a.facebook_id),
      'instagram_username', a.instagram_username, 'facebook_user_id', a.facebook_id,
      'since', t.created_at, 'deadline', c.deadline,
      -- A mention by somebody else stays in the list. It is read again when it is twice as old, then every hour: thirty times a day
      -- instead of 288. A new mention does not wait for that.
      'recheck_seconds', greatest(1, extract(epoch from t.recheck_every)::integer,
        case when mention.list is not null then least(mention.age_seconds, 3600, extract(epoch from c.deadline - now())::integer) end),
      'known', known.evidence,
      'stop_at', mark.stop_at,
      'asked', c.status = 'needs_user_action',
      'mentions', coalesce(mention.list, '[]')),
    case
      when open.is_over then null
      -- Seen once: the second look is not before its time.
      when c.seen_at + g.reward_after > now() then c.seen_at + g.reward_after
      -- Nothing can be found out about a mention before Instagram tells of one: that wakes it.
      when t.kind::text = 'instagram_mention' and mention.list is null and known.evidence is null and c.deadline > now() then c.deadline
      when not t.platform_credential_allowed
        and not exists (select from public.credentials x where x.tenant_id = c.tenant_id and x.provider = 'meta') then now() + interval '1 hour' end,
    case when c.id is null then 'the completion is gone' when open.is_over then format('the completion is %s', replace(c.status::text, '_', ' '))
      when c.seen_at + g.reward_after > now() then 'seen once, waiting for the second look'
      when t.kind::text = 'instagram_mention' then 'waiting for a mention'
      when not t.platform_credential_allowed then 'waiting for a credential of the tenant''s own' end,
    open.is_over
  from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
  left join public.completions c on c.tenant_id = u.tenant_id and c.id = u.subject_id
  left join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  left join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
  left join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
  left join public.linked_accounts i on i.tenant_id = p.tenant_id and i.participant_id = p.id and i.platform = 'instagram'
  left join public.linked_accounts f on f.tenant_id = p.tenant_id and f.participant_id = p.id and f.platform = 'facebook'
  cross join lateral (
    -- A name that was only typed counts where the campaign says so.
    select i.external_id as instagram_id,
      coalesce(i.username, case when g.username_match then p.instagram_username end) as instagram_username,
      coalesce(f.external_id, case when g.username_match then p.facebook_user_id end) as facebook_id
  ) a
  -- Who was asked to write to the account and is linked is asked about, also where no webhook tells of the message.
  cross join lateral (
    select case c.status when 'pending' then false when 'needs_user_action' then i.external_id is null else true end as is_over
  ) open
  left join known on known.tenant_id = c.tenant_id and known.completion_id = c.id
  left join lateral (
    -- Only for a post that was read as far back as this task goes.
    select jsonb_build_object('id', r.newest_id, 'at', r.newest_at) as stop_at
    from private.post_readings r
    where r.tenant_id = t.tenant_id and r.post_id = t.post_id and t.kind::text = r.surface || '_comment' and r.read_since <= t.created_at
      and c.seen_at is null
  ) mark on true
  left join lateral (
    select jsonb_agg(jsonb_build_object('media_id', m.details ->> 'media_id', 'comment_id', m.details ->> 'comment_id', 'signal_id', m.id)
      order by m.happened_at desc) as list,
      extract(epoch from now() - greatest(max(m.received_at), c.claimed_at))::integer as age_seconds
    from (
      select s.id, s.details, s.happened_at, s.received_at
      from private.signals s
      where s.tenant_id = t.tenant_id and s.kind = 'mention' and s.happened_at >= date_trunc('second', t.created_at)
        and s.details ->> 'media_id' is not null
        -- One that has proven another claim of this task proves no second.
        and not exists (
          select from private.proofs o
          where o.tenant_id = t.tenant_id and o.task_id = t.id and o.completion_id <> c.id
            and o.proof = coalesce('comment:' || regexp_replace(s.details ->> 'comment_id', '^.*_', ''), 'media:' || (s.details ->> 'media_id')))
      order by s.happened_at desc
      limit 20
    ) m
    where t.kind::text = 'instagram_mention' and c.status = 'pending'
  ) mention on true;
end
$function$;

create or replace function private.mark_of_forgotten (
  p_tenant_id uuid,
  p_proof text,
  p_key text
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select 'forgotten:' || encode(extensions.hmac(convert_to(p_tenant_id || ' ' || p_proof, 'UTF8'), convert_to(p_key, 'UTF8'), 'sha256'), 'hex')
$function$;

create or replace function private.my_queues()
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
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select q.* from jobs.queue_state(array(select private.tenant_ids('viewer'))) q
$function$;

create or replace function private.note_consent()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  -- What the functions below know of the change that they make.
  v_given jsonb := coalesce(nullif(current_setting('onecron.consent', true), '')::jsonb, '{}');
  v_origin record;
begin
  select o.* into v_origin from private.request_origin() o;
  if tg_op = 'INSERT' then
    with added as (
      insert into public.opt_ins (tenant_id, participant_id, channel, granted, wording, wording_version, business_name, source)
      select n.tenant_id, n.id, 'whatsapp', true, coalesce(v_given ->> 'wording', private.opt_in_wording(n.tenant_id, 'whatsapp')),
        coalesce(v_given ->> 'version', private.setting('opt_in_wording_version')), t.name,
        coalesce(v_given ->> 'source', case when (select auth.uid()) is null then 'platform' else 'join' end)
      from new_people n join public.tenants t on t.id = n.tenant_id
      where n.whatsapp_opt_in_at is not null
      returning tenant_id, id
    )
    insert into private.opt_in_origins (tenant_id, opt_in_id, ip, user_agent)
    select a.tenant_id, a.id, v_origin.ip, v_origin.user_agent from added a where num_nonnulls(v_origin.ip, v_origin.user_agent) > 0;
    return null;
  end if;
  with added as (
    insert into public.opt_ins (tenant_id, participant_id, channel, granted, wording, wording_version, business_name, source)
    select n.tenant_id, n.id, 'whatsapp', n.whatsapp_opt_in_at is not null,
      case when n.whatsapp_opt_in_at is not null then coalesce(v_given ->> 'wording', private.opt_in_wording(n.tenant_id, 'whatsapp')) end,
      case when n.whatsapp_opt_in_at is not null then coalesce(v_given ->> 'version', private.setting('opt_in_wording_version')) end,
      t.name, coalesce(v_given ->> 'source', case when (select auth.uid()) is null then 'platform' else 'participant' end)
    from new_people n
    join old_people o on o.tenant_id = n.tenant_id and o.id = n.id
    join public.tenants t on t.id = n.tenant_id
    where n.whatsapp_opt_in_at is distinct from o.whatsapp_opt_in_at
    returning tenant_id, id
  )
  insert into private.opt_in_origins (tenant_id, opt_in_id, ip, user_agent)
  select a.tenant_id, a.id, v_origin.ip, v_origin.user_agent from added a where num_nonnulls(v_origin.ip, v_origin.user_agent) > 0;
  perform private.end_queued(array_agg(n.tenant_id), array_agg(n.id), 'whatsapp', 'all', 'the participant has withdrawn consent')
  from new_people n
  join old_people o on o.tenant_id = n.tenant_id and o.id = n.id
  where n.whatsapp_opt_in_at is null and o.whatsapp_opt_in_at is not null
  having count(*) > 0;
  return null;
end
$function$;

create or replace function private.opt_in (
  p_tenant_id uuid,
  p_channel text,
  p_wording text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_person record;
  v_wording text;
  v_version text;
  v_origin record;
begin
  perform private.limit_calls('opt_in', (select auth.uid()));
  select p.id, p.phone, p.whatsapp_opt_in_at, t.name as business into v_person
  from public.participants p join public.tenants t on t.id = p.tenant_id
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid()) and t.status <> 'closed';
  if v_person.id is null then
    raise exception 'You are no participant of this business.' using errcode = 'PT404';
  end if;
  if p_channel is null or p_channel not in ('whatsapp', 'email') then
    raise exception 'A channel is whatsapp or email.' using errcode = '22023';
  end if;
  if p_wording is not null and (char_length(p_wording) > 2000 or strpos(lower(p_wording), lower(v_person.business)) = 0) then
    raise exception 'The wording must name the business, "%", and have at most 2000 characters.', v_person.business using errcode = '22023';
  end if;
  v_wording := coalesce(p_wording, private.opt_in_wording(p_tenant_id, p_channel));
  -- Words of one's own are known by what they say.
  v_version := case when p_wording is null then private.setting('opt_in_wording_version') else left(encode(sha256(convert_to(p_wording, 'UTF8')), 'hex'), 12) end;
  if p_channel = 'whatsapp' then
    if v_person.phone is null then
      raise exception 'Give a phone number first.' using errcode = '23514';
    end if;
    perform set_config('onecron.consent', jsonb_build_object('source', 'opt_in', 'wording', v_wording, 'version', v_version)::text, true);
    update public.participants p set whatsapp_opt_in_at = now() where p.tenant_id = p_tenant_id and p.id = v_person.id;
    perform set_config('onecron.consent', '', true);
  else
    select o.* into v_origin from private.request_origin() o;
    with added as (
      insert into public.opt_ins (tenant_id, participant_id, channel, granted, wording, wording_version, business_name, source)
      values (p_tenant_id, v_person.id, p_channel, true, v_wording, v_version, v_person.business, 'opt_in')
      returning tenant_id, id
    )
    insert into private.opt_in_origins (tenant_id, opt_in_id, ip, user_agent)
    select a.tenant_id, a.id, v_origin.ip, v_origin.user_agent from added a where num_nonnulls(v_origin.ip, v_origin.user_agent) > 0;
  end if;
  return jsonb_build_object('channel', p_channel, 'agreed', true, 'wording', v_wording, 'version', v_version);
end
$function$;

create or replace function private.opt_out (
  p_tenant_id uuid,
  p_channel text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_person record;
  v_origin record;
begin
  perform private.limit_calls('opt_in', (select auth.uid()));
  select p.id, t.name as business into v_person
  from public.participants p join public.tenants t on t.id = p.tenant_id
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid());
  if v_person.id is null then
    raise exception 'You are no participant of this business.' using errcode = 'PT404';
  end if;
  if p_channel is null or p_channel not in ('whatsapp', 'email') then
    raise exception 'A channel is whatsapp or email.' using errcode = '22023';
  end if;
  if p_channel = 'whatsapp' then
    perform set_config('onecron.consent', '{"source": "opt_out"}', true);
    update public.participants p set whatsapp_opt_in_at = null
    where p.tenant_id = p_tenant_id and p.id = v_person.id and p.whatsapp_opt_in_at is not null;
    perform set_config('onecron.consent', '', true);
  else
    if private.agrees(p_tenant_id, v_person.id, p_channel, 'all') then
      select o.* into v_origin from private.request_origin() o;
      with added as (
        insert into public.opt_ins (tenant_id, participant_id, channel, granted, business_name, source)
        values (p_tenant_id, v_person.id, p_channel, false, v_person.business, 'opt_out')
        returning tenant_id, id
      )
      insert into private.opt_in_origins (tenant_id, opt_in_id, ip, user_agent)
      select a.tenant_id, a.id, v_origin.ip, v_origin.user_agent from added a where num_nonnulls(v_origin.ip, v_origin.user_agent) > 0;
    end if;
    perform private.end_queued(array[p_tenant_id], array[v_person.id], p_channel, 'all', 'the participant has withdrawn consent');
  end if;
  return jsonb_build_object('channel', p_channel, 'agreed', false);
end
$function$;

create or replace function private.platform_contact_link (
  p_tenant_id uuid,
  p_code text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select 'https://wa.me/' || nullif(left(regexp_replace(c.account ->> 'display_phone_number', '[^0-9]', '', 'g'), 20), '') || '?text=' || p_code
  from private.platform_credentials c
  where c.provider = 'whatsapp'
    and not exists (select from public.credentials o where o.tenant_id = p_tenant_id and o.provider = 'whatsapp')
$function$;

create or replace function private.process_whatsapp (
  p_event private.webhook_events,
  p_account jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  -- Null is the platform's own number.
  v_tenant_id uuid := nullif(p_event.tenant_id, jobs.platform_id());
  v_counts jsonb;
  v_messages jsonb;
  v_statuses jsonb;
  v_preferences jsonb;
  v_errors jsonb;
begin
  select
    jsonb_build_object('updates', count(*), 'ignored', private.count_ignored(array_agg(p.reason))),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'message'), '[]'),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'status'), '[]'),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'preference'), '[]'),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'error' and p.position <= 20), '[]')
  into v_counts, v_messages, v_statuses, v_preferences, v_errors
  from (
    select s.*, row_number() over (partition by s.is_a) as position
    from private.split_whatsapp(p_event.body, p_account, p_event.received_at) s
  ) p;
  if v_messages <> '[]' then
    -- The opt-out before anything else: what the person joins or proves afterwards is another matter.
    v_counts := v_counts || jsonb_build_object('inbound', private.record_whatsapp_inbound(v_tenant_id,
      (select jsonb_agg(m - 'number_id') from jsonb_array_elements(v_messages) m)));
    if v_tenant_id is not null then
      v_counts := v_counts || jsonb_build_object('signals', private.record_signals(v_tenant_id, private.whatsapp_signals(v_messages)));
    else
      v_counts := v_counts || coalesce((
        select jsonb_build_object('decided', sum((private.record_signals(n.tenant_id, private.whatsapp_signals(n.messages)) ->> 'decided')::integer))
        from private.claims_by_messages(v_messages) n
        having count(*) > 0), '{}');
    end if;
  end if;
  if v_statuses <> '[]' then
    v_counts := v_counts || jsonb_build_object('statuses', private.record_message_statuses(v_tenant_id, v_statuses));
  end if;
  if v_preferences <> '[]' then
    v_counts := v_counts || jsonb_build_object('preferences', private.record_preferences(v_tenant_id, v_preferences));
  end if;
  if v_errors <> '[]' then
    update private.webhook_events e set errors = v_errors where e.tenant_id = p_event.tenant_id and e.id = p_event.id;
    perform private.act_on_account_errors(v_tenant_id, v_errors);
  end if;
  return v_counts;
end
$function$;

create or replace function private.record_message_statuses (
  p_tenant_id uuid,
  p_statuses jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_total integer := case when jsonb_typeof(p_statuses) = 'array' then jsonb_array_length(p_statuses) else 0 end;
  v_good integer;
  v_known integer;
  v_updated integer;
  v_tenant_ids uuid[];
  v_ids uuid[];
  v_codes integer[];
  v_reasons text[];
begin
  if v_total = 0 then
    return jsonb_build_object('updated', 0, 'unchanged', 0, 'unknown', 0, 'skipped', 0);
  end if;
  with report as materialized (
    select x.*, case when x.is_ours then split_part(x.callback, '/', 1)::uuid end as callback_tenant_id,
      case when x.is_ours then split_part(x.callback, '/', 2)::uuid end as callback_id
    from (
      select s ->> 'message_id' as message_id, s ->> 'callback' as callback,
        s ->> 'callback' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' as is_ours,
        case when s ->> 'status' = 'played' then 'read' else s ->> 'status' end as status, private.time_of(s ->> 'at') as at,
        case when s ->> 'code' ~ '^[0-9]{1,9}$' then (s ->> 'code')::integer end as code, left(s ->> 'details', 300) as details
      from jsonb_array_elements(p_statuses) s
      where jsonb_typeof(s) = 'object' and s ->> 'status' in ('sent', 'delivered', 'read', 'played', 'failed')
        and char_length(s ->> 'message_id') between 1 and 200
    ) x
    where x.at is not null
  ),
  -- Our own mark first, the provider's id else. A tenant's number speaks of that tenant's messages only.
  matched as materialized (
    select r.*, m.tenant_id, m.id
    from report r
    left join lateral (
      select x.tenant_id, x.id
      from (
        select o.tenant_id, o.id, 1 as n
        from public.notification_outbox o
        where o.tenant_id = r.callback_tenant_id and o.id = r.callback_id and o.channel = 'whatsapp'
          and (o.tenant_id = p_tenant_id or (p_tenant_id is null and coalesce(o.credential_source, 'platform') = 'platform'))
        union all
        select o.tenant_id, o.id, 2
        from public.notification_outbox o
        where o.provider_message_id = r.message_id and o.channel = 'whatsapp'
          and (o.tenant_id = p_tenant_id or (p_tenant_id is null and o.credential_source = 'platform'))
      ) x
      order by x.n, x.tenant_id, x.id
      limit 1
    ) m on true
  ),
  -- The furthest that is reported of each message: sent < failed < delivered < read, whatever order they come in.
  furthest as materialized (
    select distinct on (w.tenant_id, w.id) w.*
    from (
      select y.*, array_position(array['sent', 'failed', 'delivered', 'read'], y.status) as rank from matched y where y.id is not null
    ) w
    join public.notification_outbox o on o.tenant_id = w.tenant_id and o.id = w.id
    -- That an earlier try failed is known: the message was queued again for it.
    where not (w.status in ('sent', 'failed') and w.message_id = any (o.earlier_message_ids))
    order by w.tenant_id, w.id, w.rank desc, w.at
  ),
  changed as (
    update public.notification_outbox m
    set delivery = f.status, delivery_at = f.at,
      provider_message_id = case when f.message_id = any (m.earlier_message_ids) then m.provider_message_id else coalesce(m.provider_message_id, f.message_id) end,
      error_code = case when f.status = 'failed' then f.code end,
      -- A message that is with the worker is decided when its answer comes; one that was queued again has arrived after all.
      status = case
        when f.status = 'failed' then case when m.status in ('sent', 'unknown') then 'failed' else m.status end
        when m.status = 'queued' and (f.status = 'sent' or m.resends = 0) then m.status
        else 'sent' end,
      sent_at = case
        when f.status = 'failed' then case when m.status in ('sent', 'unknown') then null else m.sent_at end
        when m.status = 'queued' and (f.status = 'sent' or m.resends = 0) then m.sent_at
        else coalesce(m.sent_at, f.at) end,
      unknown_since = null,
      reason = case
        when f.status = 'failed' then left(format('WhatsApp %s: %s', coalesce(f.code::text, 'failed'), private.code_words(f.code, f.details)), 500)
        when m.status in ('sent', 'unknown', 'failed', 'queued') then null else m.reason end,
      held_until = null
    from furthest f
    where m.tenant_id = f.tenant_id and m.id = f.id
      and f.rank > coalesce(array_position(array['sent', 'failed', 'delivered', 'read'], m.delivery), 0)
    returning m.tenant_id, m.id, m.status, m.delivery, m.error_code, m.reason
  )
  select (select count(*) from report), (select count(*) from matched x where x.id is not null), (select count(*) from changed),
    array_agg(c.tenant_id) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null),
    array_agg(c.id) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null),
    array_agg(c.error_code) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null),
    array_agg(c.reason) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null)
  into v_good, v_known, v_updated, v_tenant_ids, v_ids, v_codes, v_reasons
  from changed c;

  if v_ids is not null then
    perform private.act_on_failures(v_tenant_ids, v_ids, v_codes, v_reasons);
  end if;
  return jsonb_build_object('updated', v_updated, 'unchanged', v_known - v_updated, 'unknown', v_good - v_known, 'skipped', v_total - v_good);
end
$function$;

create or replace function private.remove_credential (
  p_tenant_id uuid,
  p_provider public.provider
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_secret_id uuid;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
  end if;
  delete from public.credentials c where c.tenant_id = p_tenant_id and c.provider = p_provider returning c.secret_id into v_secret_id;
  if v_secret_id is null then
    return false;
  end if;
  delete from vault.secrets s where s.id = v_secret_id;
  perform jobs.unpark(p_tenant_id, p_provider);
  perform jobs.close_alert(p_tenant_id, format('credential %s expires', p_provider));
  perform jobs.close_alert(p_tenant_id, format('credential %s claims', p_provider));
  perform private.audit(p_tenant_id, 'credential.removed', jsonb_build_object('provider', p_provider));
  return true;
end
$function$;

create or replace function private.reopen_tenant (
  p_tenant_id uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_is_platform boolean := private.is_platform() or private.is_platform_admin();
begin
  -- The row first, by those who may ask: what is looked at then stays. The owners of a closed tenant may all have left meanwhile.
  perform from public.tenants t
  where t.id = p_tenant_id and (v_is_platform or exists (
    select from public.memberships m where m.tenant_id = t.id and m.user_id = (select auth.uid()) and m.role = 'owner'))
  for no key update;
  if not exists (
    select from public.tenants t
    where t.id = p_tenant_id
      and (v_is_platform and t.status <> 'active'
        or t.status = 'closed' and exists (
          select from public.memberships m where m.tenant_id = t.id and m.user_id = (select auth.uid()) and m.role = 'owner'))
  ) then
    raise exception 'There is no such tenant for you to reopen.' using errcode = '42501';
  end if;
  if not exists (select from public.memberships m where m.tenant_id = p_tenant_id and m.role = 'owner') then
    raise exception 'A tenant needs an owner. Add one first.' using errcode = 'PT409';
  end if;
  update public.tenants t set status = 'active' where t.id = p_tenant_id;
  perform private.audit(p_tenant_id, 'tenant.reopened');
end
$function$;

create or replace function private.set_credential (
  p_tenant_id uuid,
  p_provider public.provider,
  p_kind text,
  p_secret jsonb,
  p_account jsonb
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_secret_id uuid;
  v_fingerprint text := left(encode(sha256(convert_to(p_secret::text || p_tenant_id::text, 'UTF8')), 'hex'), 12);
  v_id uuid;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
    perform private.limit_calls('set_credential', p_tenant_id);
  end if;
  perform private.check_credential(p_provider, p_kind, p_secret, p_account);
  if p_kind in ('waapi', 'gateway') then
    perform private.require_unofficial_gateways();
    perform private.require_acknowledgement(p_tenant_id, 'unofficial_gateway');
  end if;
  v_secret_id := private.keep_secret(format('credential/%s/%s', p_tenant_id, p_provider), p_secret::text);
  insert into public.credentials as c (tenant_id, provider, kind, account, secret_id, fingerprint, secret_keys)
  values (p_tenant_id, p_provider, p_kind, p_account, v_secret_id, v_fingerprint, array(select k from jsonb_object_keys(p_secret) k order by k))
  on conflict on constraint one_credential_per_tenant_and_provider do update
    set kind = excluded.kind, account = excluded.account, secret_id = excluded.secret_id, fingerprint = excluded.fingerprint,
      secret_keys = excluded.secret_keys, secret_at = now(),
      health = 'unchecked', state = 'unchecked', health_reason = null, checked_at = null, expires_at = null, scopes = null
  returning c.id into v_id;
  perform jobs.unpark(p_tenant_id, p_provider);
  perform jobs.close_alert(p_tenant_id, format('credential %s expires', p_provider));
  perform jobs.close_alert(p_tenant_id, format('credential %s claims', p_provider));
  perform private.audit(p_tenant_id, 'credential.set',
    jsonb_build_object('provider', p_provider, 'kind', p_kind, 'fingerprint', v_fingerprint));
  return jsonb_build_object('credential_id', v_id, 'provider', p_provider, 'kind', p_kind, 'fingerprint', v_fingerprint);
exception
  -- Without its details, which would tell the whole row, with the columns that nobody may read.
  when check_violation or not_null_violation then
    raise exception '%', sqlerrm using errcode = sqlstate;
end
$function$;

create or replace function private.settle_claims (
  p_tenant_id uuid,
  p_subject_id uuid,
  p_payload jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_verdicts private.verdict[];
  -- Whether a message that was asked for would have been heard of: Instagram has told this business of messages within 30 days.
  v_hears boolean := exists (
    select from private.signals s where s.tenant_id = p_tenant_id and s.surface = 'instagram' and s.kind = 'message' and s.via = 'webhook');
begin
  with due as (
    select c.id, c.status::text as status, c.route, c.claimed_at, c.seen_at, t.kind::text as kind, k.proof, k.surface,
      exists (
        select from public.linked_accounts a
        where a.tenant_id = c.tenant_id and a.participant_id = c.participant_id and a.platform = 'instagram') as is_linked,
      -- The worker, who asks about linked people, brings this forward when it has asked after the deadline.
      c.settle_at < c.deadline + interval '1 day' as was_asked,
      coalesce(h.strategy, g.strategy, 'api') as strategy, coalesce(h.acceptance_rate, g.acceptance_rate, 0.85) as rate,
      case when coalesce(h.statistical_basis, g.statistical_basis) = 'follower_growth' then private.growth_platform(t.kind::text) end as growth_platform,
      coalesce(h.statistical_basis, g.statistical_basis) as basis,
      (c.claimed_at at time zone 'UTC')::date as day
    from public.completions c
    join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
    join public.task_kinds k on k.kind = t.kind::text
    left join public.campaign_strategies g on g.tenant_id = t.tenant_id and g.campaign_id = t.campaign_id
    join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
    left join public.cohorts h on h.tenant_id = p.tenant_id and h.id = p.cohort_id
    where c.tenant_id = p_tenant_id and c.settle_at <= now() and c.status::text in ('pending', 'needs_user_action')
    order by c.settle_at
    limit 2000
  ),
  growth as (
    -- What an account gained in a day. Of what the job counted, two accounts are no growth, nor are the hours after a late count.
    select d.growth_platform, d.day, claims.claims,
      case when before.account_id is null or after.account_id is null
          or (before.account_id = after.account_id and after.measured_at - before.measured_at >= interval '20 hours')
        then after.followers - before.followers end as growth
    from (select distinct due.growth_platform, due.day from due where due.growth_platform is not null) d
    left join public.follower_counts before on before.tenant_id = p_tenant_id and before.platform = d.growth_platform and before.day = d.day
    left join public.follower_counts after on after.tenant_id = p_tenant_id and after.platform = d.growth_platform and after.day = d.day + 1
    cross join lateral (
      select count(*) as claims
      from public.completions c join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
      where c.tenant_id = p_tenant_id and private.growth_platform(t.kind::text) = d.growth_platform
        and c.claimed_at >= d.day::timestamp at time zone 'UTC' and c.claimed_at < (d.day + 1)::timestamp at time zone 'UTC'
    ) claims
  ),
  chance as (
    select d.*, g.growth, g.claims,
      case when g.growth is not null then least(1, greatest(g.growth, 0)::numeric / greatest(g.claims, 1)) else d.rate end as acceptance
    from due d
    left join growth g on g.growth_platform = d.growth_platform and g.day = d.day
  ),
  judged as (
    select c.*,
      case
        when c.status = 'needs_user_action' and case when c.is_linked then c.was_asked else v_hears end then 'never acted'
        when c.status = 'needs_user_action' and not c.is_linked then 'not heard'
        when c.route = 'signal' and c.surface = 'link' then 'no visit'
        when c.route = 'signal' then 'no signal'
        else c.strategy end as because,
      private.draw(c.id) < c.acceptance as is_drawn
    from chance c
  )
  select array_agg((p_tenant_id, j.id,
      case
        when j.because in ('never acted', 'no visit') then 'failed'
        when j.because = 'honor_system' then 'verified'
        when j.because = 'statistical' then case when j.is_drawn then 'verified' else 'failed' end
        else 'manual_review' end,
      case j.because when 'never acted' then 'api' when 'no visit' then 'link' when 'honor_system' then 'honor_system' when 'statistical' then 'statistical' end,
      case j.because
        when 'never acted' then 'the step that was asked for was not taken in time'
        when 'no visit' then case j.kind when 'link_visit' then 'the link was not opened in time' else 'the sign-up was not confirmed in time' end
        when 'not heard' then 'Instagram tells this business of no messages, so nobody knows whether the step was taken: a person decides'
        when 'no signal' then format('%s told of nothing by the deadline, which proves nothing', initcap(j.surface))
        when 'honor_system' then 'accepted on the participant''s word; nothing was proven'
        -- By how much is for members: it stands in the record of the decision.
        when 'statistical' then case when j.is_drawn then 'accepted' else 'not accepted' end || ' by a draw, not by a proof'
        else case when j.route = 'api' then 'the platform could not be asked by the deadline: a person decides'
          else 'nothing can prove this claim: a person decides' end end,
      case when j.because = 'statistical' then jsonb_strip_nulls(jsonb_build_object(
        'draw', round(private.draw(j.id)::numeric, 6), 'acceptance', round(j.acceptance, 6), 'basis', case when j.growth is not null then 'follower_growth' else 'rate' end,
        'growth', j.growth, 'day', case when j.growth is not null then j.day end, 'claims', case when j.growth is not null then j.claims end,
        'why', case
          when j.growth is not null then null
          when j.growth_platform is not null then format('the followers of %s were not measured a day apart', j.day)
          when j.basis = 'follower_growth' then 'this kind of task makes no followers' end)) end,
      null, null, null, null)::private.verdict)
  into v_verdicts
  from judged j;
  return jsonb_build_object('decided', private.decide_completions(v_verdicts, 'settle-claims', '{pending,needs_user_action}'));
end
$function$;

create or replace function private.split_whatsapp (
  p_body jsonb,
  p_account jsonb,
  p_received_at timestamp with time zone
)
  returns table (
    is_a text,
    reason text,
    part jsonb
  )
  language sql
  stable
  set search_path to ''
  set jit to 'off'
  AS $function$
  with change as (
    select c ->> 'field' as field, c -> 'value' as value, private.json_text(c -> 'value' -> 'metadata' -> 'phone_number_id') as number_id,
      (p_account ->> 'waba_id' is not null and private.json_text(e -> 'id') is distinct from p_account ->> 'waba_id')
      or (p_account ->> 'phone_number_id' is not null and c -> 'value' ? 'metadata'
        and private.json_text(c -> 'value' -> 'metadata' -> 'phone_number_id') is distinct from p_account ->> 'phone_number_id') as is_other,
      regexp_replace(coalesce(private.json_text(c -> 'value' -> 'metadata' -> 'display_phone_number'), ''), '[^0-9]', '', 'g') as own_number,
      coalesce(private.webhook_time(e -> 'time'), p_received_at) as at
    from private.json_list(p_body -> 'entry') e, private.json_list(e -> 'changes') c
  ),
  part as (
    select 'message' as is_a, c, m as value from change c, private.json_list(c.value -> 'messages') m where c.field = 'messages'
    union all
    select 'status', c, s from change c, private.json_list(c.value -> 'statuses') s where c.field = 'messages'
    union all
    select 'preference', c, p from change c, private.json_list(c.value -> 'user_preferences') p where c.field = 'user_preferences'
    union all
    select 'error', c, x from change c, private.json_list(c.value -> 'errors') x
    union all
    select 'ignored', c, null from change c where coalesce(c.field, '') not in ('messages', 'user_preferences') and not coalesce(c.value ? 'errors', false)
  ),
  judged as (
    select p.*, case
      when (p.c).is_other then 'other account'
      when p.is_a = 'ignored' then format('unknown field %s', left(coalesce((p.c).field, '?'), 40))
      when p.is_a in ('message', 'status') and private.json_text(p.value -> 'id') is null then 'no id'
      when p.is_a = 'message' and private.json_text(p.value -> 'from') = nullif((p.c).own_number, '') then 'own'
      when p.is_a = 'message' and coalesce(private.json_text(p.value -> 'from'), private.json_text(p.value -> 'from_user_id')) is null then 'no sender'
      -- A changed number or a reaction is not a message that somebody wrote: it opens no window.
      when p.is_a = 'message' and p.value ->> 'type' in ('system', 'reaction') then format('message of type %s', p.value ->> 'type')
      when p.is_a = 'status' and coalesce(p.value ->> 'status', '') not in ('sent', 'delivered', 'read', 'played', 'failed')
        then format('status %s', left(coalesce(p.value ->> 'status', '?'), 20))
      when p.is_a = 'preference' and private.json_text(p.value -> 'wa_id') is null then 'no sender'
    end as reason
    from part p
  )
  select case when j.reason is null then j.is_a else 'ignored' end, j.reason,
    case j.is_a
      when 'message' then jsonb_build_object(
        'external_id', private.json_text(j.value -> 'id'), 'wa_id', private.json_text(j.value -> 'from'), 'user_id', private.json_text(j.value -> 'from_user_id'),
        'text', coalesce(private.json_text(j.value -> 'text' -> 'body'), private.json_text(j.value -> 'button' -> 'text'),
          private.json_text(j.value -> 'interactive' -> 'button_reply' -> 'title'), private.json_text(j.value -> 'interactive' -> 'list_reply' -> 'title'),
          private.json_text(j.value -> (j.value ->> 'type') -> 'caption')),
        'happened_at', coalesce(private.webhook_time(j.value -> 'timestamp'), (j.c).at),
        'profile_name', (
          select private.json_text(k -> 'profile' -> 'name') from private.json_list((j.c).value -> 'contacts') k
          where k ->> 'wa_id' = j.value ->> 'from' or k ->> 'user_id' = j.value ->> 'from_user_id' limit 1),
        'number_id', (j.c).number_id)
      when 'status' then jsonb_build_object(
        'message_id', private.json_text(j.value -> 'id'), 'callback', private.json_text(j.value -> 'biz_opaque_callback_data'), 'status', j.value ->> 'status',
        'at', coalesce(private.webhook_time(j.value -> 'timestamp'), (j.c).at),
        'code', j.value -> 'errors' -> 0 -> 'code',
        'details', left(coalesce(private.json_text(j.value -> 'errors' -> 0 -> 'error_data' -> 'details'),
          private.json_text(j.value -> 'errors' -> 0 -> 'title'), private.json_text(j.value -> 'errors' -> 0 -> 'message')), 500))
      when 'preference' then jsonb_build_object(
        'wa_id', private.json_text(j.value -> 'wa_id'), 'category', j.value ->> 'category', 'value', j.value ->> 'value',
        'at', coalesce(private.webhook_time(j.value -> 'timestamp'), (j.c).at))
      when 'error' then jsonb_strip_nulls(jsonb_build_object('code', j.value -> 'code', 'title', left(private.json_text(j.value -> 'title'), 200),
        'details', left(private.json_text(j.value -> 'error_data' -> 'details'), 300), 'at', (j.c).at)) end
  from judged j
$function$;

create or replace function private.start_linking (
  p_tenant_id uuid,
  p_platform text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_participant_id uuid;
  v_code text;
  v_expires_at timestamptz := now() + interval '1 hour';
begin
  perform private.limit_calls('start_linking', (select auth.uid()));
  select p.id into v_participant_id
  from public.participants p join public.tenants t on t.id = p.tenant_id
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid()) and t.status = 'active';
  if v_participant_id is null then
    raise exception 'Take part in a campaign of this business first.' using errcode = 'PT404';
  end if;
  if p_platform is null or p_platform not in ('instagram', 'facebook', 'whatsapp') then
    raise exception 'An account can be linked on instagram, facebook or whatsapp.' using errcode = '22023';
  end if;
  -- One code at a time.
  delete from private.link_codes l where l.tenant_id = p_tenant_id and l.participant_id = v_participant_id and l.platform = p_platform;
  loop
    v_code := private.new_code();
    continue when exists (select from public.completions c where c.tenant_id = p_tenant_id and c.code = v_code)
      -- At the platform's number the code alone says whose it is.
      or exists (select from private.link_codes l where l.code = v_code and l.used_at is null);
    insert into private.link_codes (tenant_id, code, participant_id, platform, expires_at)
    values (p_tenant_id, v_code, v_participant_id, p_platform, v_expires_at)
    on conflict do nothing;
    exit when found;
  end loop;
  return jsonb_build_object('code', v_code, 'expires_at', v_expires_at, 'link', coalesce(private.contact_link(p_tenant_id, p_platform, v_code),
    case p_platform when 'whatsapp' then private.platform_contact_link(p_tenant_id, v_code) end));
end
$function$;

create or replace function private.start_sender (
  p_sender_id uuid
)
  returns boolean
  language plpgsql
  set search_path to ''
  AS $function$
begin
  update private.senders s set stopped_at = null, stop_code = null, stop_reason = null, resumed_at = now()
  where s.tenant_id = p_sender_id and s.stopped_at is not null;
  if not found then
    return false;
  end if;
  perform jobs.close_alert(nullif(p_sender_id, jobs.platform_id()), 'sending whatsapp');
  return true;
end
$function$;

create or replace function private.stop_sender (
  p_sender_id uuid,
  p_code integer,
  p_reason text,
  p_at timestamp with time zone default now()
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  insert into private.senders as s (tenant_id, stopped_at, stop_code, stop_reason)
  values (p_sender_id, now(), p_code, left(p_reason, 500))
  on conflict (tenant_id) do update set stopped_at = excluded.stopped_at, stop_code = excluded.stop_code, stop_reason = excluded.stop_reason
    where s.stopped_at is null and (s.resumed_at is null or s.resumed_at <= p_at);
  if found then
    perform jobs.open_alert(nullif(p_sender_id, jobs.platform_id()), 'sending whatsapp',
      format('WhatsApp messages are stopped: %s. Solve it with WhatsApp, then call resume_sending. What waits is sent then.', p_reason));
  end if;
end
$function$;

create or replace function private.tenants_of_number (
  p_tenant_id uuid,
  p_wa_keys text[]
)
  returns table (
    tenant_id uuid,
    wa_key text
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select p_tenant_id, u from unnest(p_wa_keys) u where p_tenant_id is not null
  union
  select m.tenant_id, u
  from unnest(p_wa_keys) u
  join public.notification_outbox m on private.wa_key(m.recipient) = u and m.credential_source = 'platform' and m.channel = 'whatsapp'
  where p_tenant_id is null
  union
  -- Also before the first message: what is held for the night would come through this number.
  select p.tenant_id, u
  from unnest(p_wa_keys) u
  join public.participants p on private.wa_key(p.phone) = u and p.whatsapp_opt_in_at is not null
  where p_tenant_id is null
    and not exists (select from public.credentials o where o.tenant_id = p.tenant_id and o.provider = 'whatsapp')
$function$;

create or replace function private.tenants_to_measure()
  returns SETOF uuid
  language sql
  stable
  set search_path to ''
  AS $function$
  select n.tenant_id
  from (
    select s.tenant_id from public.campaign_strategies s where s.statistical_basis = 'follower_growth'
    union
    select h.tenant_id from public.cohorts h where h.statistical_basis = 'follower_growth'
  ) n
  join public.credentials c on c.tenant_id = n.tenant_id and c.provider = 'meta' and c.health <> 'broken'
  where exists (select from private.accounts_to_measure(n.tenant_id))
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
    where i.job = 'verify-social-tasks' and i.tenant_id = p_tenant_id and i.batch_id is null
      and i.waiting_for ~ '^unknown: (Meta (3|10|100|1705|2[0-9][0-9])[:/]|only an account connected|the credential does not name|The credential is )'
      and i.waiting_for !~ '^unknown: Meta 230:' and (t.kind::text <> 'instagram_follow' or i.waiting_for !~ '^unknown: Meta 100/33:')
    order by i.run_at
    limit 1);
end
$function$;

create or replace function private.unreminded (
  p_tenant_id uuid
)
  returns table (
    tenant_id uuid,
    completion_id uuid
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select c.tenant_id, c.id
  from public.reminder_settings s
  join public.campaigns g on g.tenant_id = s.tenant_id and g.id = s.campaign_id
  join public.social_tasks t on t.tenant_id = s.tenant_id and t.campaign_id = s.campaign_id
  join public.completions c on c.tenant_id = t.tenant_id and c.task_id = t.id
  where s.enabled and (p_tenant_id is null or s.tenant_id = p_tenant_id)
    and g.status = 'active' and g.notifications_enabled and (g.ends_at is null or g.ends_at > now())
    and c.status::text in ('pending', 'needs_user_action')
    -- What was seen once is done, and what a strategy decides cannot be proven.
    and c.seen_at is null and c.route <> 'strategy'
    and c.deadline > now() and c.deadline <= now() + s.remind_before
    -- Not right after the claim.
    and c.claimed_at < now() - interval '15 minutes'
    and not exists (select from public.notification_outbox m where m.tenant_id = c.tenant_id and m.dedupe_key = 'reminder/' || c.id)
$function$;

create or replace function private.unresolved (
  p_tenant_id uuid
)
  returns table (
    tenant_id uuid,
    id uuid
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select m.tenant_id, m.id
  from public.notification_outbox m
  left join public.message_settings s on s.tenant_id = m.tenant_id
  where m.unknown_since <= now() - interval '15 minutes' and (p_tenant_id is null or m.tenant_id = p_tenant_id) and m.status = 'unknown'
    and case m.channel
      when 'email' then m.first_tried_at > now() - interval '23 hours'
        -- Unless its bundle is lost: its key would not be known.
        and not exists (
          select from private.bundled_emails u
          join private.email_bundles b on b.tenant_id = u.tenant_id and b.id = u.bundle_id and b.lost_reason is not null
          where u.tenant_id = m.tenant_id and u.outbox_id = m.id)
      -- Once, and not after a day: what was to be said then is old.
      else s.resend_unknown and m.resends = 0 and m.unknown_since > now() - interval '1 day' end
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
    where i.tenant_id = p_tenant_id and i.job = 'verify-social-tasks' and i.dedupe_key = any (array(select 'asked/' || w from unnest(v_awake) w))
      and i.batch_id is null and i.run_at > now();
    perform jobs.enqueue_many('verify-social-tasks', array(select p_tenant_id from unnest(v_awake)), v_awake, now(),
      array(select 'asked/' || w from unnest(v_awake) w));
  end if;
end
$function$;

create or replace function private.wake_resting()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
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
$function$;

create or replace function private.warn_of_credential (
  p_tenant_id uuid,
  p_provider public.provider,
  p_reason text
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_incident text := format('credential %s expires', p_provider);
  v_claims text := format('credential %s claims', p_provider);
begin
  if p_reason like 'Some claims%' then
    perform jobs.close_alert(nullif(p_tenant_id, jobs.platform_id()), v_incident);
    v_incident := v_claims;
  else
    perform jobs.close_alert(nullif(p_tenant_id, jobs.platform_id()), v_claims);
  end if;
  if p_reason is null then
    perform jobs.close_alert(nullif(p_tenant_id, jobs.platform_id()), v_incident);
  else
    perform jobs.open_alert(nullif(p_tenant_id, jobs.platform_id()), v_incident, format('The %s credential: %s', p_provider, p_reason));
  end if;
end
$function$;

alter table "private"."bundled_emails"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "bundled_emails_outbox_fkey" foreign key (tenant_id, outbox_id)
    references public.notification_outbox(tenant_id, id) on delete cascade;

alter table "private"."bundled_emails"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "bundled_emails_bundle_fkey" foreign key (tenant_id, bundle_id)
    references private.email_bundles(tenant_id, id) on delete cascade;

alter table "private"."email_bundles"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "email_bundles_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

create view "jobs"."plan_levels" with (security_invoker=true) AS  SELECT job,
    plan_id,
    tries,
    success_rate,
    per_minute,
    wait_p50_seconds,
    wait_p95_seconds,
    wait_p99_seconds,
    target_seconds,
    within_target
   FROM jobs.service_report((now() - '1 day'::interval), NULL::uuid[], false) s(job, tenant_id, plan_id, tries, succeeded, success_rate, per_minute, wait_p50_seconds, wait_p95_seconds, wait_p99_seconds, target_seconds, within_target);

create view "jobs"."queues" with (security_invoker=true) AS  SELECT tenant_id,
    job,
    plan_id,
    awake,
    reason,
    detail,
    wake_at,
    ready,
    waiting,
    in_flight,
    oldest_ready_seconds,
    dead,
    expected_start
   FROM jobs.queue_state() q(tenant_id, job, plan_id, awake, reason, detail, wake_at, ready, waiting, in_flight, oldest_ready_seconds, dead, expected_start);

create view "jobs"."service_levels" with (security_invoker=true) AS  SELECT job,
    tenant_id,
    plan_id,
    tries,
    succeeded,
    success_rate,
    per_minute,
    wait_p50_seconds,
    wait_p95_seconds,
    wait_p99_seconds,
    target_seconds,
    within_target
   FROM jobs.service_report((now() - '1 day'::interval)) s(job, tenant_id, plan_id, tries, succeeded, success_rate, per_minute, wait_p50_seconds, wait_p95_seconds, wait_p99_seconds, target_seconds, within_target);

create view "public"."job_queues" with (security_invoker=true) AS  SELECT tenant_id,
    job,
    plan_id,
    awake,
    reason,
    detail,
    wake_at,
    ready,
    waiting,
    in_flight,
    oldest_ready_seconds,
    dead,
    expected_start
   FROM private.my_queues() q(tenant_id, job, plan_id, awake, reason, detail, wake_at, ready, waiting, in_flight, oldest_ready_seconds, dead, expected_start);

create index email_bundles_created_at_idx on private.email_bundles using btree (created_at);

create index link_codes_code_idx on private.link_codes using btree (code)
  where (used_at is null);

create index proofs_forgotten_idx on private.proofs using btree (tenant_id, task_id)
  where (proof ~~ 'forgotten:%'::text);

create trigger definitions_after_update_audit
  after update on jobs.definitions
  for each row
  when ((CURRENT_USER = 'service_role'::name))
  execute function private.audit_change('job', 'job');

create trigger provider_limits_after_write_audit
  after insert or delete or update on jobs.provider_limits
  for each row
  execute function private.audit_change('provider_limit', 'provider');

create trigger opt_in_origins_before_update_keep
  before update on private.opt_in_origins
  for each row
  execute function private.keep_entry();

create trigger settings_after_update_audit
  after update of value on private.settings
  for each row
  execute function private.audit_change('setting', 'name');

create trigger settings_after_update_time_zone
  after update of value on private.settings
  for each row
  when (((new.name = 'default_time_zone'::text) AND (new.value <> old.value)))
  execute function jobs.check_default_time_zone();

create trigger settings_before_update_check_time_zone
  before update of value on private.settings
  for each row
  when ((new.name = 'default_time_zone'::text))
  execute function jobs.check_default_time_zone();

create trigger campaign_strategies_after_update_audit
  after update of strategy, acceptance_rate, statistical_basis on public.campaign_strategies
  for each row
  execute function private.audit_change('strategy', 'campaign_id');

create trigger cohorts_after_update_audit
  after update of strategy, acceptance_rate, statistical_basis on public.cohorts
  for each row
  execute function private.audit_change('cohort', 'id');

create trigger credentials_after_insert_restart_sender
  after insert on public.credentials
  for each row
  when ((new.provider = 'whatsapp'::public.provider))
  execute function private.restart_sender();

create trigger credentials_after_write_audit
  after insert or delete or update on public.credentials
  for each row
  when ((CURRENT_USER = 'service_role'::name))
  execute function private.audit_change('credential', 'provider');

create trigger invitations_after_write_audit
  after insert or delete or update on public.invitations
  for each row
  when ((CURRENT_USER = 'service_role'::name))
  execute function private.audit_change('invitation', 'id');

create trigger memberships_after_write_audit
  after insert or delete or update on public.memberships
  for each row
  when (((CURRENT_USER = 'service_role'::name) OR (pg_trigger_depth() > 0)))
  execute function private.audit_change('member', 'user_id');

create trigger message_settings_after_update_audit
  after update of messages_per_second, resend_unknown, welcome_enabled on public.message_settings
  for each row
  execute function private.audit_change('message_settings', 'tenant_id');

create trigger plans_after_update_wake_resting
  after update of cadence_seconds on public.plans
  for each row
  when ((new.cadence_seconds < old.cadence_seconds))
  execute function private.wake_resting();

create trigger plans_after_write_audit
  after insert or delete or update on public.plans
  for each row
  execute function private.audit_change('plan_terms', 'plan_id');

create trigger reminder_settings_after_update_audit
  after update of enabled, remind_before on public.reminder_settings
  for each row
  execute function private.audit_change('reminder_settings', 'campaign_id');

create trigger tenants_after_delete_audit
  after delete on public.tenants
  for each row
  execute function private.audit_end_of_tenant();

create trigger tenants_after_update_audit_platform
  after update on public.tenants
  for each row
  when ((CURRENT_USER = 'service_role'::name))
  execute function private.audit_tenant();

create trigger tenants_after_update_audit
  after update of name,
    time_zone, locale, campaign_notifications, campaign_notify_from, campaign_notify_until on public.tenants
  for each row
  when ((CURRENT_USER <> 'service_role'::name))
  execute function private.audit_tenant();

comment on column "private"."bundled_emails"."versions" is 'In which versions of the call the mail was.';

comment on column "private"."email_bundles"."calls" is 'How often a worker set out to make the call. After the first nobody may know what became of it.';

comment on column "private"."email_bundles"."lost_reason" is 'Why nobody will know what became of it: its mails are not sent again.';

comment on column "private"."email_bundles"."request" is 'The worker''s own id of its last call of bundle_emails: the same one again is not counted twice.';

comment on column "private"."email_bundles"."versions" is 'How many versions of it were noted: the mails that were in the call, less those that had to be left out.';

comment on column "private"."senders"."resumed_at" is 'When it last went on: a report from before that, which WhatsApp tells late or again, does not stop it once more.';

comment on column "private"."webhook_events"."errors" is 'Errors that the provider told about the account itself: code, title, details and time.';

comment on column "public"."follower_counts"."account_id" is 'Whose followers these are, by the platform''s id, where measure-followers counted; null: noted by somebody else.';

comment on column "public"."notification_outbox"."bundled" is 'E-mails: true while it was only ever sent together with others, if at all. Once a mail was tried alone, with its own key, it stays alone.';

comment on function "jobs"."bundle_emails"(bigint, bigint[], text, uuid) is 'To be called right before e-mails of one tenant leave in one call: notes what the call consists of, or finds the bundle that one of them was sent in. {"bundle_id","call","version","sender","send_before","mails":[{"outbox_id","to","subject","text","html"}],"alone":[outbox_id]}: exactly these mails in this order, also those that were not asked for, with bundle_id as idempotency key; no mails: no call; alone: each by itself. {"lost": reason}: nobody knows what became of them, they are not sent again. Null: the lease is over, send nothing. With the same request (the caller''s own id of this call) it can be repeated. Definer: bundles are not reachable for any API role.';

comment on function "jobs"."check_default_time_zone"() is 'Trigger: the setting default_time_zone must be a known IANA name; the next slots of the jobs that name no zone follow it.';

comment on function "jobs"."check_definition"() is 'Trigger: refuses a wrong schedule or zone, and works out the next slot. Definer: with the secret key a schedule may be changed, and private.settings not be read.';

comment on function "jobs"."day_begins"(date, text) is 'The first moment of a local day.';

comment on function "jobs"."expect_fewer"(bigint[], bigint[]) is 'So many items of these runs were taken out of the queue: the runs expect as many ends less.';

comment on function "jobs"."is_slot_day"(jobs.cron, date) is 'True when a schedule may be due on this local day.';

comment on function "jobs"."latest_slots"(text, text, timestamp with time zone, timestamp
  with time zone, integer) is 'The latest slots of a schedule between two moments, at most so many, the latest first.';

comment on function "jobs"."next_slots"(text, text, timestamp
  with time zone, integer) is 'The next times of a schedule in a time zone after a moment. Errors: 22023 with what is wrong in the expression or the zone. Definer: the functions that take an expression apart are granted to nobody.';

comment on function "jobs"."pause"(text, uuid) is 'Pauses a job for everybody, or one tenant''s lane of it. What is out with a worker ends normally; nothing new starts; nothing is lost. P0002: no such job or tenant. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."queue_state"(uuid[]) is 'Every lane with its state, its waiting, ready, running and dead items, the age of the oldest ready one, and when one that came now would start (null: not by itself).';

comment on function "jobs"."record_follower_count"(uuid, text, integer, date) is 'Notes how many followers an account had on a day; false when that day has its count already. Whoever measures by other ways than the job measure-followers sees to it that counts are a day apart. Definer: the door for them.';

comment on function "jobs"."run_now"(text) is 'Starts a job by hand: {"run_id","drain_id","kind"}; the caller drains it (a SQL job by jobs.work_batch). Errors: P0002 no such job, 55000 paused, or everything stopped. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."service_report"(timestamp
  with time zone, uuid[], boolean) is 'Tries, success rate, throughput, waiting times and the share started within the plan''s target, since a moment; per job and tenant, or per job and plan.';

comment on function "jobs"."settle_emails"(uuid, uuid, integer, integer, text, uuid[], text[]) is
  'What became of a call that bundle_emails gave: accepted (with the ids of its mails, in order), accepted before (its key was used with another content), content refused, refused, or not sent. Accepted: {"mails":[{"outbox_id","status"}]} for all mails of the bundle, noted in the outbox at once: sent, unknown, or free (not sent, to be claimed again). Else {"dissolved"}: true when nothing of it can have left: after a refusal each mail then goes alone. Null: it was settled before. It is about a fact, so no lease is asked for. Definer: bundles are not reachable for any API role.';

comment on function "jobs"."why"(bigint, uuid) is 'Why an item is not running, in words: running, stopped, paused, breaker, due at, capped (its tenant, or the job or provider for all), asleep until because, behind n items with the expected start, dead, or ended how. Definer: reads definitions and history without a grant on each.';

comment on function "private"."accounts_to_measure"(uuid) is 'Accounts of a tenant whose followers are to be counted today: by platform, with the id that its Meta credential names.';

comment on function "private"."act_on_account_errors"(uuid, jsonb) is 'What WhatsApp tells of an account itself (locked, unpaid, token, permission …) stops its sending or parks its credential, with one alert, before the next message has to fail.';

comment on function "private"."act_on_failures"(uuid[], uuid[], integer[], text[]) is
  'What WhatsApp''s codes mean: later (131049), again (131000 and the like, as a report), no marketing (131050), template paused, sending stopped or the credential parked, each with an alert. Messages are marked as failed already.';

comment on function "private"."apply_credential_checks"(jobs.ended[]) is 'Apply function of the checks and of refresh-meta-tokens: health, end and scopes of the credential that was checked, if it is still the one; a broken one parks its owner''s work. An end within 7 days opens an alert, and so do claims that cannot be looked at though the token works.';

comment on function "private"."apply_follower_counts"(jobs.ended[]) is 'Apply function of measure-followers: notes the counts of today; the first count of a day stays.';

comment on function "private"."audit_change"() is 'Trigger: an audit row for a row that was added, changed or removed past the calls. Definer: no API role may write the audit log.';

comment on function "private"."audit_end_of_tenant"() is 'Trigger: an audit row for a tenant that was deleted. Definer: no API role may write the audit log.';

comment on function "private"."audit_tenant"() is 'Trigger: an audit row for what changed of a tenant: names and settings, or anything with the secret key. Definer: no API role may write the audit log.';

comment on function "private"."break_sender"(uuid, text, timestamp
  with time zone) is 'Parks the WhatsApp work of a sender (a tenant, or the platform''s id) as for a credential that was refused; one alert.';

comment on function "private"."claims_by_messages"(jsonb) is 'Of messages to the platform''s WhatsApp number those whose code names exactly one open whatsapp_join claim or one open link code, by tenant. Tenants with a WhatsApp credential of their own are left out.';

comment on function "private"."code_effect"(integer) is 'What a WhatsApp code means beyond the one message: template (the window is closed), later, again, no marketing, pause template, stop number, stop tenant, break credential; null: nothing.';

comment on function "private"."code_words"(integer, text) is 'What a report''s code means for the owner of the account, with WhatsApp''s own words; those alone for other codes.';

comment on function "private"."erase_person"(uuid, text) is 'Erases what a tenant knows of a person by Meta''s id: the linked account, signals, ids and names in evidence and profiles, bodies of webhooks. What the account has proven leaves a mark. Returns counts.';

comment on function "private"."evidence_without"(jsonb, text) is 'Evidence without its person: not as the author, and not in the id of a reaction or of a message without one (like `post:person`).';

comment on function "private"."followers_are_to_be_measured"() is 'Condition of measure-followers: while nobody goes by growth there is no run.';

comment on function "private"."forget_tenant"() is 'Trigger: the work of a deleted tenant goes with it, and its alerts are over. Definer: lanes and items belong to the engine.';

comment on function "private"."forgetting_key"() is 'The key of the marks; made when it is first needed. Replaced, it makes all marks meaningless.';

comment on function "private"."judge_emails"(uuid[], uuid[], timestamp
  with time zone) is 'For each of these messages, by position: why it is over, until when it waits for the campaign''s hours, and until when it may leave.';

comment on function "private"."load_emails"(uuid[], bigint[], uuid[], jsonb[]) is 'Load function of send-emails: what was frozen in the outbox, with its id as idempotency key. Held outside the campaign''s hours; ended a day after the first try. bundle_id: the bundle that it was sent in, maybe; together: it may leave in one call with the others of its tenant that say so.';

comment on function "private"."load_follower_counts"(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of measure-followers: {"fingerprint","accounts":[{"platform","account_id"}]}; cancelled when all of today''s counts are there.';

comment on function "private"."load_verifications"(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of verify-social-tasks: post, code and proven accounts of each pending completion, and what is known already. Items without an open completion are cancelled; one that was seen once is held until the second look.';

comment on function "private"."mark_of_forgotten"(uuid, text, text) is 'What stays of a proof whose person was forgotten: `forgotten:` and a keyed hash of tenant and proof.';

comment on function "private"."my_queues"() is 'Behind public.job_queues. Definer: lanes belong to the engine. Only tenants of the caller.';

comment on function "private"."platform_contact_link"(uuid, text) is 'The wa.me link that brings a code of this tenant to the platform''s number; null for a tenant with WhatsApp of its own.';

comment on function "private"."process_whatsapp"(private.webhook_events, jsonb) is 'Hands the parts of one WhatsApp body to the functions that record messages, statuses and preferences, and that act on errors of the account; returns the counts.';

comment on function "private"."settle_claims"(uuid, uuid, jsonb) is 'Work function of settle-claims: claims of one tenant whose time has come. The strategy decides what nothing could prove; a link that was not opened and a step that was not taken are definite; a signal that did not come is not, and goes to a person, as does a step that could not be heard of.';

comment on function "private"."stop_sender"(uuid, integer, text, timestamp
  with time zone) is 'Stops a sender (a tenant, or the platform''s number for all that use it) and opens one alert; not for what happened before it was resumed.';

comment on function "private"."tenants_of_number"(uuid, text[]) is 'For whom a person''s word to a number counts: the number''s tenant; for the platform''s number every tenant that wrote to the person through it, or that the person agreed to and that has no number of its own.';

comment on function "private"."tenants_to_measure"() is 'Eligible function of measure-followers.';

comment on function "private"."unreadable_claims"(uuid) is 'Why some claims of a tenant cannot be looked at though its Meta token works, by the task that waits; null when there are none.';

comment on function "private"."wake_resting"() is 'Trigger: a shorter cadence also ends the rest of lanes that began under the longer one. Definer: lanes belong to the engine.';

comment on function "private"."warn_of_credential"(uuid, public.provider, text) is 'Opens the alert about a credential that will stop to work soon, or is not enough for some claims; without a reason it closes it.';

comment on function "public"."reopen_tenant"(uuid) is 'Makes a closed tenant active again: its owners. Or a suspended one: the platform and its admins. Errors: 42501, PT409 it has no owner any more.';

comment on table "private"."bundled_emails" is 'The mails of each bundle in their order. The text is in the outbox, where it is frozen; it goes with the mail.';

comment on table "private"."email_bundles" is 'E-mails that leave in one call, from before the call until its answer is noted. Its id is the idempotency key; sender and account are frozen with it.';

comment on table "private"."opt_in_origins" is 'Address and browser of the request behind an entry of the ledger, where there was one. Not part of the API: the platform reads it.';

comment on table "private"."proofs" is 'Comments, media, messages and accounts that have proven a claim of a task, like `comment:17900…` or `author:1256…`. Of an account that was to be forgotten a mark like `forgotten:9c41…` stays.';

comment on view "jobs"."plan_levels" is 'The last day per job and plan: tries, success, throughput, waiting times; is each plan''s promised start kept?';

comment on view "jobs"."queues" is 'Every lane: awake or why not, what waits, what is in flight, the oldest ready item, dead ones, and when one that came now would start.';

comment on view "jobs"."service_levels" is 'The last day per job and tenant: tries, success, waiting times, share within the plan''s target.';

comment on view "public"."job_queues" is 'For members: the queues of their own tenants.';

revoke all on function "jobs"."bundle_emails"(bigint, bigint[], text, uuid) from public;

grant execute on function "jobs"."bundle_emails"(bigint, bigint[], text, uuid) to "service_role";

revoke all on function "jobs"."check_default_time_zone"() from public;

revoke all on function "jobs"."day_begins"(date, text) from public;

revoke all on function "jobs"."expect_fewer"(bigint[], bigint[]) from public;

revoke all on function "jobs"."is_slot_day"(jobs.cron, date) from public;

revoke all
  on function "jobs"."latest_slots"(text, text, timestamp with time zone, timestamp with time zone, integer)
  from public;

revoke all on function "jobs"."queue_state"(uuid[]) from public;

grant execute on function "jobs"."queue_state"(uuid[]) to "service_role";

revoke all on function "jobs"."service_report"(timestamp with time zone, uuid[], boolean) from public;

grant execute
  on function "jobs"."service_report"(timestamp with time zone, uuid[], boolean)
  to "service_role";

revoke all on function "jobs"."settle_emails"(uuid, uuid, integer, integer, text, uuid[], text[]) from public;

grant execute
  on function "jobs"."settle_emails"(uuid, uuid, integer, integer, text, uuid[], text[])
  to "service_role";

revoke all on function "private"."accounts_to_measure"(uuid) from public;

revoke all on function "private"."act_on_account_errors"(uuid, jsonb) from public;

revoke all on function "private"."apply_follower_counts"(jobs.ended[]) from public;

revoke all on function "private"."audit_change"() from public;

revoke all on function "private"."audit_end_of_tenant"() from public;

revoke all on function "private"."break_sender"(uuid, text, timestamp with time zone) from public;

revoke all on function "private"."code_words"(integer, text) from public;

revoke all on function "private"."evidence_without"(jsonb, text) from public;

revoke all on function "private"."followers_are_to_be_measured"() from public;

revoke all on function "private"."forgetting_key"() from public;

revoke all on function "private"."judge_emails"(uuid[], uuid[], timestamp with time zone) from public;

revoke all on function "private"."load_follower_counts"(uuid[], bigint[], uuid[], jsonb[]) from public;

revoke all on function "private"."mark_of_forgotten"(uuid, text, text) from public;

revoke all on function "private"."my_queues"() from public;

grant execute on function "private"."my_queues"() to "authenticated";

revoke all on function "private"."platform_contact_link"(uuid, text) from public;

revoke all on function "private"."stop_sender"(uuid, integer, text, timestamp with time zone) from public;

revoke all on function "private"."tenants_to_measure"() from public;

revoke all on function "private"."unreadable_claims"(uuid) from public;

revoke all on function "private"."wake_resting"() from public;

revoke all ("cohort_id") on table "public"."participants" from "authenticated";

grant select ("cohort_id") on table "public"."participants" to "authenticated";

revoke all ("created_at") on table "public"."participants" from "authenticated";

grant select ("created_at") on table "public"."participants" to "authenticated";

revoke all ("display_name") on table "public"."participants" from "authenticated";

grant select ("display_name"), update ("display_name") on table "public"."participants" to "authenticated";

revoke all ("facebook_user_id") on table "public"."participants" from "authenticated";

grant select ("facebook_user_id"), update ("facebook_user_id")
  on table "public"."participants"
  to "authenticated";

revoke all ("id") on table "public"."participants" from "authenticated";

grant select ("id") on table "public"."participants" to "authenticated";

revoke all ("instagram_username") on table "public"."participants" from "authenticated";

grant select ("instagram_username"), update ("instagram_username")
  on table "public"."participants"
  to "authenticated";

revoke all ("language") on table "public"."participants" from "authenticated";

grant select ("language"), update ("language") on table "public"."participants" to "authenticated";

revoke all ("phone") on table "public"."participants" from "authenticated";

grant select ("phone"), update ("phone") on table "public"."participants" to "authenticated";

revoke all ("tenant_id") on table "public"."participants" from "authenticated";

grant select ("tenant_id") on table "public"."participants" to "authenticated";

revoke all ("updated_at") on table "public"."participants" from "authenticated";

grant select ("updated_at") on table "public"."participants" to "authenticated";

revoke all ("whatsapp_opt_in_at") on table "public"."participants" from "authenticated";

grant select ("whatsapp_opt_in_at"), update ("whatsapp_opt_in_at")
  on table "public"."participants"
  to "authenticated";

grant select on table "jobs"."plan_levels" to "service_role";

grant select on table "jobs"."queues" to "service_role";

grant select on table "jobs"."service_levels" to "service_role";

grant select on table "public"."job_queues" to "authenticated";

create index participants_wa_key_idx on public.participants using btree (private.wa_key(phone))
  where (whatsapp_opt_in_at is not null);
