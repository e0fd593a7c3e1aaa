-- Runs and their counts by tenant go into partitions by month; rows that are there are kept. By hand: a generated difference would
-- drop the tables and make them anew.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
set local check_function_bodies = off;

-- This locks both tables: nobody writes a run meanwhile; the tick and the workers wait, at most for the copy of 90 days of runs.
alter table jobs.run_tenants drop constraint run_tenants_run_fkey;
-- squawk-ignore renaming-table
alter table jobs.run_tenants rename to run_tenants_before;
alter index jobs.run_tenants_pkey rename to run_tenants_before_pkey;
alter index jobs.run_tenants_run_id_idx rename to run_tenants_before_run_id_idx;
-- squawk-ignore renaming-table
alter table jobs.runs rename to runs_before;
alter index jobs.runs_pkey rename to runs_before_pkey;
alter index jobs.runs_job_started_at_idx rename to runs_before_job_started_at_idx;
alter sequence jobs.runs_run_id_seq rename to runs_before_run_id_seq;

create table jobs.runs (
  run_id bigint generated always as identity,
  job text not null,
  trigger text not null,
  slot timestamptz,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  status jobs.run_status not null default 'running',
  expected bigint,
  processed bigint not null default 0,
  failed bigint not null default 0,
  message text,
  errors jsonb not null default '[]',
  primary key (run_id, started_at),
  constraint runs_job_fkey foreign key (job) references jobs.definitions (job) on delete cascade,
  constraint trigger_is_one_of_the_known check (trigger in ('queue', 'schedule', 'manual')),
  constraint a_scheduled_run_has_a_slot check ((trigger = 'schedule') = (slot is not null)),
  constraint a_run_that_ended_has_a_status check ((status = 'running') = (finished_at is null))
) partition by range (started_at);
create table jobs.runs_default partition of jobs.runs default;
create index runs_job_started_at_idx on jobs.runs (job, started_at desc);
create index runs_open_idx on jobs.runs (job) where finished_at is null;
alter table jobs.runs enable row level security;
alter table jobs.runs_default enable row level security;
revoke all on jobs.runs, jobs.runs_default from public, anon, authenticated, service_role;
grant select on jobs.runs to service_role;

create table jobs.slots (
  job text not null,
  slot timestamptz not null,
  primary key (job, slot),
  constraint slots_job_fkey foreign key (job) references jobs.definitions (job) on delete cascade
);
create index slots_slot_idx on jobs.slots (slot);
alter table jobs.slots enable row level security;
revoke all on jobs.slots from public, anon, authenticated, service_role;
grant select on jobs.slots to service_role;

create table jobs.open_runs (
  job text primary key,
  run_id bigint not null,
  constraint open_runs_job_fkey foreign key (job) references jobs.definitions (job) on delete cascade
);
alter table jobs.open_runs enable row level security;
revoke all on jobs.open_runs from public, anon, authenticated, service_role;
grant select on jobs.open_runs to service_role;

create table jobs.run_tenants (
  tenant_id uuid not null,
  run_id bigint not null,
  drain_id uuid not null,
  started_at timestamptz not null default now(),
  processed bigint not null default 0,
  failed bigint not null default 0,
  primary key (tenant_id, run_id, drain_id, started_at)
) partition by range (started_at);
create table jobs.run_tenants_default partition of jobs.run_tenants default;
create index run_tenants_run_id_idx on jobs.run_tenants (run_id);
alter table jobs.run_tenants enable row level security;
alter table jobs.run_tenants_default enable row level security;
revoke all on jobs.run_tenants, jobs.run_tenants_default from public, anon, authenticated, service_role;
grant select on jobs.run_tenants to service_role;

-- The partitions that the rows go into: every month that has any, this one and the next.
do $$
declare
  v_month date;
begin
  for v_month in
    select m::date
    from generate_series(
      date_trunc('month', coalesce((select min(r.started_at) from jobs.runs_before r), now()) at time zone 'UTC'),
      date_trunc('month', now() at time zone 'UTC') + interval '1 month', interval '1 month') m
  loop
    execute format('create table jobs.runs_%s partition of jobs.runs for values from (%L) to (%L)', to_char(v_month, 'YYYYMM'),
      v_month::timestamp at time zone 'UTC', (v_month + interval '1 month')::timestamp at time zone 'UTC');
    execute format('alter table jobs.runs_%s enable row level security', to_char(v_month, 'YYYYMM'));
    execute format('create table jobs.run_tenants_%s partition of jobs.run_tenants for values from (%L) to (%L)', to_char(v_month, 'YYYYMM'),
      v_month::timestamp at time zone 'UTC', (v_month + interval '1 month')::timestamp at time zone 'UTC');
    execute format('alter table jobs.run_tenants_%s enable row level security', to_char(v_month, 'YYYYMM'));
  end loop;
end
$$;

insert into jobs.runs (run_id, job, trigger, slot, started_at, finished_at, status, expected, processed, failed, message, errors)
overriding system value
select r.run_id, r.job, r.trigger, r.slot, r.started_at, r.finished_at, r.status, r.expected, r.processed, r.failed, r.message, r.errors
from jobs.runs_before r;
select setval('jobs.runs_run_id_seq', (select s.last_value from jobs.runs_before_run_id_seq s), (select s.is_called from jobs.runs_before_run_id_seq s));

