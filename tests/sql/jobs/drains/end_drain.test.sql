begin;
select plan(12);
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
select tests.pass('119 seconds');
select tests.tick();
select is((select ended_at from jobs.drains, pg_temp.lost where drain_id = d), null, 'a drain is heard of within two leases');
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

select * from finish();
rollback;
