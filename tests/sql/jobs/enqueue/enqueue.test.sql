begin;
select plan(29);
select tests.tenant('pizza');
select tests.tenant('gym');
select tests.job('bake');
select tests.job('late', '{"start_delay_seconds": 300}');

select is(jobs.enqueue('bake', tests.id('pizza')), 1, 'an item is added');
select is(tests.lane('bake', 'pizza'), 'asleep: waiting, wakes', 'and its lane is about to wake');
select is(tests.lane('bake', 'gym'), null, 'another tenant has no lane yet');
select throws_ok($$ select jobs.enqueue('fry', tests.id('pizza')) $$, 'P0002', 'There is no job "fry".', 'a job that does not exist is an error');
select throws_ok($$ select jobs.enqueue('bake', tests.id('nobody')) $$, '23503', null, 'so is a tenant that does not exist');
select throws_ok($$ select jobs.enqueue('bake', null) $$, '23503', null, 'and no tenant at all');
select is(jobs.enqueue('bake', jobs.platform_id()), 1, 'the platform itself may have items');
select throws_ok($$ select jobs.enqueue('bake', tests.id('pizza'), run_at => 'infinity') $$, '22008', null, 'an item is due at a time, not never');
select throws_ok($$ select jobs.enqueue('bake', tests.id('pizza'), payload => to_jsonb(repeat('x', 20000))) $$, '23514', null, 'a payload is small');

-- When it is due
select is(jobs.enqueue('late', tests.id('pizza')), 1, 'a job may have a start delay');
select is((select run_at from jobs.items where job = 'late'), now() + interval '300 seconds', 'its items are due when it is over');
select is(tests.lane('late', 'pizza'), 'asleep: delay, wakes', 'until then the lane sleeps for the delay');
select ok(tests.wakes_in('late', 'pizza') between 295 and 300, 'and wakes in time');
select jobs.enqueue('late', tests.id('pizza'), run_at => now() + interval '10 seconds');
select ok(tests.wakes_in('late', 'pizza') between 5 and 10, 'an item that is due earlier makes it wake earlier');
select jobs.enqueue('late', tests.id('pizza'), run_at => now() + interval '1 hour');
select ok(tests.wakes_in('late', 'pizza') between 5 and 10, 'one that is due later does not');

-- The same thing twice
select is(jobs.enqueue('bake', tests.id('gym'), dedupe_key => 'margherita'), 1, 'an item with a key');
select is(jobs.enqueue('bake', tests.id('gym'), dedupe_key => 'margherita'), 0, 'is not added again while it waits');
select is(jobs.enqueue('bake', tests.id('pizza'), dedupe_key => 'margherita'), 1, 'another tenant''s key is another key');
select is(jobs.enqueue('late', tests.id('gym'), dedupe_key => 'margherita'), 1, 'and so is another job''s');
create table pg_temp.batch as select tests.claim('bake') as b;
select is(jobs.enqueue('bake', tests.id('gym'), dedupe_key => 'margherita'), 0, 'nor while it runs');
select tests.close(b, '{"outcome": "done"}') from pg_temp.batch;
select is(jobs.enqueue('bake', tests.id('gym'), dedupe_key => 'margherita'), 1, 'after its end the key is free');
select throws_ok(
  format('select jobs.enqueue(''bake'', %L, dedupe_key => %L)', tests.id('gym'), (select string_agg(md5(n::text), '') from generate_series(1, 300) n)),
  '22001', 'A dedupe key has at most 2,000 bytes, not 9600. Use a hash of it.', 'a key that no index holds is refused in words');
select throws_ok(
  $$ select jobs.enqueue_many('bake', array[tests.id('gym'), tests.id('gym')], dedupe_keys => array['short', repeat('é', 1001)]) $$,
  '22001', null, 'also among others, and by its bytes');
select is(jobs.enqueue('bake', tests.id('gym'), dedupe_key => (select left(string_agg(md5(n::text), ''), 2000) from generate_series(1, 63) n)), 1, 'one of 2,000 bytes is taken');

-- Many at once
select is(jobs.enqueue_many('bake', array[tests.id('pizza'), tests.id('gym'), tests.id('gym')], dedupe_keys => array['a', 'b', 'b']), 2,
  'of many items those that are new are counted');
select is(jobs.enqueue_many('bake', '{}'), 0, 'none is none');

-- In the steady state only items are written: a lane that is awake is not even touched.
update jobs.lanes set awake = true, reason = null, wake_at = null, detail = null where job = 'bake' and tenant_id = tests.id('pizza');
create table pg_temp.before as select l.ctid as place from jobs.lanes l where l.job = 'bake' and l.tenant_id = tests.id('pizza');
select tests.enqueue('bake', 'pizza', 100);
select is((select l.ctid from jobs.lanes l where l.job = 'bake' and l.tenant_id = tests.id('pizza')), (select place from pg_temp.before), 'enqueueing does not update a lane that is awake');

-- Who
select is(tests.answer('service_role', format('select jobs.enqueue(''bake'', %L)', tests.id('pizza'))), '1', 'service_role enqueues');
select tests.member('pizza', 'pizza owner', 'owner');
select is(tests.answer('pizza owner', format('select jobs.enqueue(''bake'', %L)', tests.id('pizza'))), '42501', 'a tenant''s owner does not');

select * from finish();
rollback;
