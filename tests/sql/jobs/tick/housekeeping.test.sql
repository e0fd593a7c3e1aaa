-- What looks after history must not stop what serves tenants.
begin;
select plan(11);
-- The stack's own cron ticks beside this test: it waits outside.
select pg_advisory_xact_lock(hashtextextended('onecron tick', 0));
select tests.tenant('pizza', 'pro');
select private.keep_secret('project_url', 'http://127.0.0.1:9');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
update jobs.definitions set paused = true;
select tests.job('bake', '{}');
select tests.enqueue('bake', 'pizza');
update jobs.platform set cleaned_at = '-infinity';
create or replace function jobs.make_partitions(p_now timestamptz) returns void language plpgsql set search_path = '' as $$
begin raise exception 'somebody holds the partition'; end $$;
select is((jobs.tick() ->> 'rung')::int, 1, 'a doorbell is rung although the clean-up failed');
select is((select message from jobs.alerts where incident = 'housekeeping' and closed_at is null),
  'The tick could not look after its history: somebody holds the partition', 'and an alert says so');
select is((select round(extract(epoch from p.cleaned_at + interval '1 hour' - p.last_tick_at) / 60) from jobs.platform p), 5::numeric, 'it is tried again five minutes later, not at every tick');
select tests.tick();
select is((select count(*) from jobs.alerts where incident = 'housekeeping' and closed_at is null), 1::bigint, 'until then the alert stays open');
create or replace function jobs.make_partitions(p_now timestamptz) returns void language plpgsql set search_path = '' as $$
begin end $$;
insert into cron.job_run_details (jobid, runid, command, status, start_time, end_time)
select 900001, 900000 + n, command, status, clock_timestamp() - age, clock_timestamp() - age + lasted
from (values (1, 'begin perform jobs.tick(false); commit', 'starting', null, null), (2, 'begin perform jobs.tick(); commit', 'succeeded', interval '2 days', interval '1 second'),
  (3, 'select somebodys_own()', 'succeeded', '2 days', '1 second'), (4, 'select jobs.tick()', 'failed', '2 days', null),
  (5, 'select jobs.tick()', 'succeeded', '1 hour', '1 second'), (6, 'select jobs.tick()', 'running', '1 second', null)) as t (n, command, status, age, lasted);
insert into net._http_response (id, created) values (900001, now() - interval '2 hours'), (900002, now()), (900003, now() - interval '2 hours'), (900004, now() - interval '2 hours');
insert into jobs.drains (job, request_id, rung_at, ended_at) values ('bake', 900001, now() - interval '2 hours', now() - interval '2 hours'), ('bake', 900002, now(), now()),
  ('bake', 900004, now() - interval '1 hour', now() - interval '1 hour');
select tests.pass('5 minutes 1 second');
select tests.tick();
select is((select count(*) from jobs.alerts where incident = 'housekeeping' and closed_at is null), 0::bigint, 'which is closed when it works again');
select is((select array_agg(id) from net._http_response where id > 900000), array[900002, 900003, 900004]::bigint[], 'old answers to doorbells are gone, others stay');
select is((select array_agg(runid order by runid) from cron.job_run_details where jobid = 900001), array[900003, 900005, 900006]::bigint[], 'so are the old runs of the tick, also those that a crash cut off; those of another entry stay');
select is((select count(*) from jobs.drains where request_id > 900000), 3::bigint, 'the drains are remembered for a day');
update jobs.drains set ended_at = now() - interval '25 hours' where request_id > 900000;
update jobs.platform set cleaned_at = '-infinity';
select tests.tick();
select is((select count(*) from jobs.drains where request_id > 900000), 0::bigint, 'and no longer');

-- Nor may what looks for incidents.
create or replace function jobs.look_at_backlogs(p_now timestamptz) returns void language plpgsql set search_path = '' as $$
begin assert false, 'no look'; end $$;
update jobs.platform set watched_at = '-infinity', cleaned_at = '-infinity';
select tests.tick();
select is((select count(*) from jobs.alerts where incident = 'watch' and closed_at is null), 1::bigint, 'a look for incidents that fails is an incident itself');
select ok((select cleaned_at > '-infinity' from jobs.platform), 'and history is looked after all the same');

select * from finish();
rollback;
