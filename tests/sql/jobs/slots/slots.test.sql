-- A scheduled job: one run per slot, missed ones by the job's policy, one tenant's trouble is its own.
begin;
select plan(33);
create table pg_temp.baked (tenant_id uuid, slot text);
create function private.tests_bake(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  if exists (select from public.tenants t where t.id = p_tenant_id and t.slug = 'gym') then
    raise exception 'The oven is cold.';
  end if;
  insert into pg_temp.baked values (p_tenant_id, p_payload ->> 'slot');
  return '{"loaves": 1}';
end
$$;
-- Only the tenants of this test, whatever else is in the database.
-- Each twice, as a join gives them.
create function private.tests_eligible() returns setof uuid language sql set search_path = '' as $$
  select t.id from public.tenants t, generate_series(1, 2) where t.slug in ('pizza', 'gym', 'salon')
$$;
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym', 'salon']) slug;
update public.tenants set status = 'suspended' where slug = 'salon';
select tests.job('bake', '{"kind": "sql", "work_function": "private.tests_bake", "eligible_function": "private.tests_eligible", "schedule": "0 * * * *", "max_attempts": 1}');

create function pg_temp.due(p_job text, p_slot timestamptz) returns integer language plpgsql as $$
begin
  update jobs.definitions set next_slot_at = p_slot where job = p_job;
  return (tests.tick() ->> 'opened')::integer;
end
$$;

select is((tests.tick() ->> 'opened')::integer, 0, 'before its time nothing is opened');
select is(pg_temp.due('bake', date_trunc('hour', now())), 1, 'a slot that is due is opened');
select is((select count(*) from jobs.runs where job = 'bake' and trigger = 'schedule' and slot = date_trunc('hour', now())), 1::bigint, 'as a run of its slot');
select is((select expected from jobs.runs where job = 'bake')::integer, 2, 'with one item for every active tenant');
select is((select next_slot_at from jobs.definitions where job = 'bake'), date_trunc('hour', now()) + interval '1 hour', 'the next slot is known');
select is((tests.tick() ->> 'opened')::integer, 0, 'a second tick opens nothing');
select is(pg_temp.due('bake', date_trunc('hour', now())), 0, 'not even when it believes that the slot is due');
select is((select count(*) from jobs.runs where job = 'bake'), 1::bigint, 'a slot has one run');

select tests.work();
select is((select string_agg(t.slug, ' ') from pg_temp.baked b join public.tenants t on t.id = b.tenant_id), 'pizza', 'the database does the work itself; one tenant that fails stops nobody');
select is((select status || ': ' || message from jobs.runs where job = 'bake'), 'warning: 1 done, 1 failed.', 'the run tells');
select is((select last_error from jobs.dead_items where job = 'bake'), 'The oven is cold. (P0001)', 'the failed item says why');
select is((select count(*) from jobs.items where job = 'bake'), 0::bigint, 'nothing is left');
select is(tests.work(), 0, 'and nothing to do');

-- Missed slots
select is(pg_temp.due('bake', date_trunc('hour', now()) - interval '5 hours'), 0, 'of missed slots only the last counts, which had its run');
delete from jobs.runs where job = 'bake'; delete from jobs.slots where job = 'bake';
select is(pg_temp.due('bake', date_trunc('hour', now()) - interval '5 hours'), 1, 'once: what was missed is done once');
select is((select slot from jobs.runs where job = 'bake'), date_trunc('hour', now()), 'for the last slot');
delete from jobs.runs where job = 'bake'; delete from jobs.slots where job = 'bake';
update jobs.definitions set misfire = 'all', misfire_limit = 3 where job = 'bake';
select is(pg_temp.due('bake', date_trunc('hour', now()) - interval '5 hours'), 3, 'all: up to the limit');
select is((select min(slot) from jobs.runs where job = 'bake'), date_trunc('hour', now()) - interval '2 hours', 'the latest of them');
delete from jobs.runs where job = 'bake'; delete from jobs.slots where job = 'bake';
update jobs.definitions set misfire = 'skip', schedule = '* * * * *' where job = 'bake';
select is(pg_temp.due('bake', date_trunc('minute', now()) - interval '1 hour'), 1, 'skip: only a slot of just now');
select is((select slot from jobs.runs where job = 'bake'), date_trunc('minute', now()), 'and none of the missed');

-- However many were missed, it is the latest that count.
delete from jobs.runs where job = 'bake'; delete from jobs.slots where job = 'bake';
update jobs.definitions set misfire = 'all', misfire_limit = 3 where job = 'bake';
select is(pg_temp.due('bake', date_trunc('minute', now()) - interval '4 days'), 3, 'all, after days of a schedule for each minute: up to the limit');
select is((select min(slot) from jobs.runs where job = 'bake'), date_trunc('minute', now()) - interval '2 minutes', 'still the latest');
select is((select array_agg(s) from jobs.latest_slots('* 0-14 * * *', 'UTC', '2026-01-01', '2026-01-10 23:30Z', 2) s),
  array['2026-01-10 14:59Z', '2026-01-10 14:58Z']::timestamptz[], 'also of a schedule that rested since');
select is((select array_agg(s) from jobs.latest_slots('0 0 29 2 *', 'UTC', '2023-01-01', '2026-01-10', 2) s), array['2024-02-29 00:00Z']::timestamptz[], 'or comes once in four years');
select is((select array_agg(s) from jobs.latest_slots('0 12 * * *', 'UTC', '2026-01-10 12:00Z', '2026-01-10 12:00Z', 2) s), array['2026-01-10 12:00Z']::timestamptz[],
  'both ends belong to it');

-- What may not stop the others
create function private.tests_condition() returns boolean language plpgsql set search_path = '' as $$
begin
  raise exception 'No idea.';
end
$$;
delete from jobs.items where job = 'bake';
select tests.job('fry', '{"kind": "sql", "scope": "platform", "work_function": "private.tests_bake", "schedule": "0 * * * *", "condition_function": "private.tests_condition"}');
update jobs.definitions set misfire = 'once', schedule = '0 * * * *' where job = 'bake';
delete from jobs.runs where job = 'bake'; delete from jobs.slots where job = 'bake';
update jobs.definitions set next_slot_at = date_trunc('hour', now()) where job in ('bake', 'fry');
select is((tests.tick() ->> 'opened')::integer, 1, 'a job whose condition raises does not stop the others');
select is((select count(*) from jobs.alerts where incident = 'schedule fry' and closed_at is null), 1::bigint, 'it is an alert');
select tests.tick();
select is((select count(*) from jobs.alerts where incident = 'schedule fry'), 1::bigint, 'one alert, however often it is tried');
create or replace function private.tests_condition() returns boolean language sql set search_path = '' as 'select true';
select is((tests.tick() ->> 'opened')::integer, 1, 'when it can say yes again the slot is opened after all');
select is((select count(*) from jobs.alerts where incident = 'schedule fry' and closed_at is null), 0::bigint, 'and the alert is over');
delete from jobs.items where job = 'fry';
update jobs.definitions set paused = true where job = 'bake';
delete from jobs.runs where job = 'bake'; delete from jobs.slots where job = 'bake';
select is(pg_temp.due('bake', date_trunc('hour', now())), 0, 'a paused job opens no slot');

-- By hand
update jobs.definitions set paused = false, next_slot_at = 'infinity' where job = 'bake';
delete from jobs.items where job = 'bake';
create table pg_temp.run as select jobs.run_now('bake') as r;
create function pg_temp.work_by_hand() returns integer language plpgsql as $$
declare
  v_drain_id uuid := (select (r ->> 'drain_id')::uuid from pg_temp.run);
  v_batch_id bigint := jobs.work_batch(v_drain_id, 'bake');
  v_count integer := 0;
begin
  while v_batch_id is not null loop
    v_batch_id := jobs.work_batch(v_drain_id, 'bake', v_batch_id);
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;
select is(pg_temp.work_by_hand(), 2, 'by hand a scheduled job has a run and items of its own');
select jobs.end_drain((r ->> 'drain_id')::uuid) from pg_temp.run;
select is(jobs.run_result((r ->> 'run_id')::bigint) -> 'results' ->> 'processed', '1', 'and answers like any other') from pg_temp.run;

select * from finish();
rollback;
