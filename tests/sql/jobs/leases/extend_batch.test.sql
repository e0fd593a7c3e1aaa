begin;
select plan(8);
select tests.tenant('pizza', 'pro');
select tests.job('bake', '{"lease_seconds": 60}');
select tests.enqueue('bake', 'pizza', 2);
create table pg_temp.batch as select tests.claim('bake', 1) as b;
create function pg_temp.id() returns bigint language sql as $$ select (b ->> 'batch_id')::bigint from pg_temp.batch $$;

select tests.pass('50 seconds');
select is(jobs.extend_batch(pg_temp.id()), true, 'a heartbeat renews the lease');
select ok((select lease_until from jobs.batches where batch_id = pg_temp.id()) > clock_timestamp() + interval '59 seconds', 'by the job''s lease, from now');
select tests.pass('50 seconds');
select is((tests.tick() ->> 'reaped')::integer, 0, 'so the items stay with their worker');
select jobs.extend_batch(pg_temp.id());
select tests.pass('50 seconds');
select jobs.extend_batch(pg_temp.id());
select tests.pass('50 seconds');
select tests.tick();
select is((select ended_at from jobs.drains d join jobs.batches b on b.drain_id = d.drain_id where b.batch_id = pg_temp.id()), null,
  'a drain that works on one batch for long is not given up while its heart beats');
select is(tests.served(jobs.close_batch(pg_temp.id(), '[]', true)::jsonb -> 'next'), 'pizza 1', 'and gets more work');
select tests.pass('61 seconds');
select is(jobs.extend_batch(pg_temp.id()), false, 'without a heartbeat the lease ends');
select tests.tick();
select is((select count(*) from jobs.batches where batch_id = pg_temp.id()), 0::bigint, 'and the items are taken back');
select is(jobs.extend_batch(-1), false, 'a batch that nobody knows has no lease');

select * from finish();
rollback;
