-- What nobody serves does not pile up: no more slots of a job wait for one tenant than misfire_limit.
begin;
select plan(12);
create function private.tests_eligible() returns setof uuid language sql set search_path = '' as $$
  select t.id from public.tenants t where t.slug in ('pizza', 'gym')
$$;
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym']) slug;
select tests.job('bake', '{"eligible_function": "private.tests_eligible", "schedule": "0 * * * *", "misfire_limit": 3, "max_attempts": 5}');
select jobs.pause('bake', tests.id('gym'));

create function pg_temp.due(p_hours integer) returns integer language plpgsql as $$
begin
  update jobs.definitions set next_slot_at = date_trunc('hour', now()) + make_interval(hours => p_hours) where job = 'bake';
  return jobs.open_due_slots(date_trunc('hour', now()) + make_interval(hours => p_hours), 'bake');
end
$$;
create function pg_temp.waiting(p_slug text) returns bigint language sql as $$
  select count(*) from jobs.items i where i.job = 'bake' and i.tenant_id = tests.id(p_slug)
$$;

-- Pizza is served after each slot, the paused gym is not.
create function pg_temp.hour(p_hours integer) returns text language plpgsql as $$
begin
  perform pg_temp.due(p_hours);
  perform tests.close(tests.claim('bake'), '{"outcome": "done"}');
  perform jobs.finish_ended_runs('bake');
  return (select r.expected || ': ' || coalesce(r.message, '') from jobs.runs r where r.job = 'bake' order by r.run_id desc limit 1);
end
$$;
select is(pg_temp.hour(1), '2: ', 'a slot is for both');
select is(pg_temp.hour(2), '2: ', 'and the next');
select is(pg_temp.hour(3), '2: ', 'and the third');
select is(pg_temp.waiting('gym'), 3::bigint, 'three of them wait for the lane that is paused');
select is(pg_temp.hour(4), '1: 1 done, 0 failed. 1 got nothing: 3 earlier slots wait for each of them.', 'no fourth is put there; the run says so, and ends');
select is(pg_temp.waiting('gym'), 3::bigint, 'three wait');
select is((select count(*) from jobs.attempts where job = 'bake' and tenant_id = tests.id('pizza')), 4::bigint, 'whoever is served gets each slot');

select isnt(jobs.start('bake'), null, 'who starts it by hand');
select is(pg_temp.waiting('gym'), 4::bigint, 'means everybody');

select jobs.resume('bake', tests.id('gym'));
select tests.close(tests.claim('bake'), '{"outcome": "done"}');
select is(pg_temp.waiting('gym'), 0::bigint, 'what waited is served after the pause');
select is(pg_temp.hour(5), '2: 2 done, 0 failed.', 'then the slots come again');
select is((select count(*) from jobs.runs where job = 'bake' and finished_at is null), 0::bigint, 'no run is left open');
select * from finish();
rollback;
