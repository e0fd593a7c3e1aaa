-- One alert per incident, opened when it is seen, closed when it is over.
begin;
select plan(28);
select tests.tenant('pizza', 'pro');
select tests.job('bake', '{"max_attempts": 1}');
delete from jobs.alerts;
delete from jobs.drains;
delete from jobs.dead_items;
update jobs.platform set last_tick_at = clock_timestamp();

create function pg_temp.open() returns text language plpgsql as $$
begin
  perform jobs.watch(clock_timestamp());
  return coalesce((select string_agg(a.incident, ', ' order by a.incident) from jobs.alerts a where a.closed_at is null and a.incident ~ '(bake|^tick)'), 'none');
end
$$;
select is(pg_temp.open(), 'none', 'without an incident there is no alert');

-- dead items, and a run that failed
select tests.enqueue('bake', 'pizza');
create table pg_temp.run as select jobs.run_now('bake') as r;
select tests.close(jobs.next_batch((r ->> 'drain_id')::uuid, 'bake')::jsonb, '{"outcome": "refused", "error": "x"}') from pg_temp.run;
select jobs.end_drain((r ->> 'drain_id')::uuid) from pg_temp.run;
select is(pg_temp.open(), 'dead bake, failed bake', 'items that died, and a run in which all failed');
select pg_temp.open();
select is((select count(*) from jobs.alerts where incident = 'dead bake'), 1::bigint, 'one alert for an incident, however often one looks');
select tests.pass('2 hours');
update jobs.platform set last_tick_at = clock_timestamp();
select is(pg_temp.open(), 'failed bake', 'an hour later the dead are no news');
insert into jobs.runs (job, trigger, started_at, finished_at, status) values ('bake', 'manual', clock_timestamp(), clock_timestamp(), 'success');
select is(pg_temp.open(), 'none', 'a run that succeeds ends the alert');

-- backlog
select jobs.enqueue('bake', tests.id('pizza'), run_at => now() - interval '10 minutes');
update jobs.lanes set awake = true, reason = null, wake_at = null, detail = null where job = 'bake';
select is(pg_temp.open(), 'backlog bake', 'work that waits longer than its plan promises');
select tests.close(tests.claim('bake'), '{"outcome": "done"}');
select is(pg_temp.open(), 'none', 'until it is done');

-- However many lanes of another job are awake, and whoever is there to wake a lane
select tests.job('fry');
select jobs.make_lanes('fry', array(select tests.id('lane ' || n) from generate_series(1, 250) n));
update jobs.lanes l set awake = true, reason = null, vtime = -1 where l.job = 'fry' and not l.awake;
select jobs.enqueue('bake', tests.id('pizza'), run_at => now() - interval '10 minutes');
update jobs.lanes set awake = true, reason = null, wake_at = null, detail = null, vtime = 1000 where job = 'bake';
select is(pg_temp.open(), 'backlog bake', 'a job is not overlooked beside one with many lanes');
update jobs.lanes set awake = false, reason = 'waiting', wake_at = clock_timestamp() where job = 'bake';
select is(pg_temp.open(), 'backlog bake', 'nor is work that no worker comes for');
delete from jobs.lane_keys where job = 'fry';
select tests.close(tests.claim('bake'), '{"outcome": "done"}');
select is(pg_temp.open(), 'none', 'until it is done, too');

-- doorbells
insert into jobs.drains (job, rung_at) select 'bake', clock_timestamp() - interval '1 minute' from generate_series(1, 3);
select is(pg_temp.open(), 'doorbells bake', 'doorbells that nobody answers');
update jobs.drains set answered_at = clock_timestamp() where job = 'bake';
select is(pg_temp.open(), 'none', 'until somebody does');

-- the tick itself
update jobs.platform set last_tick_at = clock_timestamp() - interval '1 hour';
select is(pg_temp.open(), 'tick', 'a tick that came late');
update jobs.platform set last_tick_at = clock_timestamp();
select is(pg_temp.open(), 'none', 'until it comes in time');
select is((select count(*) from jobs.alerts where closed_at is null and tenant_id is not null), 0::bigint, 'none of these is a tenant''s');

-- open_alert and close_alert
select jobs.open_alert(tests.id('pizza'), 'test', 'first');
select jobs.open_alert(tests.id('pizza'), 'test', 'second');
select is((select string_agg(message, ', ') from jobs.alerts where incident = 'test'), 'first', 'an incident that is open is not opened again');
select jobs.open_alert(null, 'test', 'platform');
select is((select count(*) from jobs.alerts where incident = 'test'), 2::bigint, 'another owner''s incident is another one');
select jobs.close_alert(tests.id('pizza'), 'test');
select is((select string_agg(message, ', ') from jobs.alerts where incident = 'test' and closed_at is null), 'platform', 'each is closed for itself');
select jobs.open_alert(tests.id('pizza'), 'test', 'third');
select is((select count(*) from jobs.alerts where incident = 'test'), 3::bigint, 'after it was closed it may be opened anew');
select jobs.watch(clock_timestamp());
select is((select count(*) from jobs.alerts where incident = 'test' and closed_at is null), 2::bigint, 'who looks for incidents closes only its own');

-- A run that is late
select tests.job('daily', '{"schedule": "0 0 1 1 *", "eligible_function": "private.tests_eligible"}');
create function private.tests_eligible() returns setof uuid language sql set search_path = '' as $$
  select t.id from public.tenants t where t.slug = 'pizza'
$$;
create function pg_temp.late() returns bigint language plpgsql as $$
begin
  perform jobs.watch(clock_timestamp() + interval '2 hours');
  return (select count(*) from jobs.alerts a where a.incident = 'overdue daily' and a.closed_at is null);
end
$$;
select jobs.start_slot(d, now()) from jobs.definitions d where d.job = 'daily';
select is(pg_temp.late(), 1::bigint, 'a run that is not over after an hour');
select jobs.pause('daily', tests.id('pizza'));
select is(pg_temp.late(), 0::bigint, 'is late for a known reason when it waits for paused lanes only');
select jobs.resume('daily', tests.id('pizza'));
select is(pg_temp.late(), 1::bigint, 'and not when they could be served');

select jobs.pause('daily');
select is(pg_temp.late(), 0::bigint, 'nor is it an incident while the job is paused');
select jobs.resume('daily');

-- Work that waits because somebody said so
select jobs.enqueue('bake', tests.id('pizza'), run_at => now() - interval '10 minutes');
update jobs.lanes set awake = true, reason = null, wake_at = null, detail = null where job = 'bake';
select jobs.stop_all(true);
select is(pg_temp.open(), 'none', 'while everything is stopped a backlog is no incident');
select jobs.stop_all(false);
select is(pg_temp.open(), 'backlog bake', 'when it goes on, it is');
select jobs.pause('bake');
select is(pg_temp.open(), 'none', 'and not while its job is paused');
select jobs.resume('bake');

-- A batch that could not be taken back
select jobs.open_alert(null, 'reap bake', 'x', '{"batch_id": -1}');
select jobs.watch(clock_timestamp());
select is((select count(*) from jobs.alerts where incident = 'reap bake' and closed_at is null), 0::bigint, 'once it is gone the alert is over');

select * from finish();
rollback;