insert into jobs.run_tenants (tenant_id, run_id, drain_id, started_at, processed, failed)
select t.tenant_id, t.run_id, t.drain_id, r.started_at, t.processed, t.failed
from jobs.run_tenants_before t
join jobs.runs_before r on r.run_id = t.run_id;

insert into jobs.slots (job, slot) select r.job, r.slot from jobs.runs_before r where r.slot is not null;
insert into jobs.open_runs (job, run_id) select r.job, r.run_id from jobs.runs_before r where r.trigger = 'queue' and r.finished_at is null;

-- squawk-ignore ban-drop-table
drop table jobs.run_tenants_before, jobs.runs_before;

-- What writes runs, from this moment on. In the same transaction: a slot that falls due in between must not be lost.
create or replace function jobs.start_slot(p_definition jobs.definitions, p_slot timestamptz, p_trigger text default 'schedule')
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_run_id bigint;
  v_tenant_ids uuid[];
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
    execute format('select array(select t.id from %s() e join public.tenants t on t.id = e where t.status = ''active'' order by t.id)',
      (p_definition).eligible_function::regproc) into v_tenant_ids;
  else
    v_tenant_ids := array(select t.id from public.tenants t where t.status = 'active' order by t.id);
  end if;

  if cardinality(v_tenant_ids) > 0 then
    perform jobs.take_guards((p_definition).job, v_tenant_ids);
    insert into jobs.items (tenant_id, job, run_id, run_at, payload)
    select u, (p_definition).job, v_run_id, now(), v_payload from unnest(v_tenant_ids) u;
    perform jobs.wake_lanes((p_definition).job, v_tenant_ids, array(select now() from unnest(v_tenant_ids)));
  end if;
  update jobs.runs r set expected = cardinality(v_tenant_ids) where r.run_id = v_run_id;
  if cardinality(v_tenant_ids) = 0 then
    perform jobs.finish_run(v_run_id);
  end if;
  return v_run_id;
end
$$;

create or replace function jobs.open_run(p_job text, p_trigger text)
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_run_id bigint;
begin
  if p_trigger = 'queue' then
    -- The items of a scheduled job have the run of their slot.
    if exists (select from jobs.definitions d where d.job = p_job and d.schedule is not null) then
      return null;
    end if;
    select o.run_id into v_run_id from jobs.open_runs o where o.job = p_job;
    if found then
      return v_run_id;
    end if;
    -- Of two that open one at once the second waits here for the first, and joins it.
    v_run_id := nextval('jobs.runs_run_id_seq');
    insert into jobs.open_runs (job, run_id) values (p_job, v_run_id) on conflict do nothing;
    if not found then
      select o.run_id into v_run_id from jobs.open_runs o where o.job = p_job;
      return v_run_id;
    end if;
    insert into jobs.runs (run_id, job, trigger) overriding system value values (v_run_id, p_job, 'queue');
    return v_run_id;
  end if;
  insert into jobs.runs (job, trigger) values (p_job, p_trigger) returning run_id into v_run_id;
  return v_run_id;
end
$$;

create or replace function jobs.finish_run(p_run_id bigint)
returns void
language sql
set search_path = ''
as $$
  delete from jobs.open_runs o where o.run_id = p_run_id;
  update jobs.runs r
  set finished_at = clock_timestamp(), processed = c.processed, failed = c.failed, errors = c.errors,
    status = case when c.failed > 0 and c.processed = 0 then 'error' when c.failed > 0 or c.errors <> '[]' then 'warning' else 'success' end::jobs.run_status,
    message = case
      when c.processed = 0 and c.failed = 0 and c.errors = '[]' then 'Nothing to do.'
      else format('%s done, %s failed.', c.processed, c.failed) end
  from jobs.run_counts(p_run_id) c
  where r.run_id = p_run_id and r.finished_at is null
$$;

create or replace function jobs.count_run(p_batch jobs.batches, p_settled jobs.settled[])
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
  -- Looked up once for each run, which nearly always is one.
  with run as materialized (
    select d.run_id, x.started_at
    from (select distinct u.run_id from unnest(p_settled) u where u.ends and u.run_id is not null) d
    cross join lateral (select y.started_at from jobs.runs y where y.run_id = d.run_id offset 0) x
  )
  insert into jobs.run_tenants as rt (tenant_id, run_id, drain_id, started_at, processed, failed)
  select c.tenant_id, c.run_id, (p_batch).drain_id, r.started_at, c.processed, c.failed
  from (
    select u.tenant_id, u.run_id, count(*) filter (where u.dies is null) as processed, count(*) filter (where u.dies is not null) as failed
    from unnest(p_settled) u
    where u.ends and u.run_id is not null
    group by u.tenant_id, u.run_id
  ) c
  join run r on r.run_id = c.run_id
  order by c.run_id, c.tenant_id
  on conflict (tenant_id, run_id, drain_id, started_at) do update set processed = rt.processed + excluded.processed, failed = rt.failed + excluded.failed;

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
