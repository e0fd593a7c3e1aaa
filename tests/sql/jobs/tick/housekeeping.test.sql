-- What looks after history must not stop what serves tenants.
begin;
select plan(5);
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
create or replace function jobs.make_partitions(p_now timestamptz) returns void language plpgsql set search_path = '' as $$
begin end $$;
insert into cron.job_run_details (jobid, runid, status, start_time, end_time)
select 900001, 900000 + n, status, clock_timestamp() - age, clock_timestamp() - age + lasted
from (values (1, 'succeeded', interval '2 days', interval '1 second'), (2, 'failed', '2 days', null), (3, 'succeeded', '1 hour', '1 second'), (4, 'running', '1 second', null)) as t (n, status, age, lasted);
insert into net._http_response (id, created) values (900001, now() - interval '2 hours'), (900002, now());
select tests.tick();
select is((select count(*) from jobs.alerts where incident = 'housekeeping' and closed_at is null), 0::bigint, 'which is closed when it works again');
select is((select array_agg(id) from net._http_response where id > 900000), array[900002::bigint], 'old answers of pg_net are gone');
select is((select array_agg(runid order by runid) from cron.job_run_details where jobid = 900001), array[900003, 900004]::bigint[], 'so are the runs of pg_cron, also those that a crash cut off');

select * from finish();
rollback;
