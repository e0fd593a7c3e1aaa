-- Started by hand from SQL: nobody holds a drain for it, so whoever rings is answered by a worker.
begin;
select plan(16);
select pg_advisory_xact_lock(hashtextextended('onecron tick', 0));
select tests.tenant('pizza', 'pro');
select private.keep_secret('project_url', 'http://127.0.0.1:9');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
update jobs.definitions set paused = true;
select tests.job('bake', '{"max_drains": 1, "has_cadence": true}');
select tests.job('daily', '{"max_drains": 1, "schedule": "0 0 1 1 *", "eligible_function": "private.tests_eligible"}');
create function private.tests_eligible() returns setof uuid language sql set search_path = '' as $$
  select t.id from public.tenants t where t.slug = 'pizza'
$$;
create function pg_temp.rung(p_job text) returns bigint language sql as $$
  select count(*) from jobs.drains d where d.job = p_job and d.answered_at is null and d.ended_at is null
$$;

-- A schedule
create table pg_temp.run as select jobs.start('daily') as run_id;
select is((select trigger || ' ' || expected from jobs.runs, pg_temp.run where runs.run_id = run.run_id), 'manual 1', 'a scheduled job gets a run with its items');
select is(pg_temp.rung('daily'), 1::bigint, 'a doorbell is rung at once');
select is((select count(*) from jobs.drains where job = 'daily' and answered_at is not null), 0::bigint, 'nobody is taken for a worker that is none');
select tests.close(tests.claim('daily'), '{"outcome": "done"}');
select jobs.finish_lost_drains(clock_timestamp());
select is((select status::text from jobs.runs, pg_temp.run where runs.run_id = run.run_id), 'success', 'whoever does its items ends the run');

-- A queue, whose lane rests
update public.plans set cadence_seconds = 300 where plan_id = 'pro';
select tests.enqueue('bake', 'pizza');
select tests.close(tests.claim('bake'), '{"outcome": "done"}');
select tests.enqueue('bake', 'pizza');
select tests.claim('bake');
select is(tests.lane('bake', 'pizza'), 'asleep: cadence, wakes', 'a lane that rests');
update jobs.drains set ended_at = now() where job = 'bake';
select is(jobs.start('bake'), null, 'a queue has no run yet');
select is(pg_temp.rung('bake'), 1::bigint, 'a doorbell is rung');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'and its lanes do not rest');

-- Refused
select throws_ok($$ select jobs.start('fry') $$, 'P0002', 'There is no job "fry".', 'a job that does not exist is an error');
select jobs.pause('bake');
select throws_ok($$ select jobs.start('bake') $$, '55000', null, 'so is one that is paused');
select jobs.resume('bake');
select jobs.stop_all(true);
select throws_ok($$ select jobs.start('bake') $$, '55000', null, 'or anything while all is stopped');
select jobs.stop_all(false);
select is(tests.answer('service_role', $$ select jobs.start('bake') is null $$), 'true', 'the platform starts jobs');
select tests.member('pizza', 'pizza owner', 'owner');
select is(tests.answer('pizza owner', $$ select jobs.start('bake') $$), '42501', 'others do not');
select is((select count(*) from public.audit_log where action = 'job.started' and at = now()), 3::bigint, 'the audit log knows each start');

-- Control: run_now keeps a place for the caller, who drains.
update jobs.drains set ended_at = now();
select tests.enqueue('bake', 'pizza');
create table pg_temp.now as select jobs.run_now('bake') as r;
select is(jobs.ring(clock_timestamp()), 0, 'while a caller drains no doorbell is rung for the same place');
select isnt(jobs.next_batch((r ->> 'drain_id')::uuid, 'bake')::jsonb, null, 'it has the work') from pg_temp.now;

select * from finish();
rollback;
