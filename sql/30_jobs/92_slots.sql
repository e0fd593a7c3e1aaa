-- Slots: a scheduled job becomes a run per slot, with one item for the platform or one for every eligible tenant.

-- What nobody serves (a lane that is paused, functions that are down for days) must not pile up: no more slots of a job wait for one tenant
-- than would be made up for if they had been missed.
create function jobs.behind(p_definition jobs.definitions, p_tenant_ids uuid[])
returns uuid[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return array(
    select u
    from unnest(p_tenant_ids) u
    where (p_definition).misfire_limit = (
      select count(x.run_id)
      from (
        select i.run_id from jobs.items i
        where i.job = (p_definition).job and i.tenant_id = u
        order by i.run_at desc, i.item_id desc
        limit (p_definition).misfire_limit
      ) x));
end
$$;

comment on function jobs.behind(jobs.definitions, uuid[]) is 'Those of these tenants for whom misfire_limit earlier slots of the job wait.';

create function jobs.start_slot(p_definition jobs.definitions, p_slot timestamptz, p_trigger text default 'schedule')
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_run_id bigint;
  v_tenant_ids uuid[];
  v_behind uuid[] := '{}';
  v_wanted boolean;
  v_payload jsonb := jsonb_build_object('slot', p_slot);
begin
  if (p_definition).condition_function is not null and p_trigger = 'schedule' then
    execute format('select %s()', (p_definition).condition_function::regproc) into v_wanted;
    if v_wanted is not true then
      return null;
    end if;
  end if;
  -- The slot is unique: whoever comes second, a tick that overlaps or a catch-up, makes no second run.
  if p_trigger = 'schedule' then
    insert into jobs.slots (job, slot) values ((p_definition).job, p_slot) on conflict do nothing;
    if not found then
      return null;
    end if;
  end if;
  insert into jobs.runs (job, trigger, slot)
  values ((p_definition).job, p_trigger, case when p_trigger = 'schedule' then p_slot end)
  returning run_id into v_run_id;

  if (p_definition).scope = 'platform' then
    v_tenant_ids := array[jobs.platform_id()];
  elsif (p_definition).eligible_function is not null then
    -- The platform itself may be among them: its own credentials are looked after like any tenant's.
    execute format('select array(select distinct e from %s() e left join public.tenants t on t.id = e
        where t.status = ''active'' or e = jobs.platform_id() order by e)',
      (p_definition).eligible_function::regproc) into v_tenant_ids;
  else
    v_tenant_ids := array(select t.id from public.tenants t where t.status = 'active' order by t.id);
  end if;

  if cardinality(v_tenant_ids) > 0 then
    perform jobs.take_guards((p_definition).job, v_tenant_ids);
    if p_trigger = 'schedule' then
      v_behind := jobs.behind(p_definition, v_tenant_ids);
      v_tenant_ids := array(select u from unnest(v_tenant_ids) u where u <> all (v_behind) order by u);
    end if;
    insert into jobs.items (tenant_id, job, run_id, run_at, payload)
    select u, (p_definition).job, v_run_id, now(), v_payload from unnest(v_tenant_ids) u;
    perform jobs.wake_lanes((p_definition).job, v_tenant_ids, array(select now() from unnest(v_tenant_ids)));
  end if;
  update jobs.runs r
  set expected = cardinality(v_tenant_ids), message = case when v_behind <> '{}' then
    format('%s got nothing: %s earlier slots wait for each of them.', cardinality(v_behind), (p_definition).misfire_limit) end
  where r.run_id = v_run_id;
  if cardinality(v_tenant_ids) = 0 then
    perform jobs.finish_run(v_run_id);
  end if;
  return v_run_id;
end
$$;

comment on function jobs.start_slot(jobs.definitions, timestamptz, text) is
  'Opens the run of one slot and enqueues its items in one statement; null when the slot has a run already or the job''s condition says no.';

-- Opens every slot that is due, by the job's misfire policy when some were missed.
create function jobs.open_due_slots(p_now timestamptz, p_job text default null)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_definition jobs.definitions;
  v_zone text;
  v_slots timestamptz[];
  v_slot timestamptz;
  v_opened integer;
  v_count integer := 0;
begin
  for v_definition in
    select d.* from jobs.definitions d where d.next_slot_at <= p_now and not d.paused and (p_job is null or d.job = p_job)
    order by d.next_slot_at for update skip locked
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
      -- "Others" is without a failed assert. What is cancelled is take_step's.
      when assert_failure or others then
        -- One job whose condition or eligibility raises must not stop the others. Its slot stays due: every tick tries again, and
        -- when it works again the misfire policy says what becomes of what was missed.
        perform jobs.open_alert(null, format('schedule %s', v_definition.job),
          format('The slot %s of %s could not be started: %s', v_definition.next_slot_at, v_definition.job, sqlerrm));
    end;
  end loop;
  return v_count;
end
$$;

comment on function jobs.open_due_slots(timestamptz, text) is 'Starts the runs of all slots that are due; missed ones by the job''s misfire policy. Returns how many runs.';

-- The last p_count slots between two moments, the latest first. Goes back day by day from the end, so that a long gap of a frequent
-- schedule is cheap.
create function jobs.latest_slots(p_schedule text, p_zone text, p_from timestamptz, p_until timestamptz, p_count integer)
returns setof timestamptz
language plpgsql stable
set search_path = ''
as $$
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
$$;

comment on function jobs.latest_slots(text, text, timestamptz, timestamptz, integer) is 'The latest slots of a schedule between two moments, at most so many, the latest first.';
