-- One pg_cron entry, which calls the tick.
begin;
select plan(14);
select tests.tenant('pizza', 'pro');
select tests.job('bake');

select is((select count(*) from cron.job), 1::bigint, 'there is one pg_cron entry for all jobs and tenants');
select ok((select bool_and(j.active and j.command like '%jobs.tick(false)%') from cron.job j), 'it is active and calls the tick');
select jobs.start_tick(), jobs.start_tick();
select is((select count(*) from cron.job), 1::bigint, 'setting it up again keeps it one');
select throws_ok('select jobs.start_tick(0)', '22023', null, 'a tick comes every second at most');
select throws_ok('select jobs.start_tick(61)', '22023', null, 'and every minute at least');
select is(jobs.start_tick(60), '* * * * *', 'every minute is a plain schedule');
select is((select tick_seconds from jobs.platform), 60, 'which the health check knows');

update jobs.platform set last_tick_at = null;
select bag_eq($$ select jsonb_object_keys(tests.tick()) $$, array['reaped', 'opened', 'rung'], 'a tick says what it did');
select ok((select last_tick_at from jobs.platform) > now() - interval '1 minute', 'and leaves its time');

-- A stopped platform takes back what is lost, but starts nothing.
select tests.enqueue('bake', 'pizza');
select tests.claim('bake');
select tests.enqueue('bake', 'pizza');
select tests.pass('2 minutes');
select jobs.stop_all(true);
create table pg_temp.stopped as select tests.tick() as t;
select is((t ->> 'reaped')::integer, 1, 'with everything stopped lost items are still taken back') from pg_temp.stopped;
select is((t ->> 'rung')::integer, 0, 'but no doorbell is rung') from pg_temp.stopped;
select jobs.stop_all(false);
select is((select string_agg(action, ' ' order by action) from public.audit_log where action like 'platform.s%' and at = now()), 'platform.started platform.stopped', 'the audit log knows both');

select tests.member('pizza', 'pizza owner', 'owner');
select is(tests.answer('pizza owner', 'select jobs.tick()'), '42501', 'no user ticks');
select is(tests.error_of('service_role', 'select jobs.tick()'), null, 'service_role may');

select * from finish();
rollback;
