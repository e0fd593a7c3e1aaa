-- Lanes may be due and hold nothing: what was put to sleep while somebody enqueued looks again after a second. However many they
-- are, whoever has work behind them gets a doorbell, and the drain that it wakes.
begin;
select plan(9);
select private.keep_secret('project_url', 'http://127.0.0.1:9');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
update jobs.definitions set paused = true;
select tests.job('fry', '{"batch_size": 50, "max_drains": 4}');
insert into public.tenants (slug, name) select format('empty-%s', n), 'Empty' from generate_series(1, 300) n;
select jobs.make_lanes('fry', array(select t.id from public.tenants t where t.slug like 'empty-%'));
select is((tests.tick() ->> 'rung')::int, 0, 'lanes that sleep for good ring nobody');
update jobs.lanes l set wake_at = clock_timestamp() - interval '1 minute' where l.job = 'fry';

select tests.tenant('pizza');
select tests.enqueue('fry', 'pizza');
select is((tests.tick() ->> 'rung')::int, 1, 'behind 300 lanes that are due and empty there is work: one doorbell');
select is((tests.tick() ->> 'rung')::int, 0, 'and no second one before it is answered');
create table pg_temp.batch as select tests.claim('fry') as b;
select is(tests.served(b), 'pizza 1', 'whoever comes gets the work') from pg_temp.batch;
select is((select count(*) from jobs.lanes l where l.job = 'fry' and (l.awake or l.wake_at is not null)), 0::bigint,
  'and has put the empty ones to sleep');
select tests.close(b, '{"outcome": "done"}') from pg_temp.batch;
select is(tests.claim('fry'), null, 'nothing is left');

-- A small job looks at few lanes.
select tests.job('dip', '{"batch_size": 2, "quantum": 1, "max_drains": 1}');
select jobs.make_lanes('dip', array(select t.id from public.tenants t where t.slug in ('empty-1', 'empty-2', 'empty-3')));
update jobs.lanes l set wake_at = clock_timestamp() - interval '1 minute' where l.job = 'dip';
select tests.enqueue('dip', 'pizza');
select is((tests.tick() ->> 'rung')::int, 1, 'also behind three, where the job looks at two');
select is(tests.served(tests.claim('dip')), 'pizza 1', 'who gets the work');

select tests.job('boil', '{"batch_size": 50, "max_drains": 4}');
select jobs.make_lanes('boil', array(select t.id from public.tenants t where t.slug in ('empty-1', 'empty-2')));
update jobs.lanes l set wake_at = clock_timestamp() - interval '1 minute' where l.job = 'boil';
select is((tests.tick() ->> 'rung')::int, 0, 'and where all lanes that are due are seen to be empty, nobody is rung for nothing');
select * from finish();
rollback;
