-- A batch holds its items: it cannot go before they have ended or gone back.
begin;
select plan(4);
select tests.tenant('pizza', 'pro');
select tests.job('bake');
select tests.enqueue('bake', 'pizza', 2);
create table pg_temp.batch as select tests.claim('bake') as b;
select throws_ok('delete from jobs.batches', '23503', null, 'a batch that holds items stays');
select is((select sum(open) from jobs.leases), 2::bigint, 'and so do they');
select tests.close(b, '{"outcome": "done"}') from pg_temp.batch;
select is((select count(*) from jobs.batches), 0::bigint, 'with the last of them it goes');
insert into jobs.batches (job, drain_id, lease_until) values ('bake', gen_random_uuid(), now());
select lives_ok('delete from jobs.batches', 'as one does that holds none');
select * from finish();
rollback;
