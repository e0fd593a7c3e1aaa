begin;
select plan(20);
select tests.tenant('pizza', 'pro');
select tests.job('bake');
select tests.enqueue('bake', 'pizza', 3);

create table pg_temp.drain as select tests.drain('bake') as one, tests.drain('bake') as two;
create function pg_temp.run() returns jobs.runs language sql as $$ select r from jobs.runs r where r.job = 'bake' order by r.run_id desc limit 1 $$;
select is((select count(distinct run_id) from jobs.drains where job = 'bake'), 1::bigint, 'drains at the same time belong to one run');
create table pg_temp.batch as select jobs.next_batch(one, 'bake', 1)::jsonb as b from pg_temp.drain;
select jobs.end_drain(two) from pg_temp.drain;
select is((pg_temp.run()).finished_at, null, 'the run goes on while one of them works');
select tests.close(b, '{"outcome": "done"}') from pg_temp.batch;
select jobs.end_drain(one) from pg_temp.drain;
select is((pg_temp.run()).status::text || ': ' || (pg_temp.run()).message, 'success: 1 done, 0 failed.', 'with the last one it ends');
select is(jobs.next_batch(one, 'bake')::jsonb, null, 'a drain that has ended gets nothing any more') from pg_temp.drain;
select lives_ok(format('select jobs.end_drain(%L)', one), 'ending it again is no error') from pg_temp.drain;
select lives_ok('select jobs.end_drain(gen_random_uuid())', 'nor is ending one that nobody knows');

-- A drain that falls silent
create table pg_temp.lost as select tests.drain('bake') as d;
create table pg_temp.left as select jobs.next_batch(d, 'bake', 1)::jsonb as b from pg_temp.lost;
select tests.pass('69 seconds');
select tests.tick();
select is((select ended_at from jobs.drains, pg_temp.lost where drain_id = d), null, 'a drain is heard of within a lease and ten seconds');
select tests.pass('2 seconds');
select tests.tick();
select is((select error from jobs.drains, pg_temp.lost where drain_id = d), 'the worker was lost', 'then it is given up');
select isnt((pg_temp.run()).finished_at, null, 'and its run is over');
select tests.pass('1 hour');
select tests.enqueue('bake', 'pizza');
select is(jobs.next_batch(d, 'bake')::jsonb, null, 'should it come back it gets nothing') from pg_temp.lost;
select isnt(tests.claim('bake'), null, 'while another does');

select jobs.end_drain(tests.drain('bake'), repeat('x', 1000));
select is((select max(length(error)) from jobs.drains), 500, 'an error is kept to 500 characters');

-- A drain that failed is no success, although none of its items did.
select jobs.end_drain(drain_id) from jobs.drains where job = 'bake' and ended_at is null;
delete from jobs.items where job = 'bake';
delete from jobs.alerts;
select tests.pass('1 second');
create table pg_temp.failed as select tests.drain('bake') as d;
select jobs.end_drain(d, 'This worker does not know the job bake.') from pg_temp.failed;
select is((pg_temp.run()).status::text, 'error', 'a run whose drain failed before it did anything failed');
select is((pg_temp.run()).errors, jsonb_build_array(jsonb_build_object('drain_id', d, 'error', 'This worker does not know the job bake.')), 'and says why') from pg_temp.failed;
select jobs.watch(clock_timestamp());
select is((select message from jobs.alerts where incident = 'failed bake' and closed_at is null), 'The last run of bake failed: This worker does not know the job bake.', 'as the alert does');
select tests.pass('1 second');
select tests.enqueue('bake', 'pizza', 2);
create table pg_temp.half as select tests.drain('bake') as d;
select tests.close(jobs.next_batch(d, 'bake', 1)::jsonb, '{"outcome": "done"}') from pg_temp.half;
select jobs.end_drain(d, 'The drain ended: a call to the database failed.') from pg_temp.half;
select is((pg_temp.run()).status::text || ': ' || (pg_temp.run()).message, 'warning: 1 done, 0 failed.', 'one that failed after it did something is a warning');
select jobs.watch(clock_timestamp());
select is((select count(*) from jobs.alerts where incident = 'failed bake' and closed_at is null), 0::bigint, 'and no alert');
create table pg_temp.good as select tests.drain('bake') as d;
select tests.close(jobs.next_batch(d, 'bake', 1)::jsonb, '{"outcome": "done"}') from pg_temp.good;
select jobs.end_drain(d) from pg_temp.good;
select is((pg_temp.run()).status::text, 'success', 'one that ends well is a success');
select is(jobs.run_result((select run_id from jobs.drains, pg_temp.failed where drain_id = d)) -> 'results' -> 'errors' -> 0 ->> 'error', 'This worker does not know the job bake.', 'whoever ran it by hand is told, too');
select is((pg_temp.run()).errors, '[]'::jsonb, 'errors of another run are not its own');

select * from finish();
rollback;
