-- A job is not deleted while there is work of it: what was enqueued would be gone, neither done nor dead.
begin;
select plan(9);
select tests.tenant('pizza', 'pro');
select tests.job('bake', '{"max_attempts": 1}');
create function pg_temp.deletion() returns text language plpgsql as $$
begin
  delete from jobs.definitions where job = 'bake';
  return 'gone';
exception when others then
  return sqlstate || ': ' || sqlerrm;
end
$$;

select jobs.enqueue('bake', tests.id('pizza'), dedupe_key => n::text) from generate_series(1, 4) n;
select matches(pg_temp.deletion(), '^23503: The job "bake" has items', 'a job with items that wait is not deleted');
create table pg_temp.batch as select tests.claim('bake') as b;
select matches(pg_temp.deletion(), '^23503: .*jobs\.cancel', 'nor one whose items are out with a worker: the error says what to do');
select tests.close(b, '{"outcome": "refused", "error": "burnt"}') from pg_temp.batch;
select matches(pg_temp.deletion(), '^23503', 'nor one with dead items');
delete from jobs.dead_items;
select is(pg_temp.deletion(), 'gone', 'one without work is');

-- Whatever took it away all the same: its items stay.
select tests.job('bake', '{"max_attempts": 1}');
select jobs.enqueue('bake', tests.id('pizza'), dedupe_key => n::text) from generate_series(1, 4) n;
truncate pg_temp.batch;
insert into pg_temp.batch select tests.claim('bake');
alter table jobs.definitions disable trigger definitions_before_delete_keep;
select is(pg_temp.deletion(), 'gone', 'a job is taken away by force');
select throws_ok(format('select tests.close(%L, %L)', b, '{"outcome": "retry", "error": "cold"}'), 'P0002', null, 'a close that cannot know what its outcomes mean is refused') from pg_temp.batch;
select tests.pass('1 hour');
select tests.tick();
select is((select sum(open) from jobs.leases where job = 'bake'), 4::bigint, 'what is out with a worker without its job stays in its lease');
select is((select count(*) from jobs.attempts where outcome = 'lost'), 0::bigint, 'and is not lost');
select is((select count(*) from jobs.alerts where incident = 'reap bake' and closed_at is null), 1::bigint, 'the platform is told');
select * from finish();
rollback;
