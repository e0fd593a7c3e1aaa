-- An answer that got lost: the call is made again with its own id, and hears the same.
begin;
select plan(16);
select tests.tenant('pizza', 'pro');
select tests.tenant('gym', 'pro');
select tests.job('bake', '{"batch_size": 3, "quantum": 3}');
select tests.enqueue('bake', 'pizza', 12);
create table pg_temp.d as select tests.drain('bake') as id;
create function pg_temp.next(p_request text) returns jsonb language sql as $$
  select jobs.next_batch(d.id, 'bake', request => md5(p_request)::uuid)::jsonb from pg_temp.d d
$$;

create table pg_temp.first as select pg_temp.next('one') as b;
create table pg_temp.same as select pg_temp.next('one') as b;
select is((select b - 'now' from pg_temp.same), (select b - 'now' from pg_temp.first), 'the same call gets the same batch, to the word');
select is((select count(*) from jobs.batches where job = 'bake'), 1::bigint, 'and no second one');
select is((select sum(open) from jobs.leases where job = 'bake'), 3::bigint, 'nor more items');
select isnt((select pg_temp.next('two') ->> 'batch_id'), (select b ->> 'batch_id' from pg_temp.first), 'another call gets another batch');
select isnt((select jobs.next_batch(id, 'bake') ->> 'batch_id' from pg_temp.d), (select b ->> 'batch_id' from pg_temp.first), 'as one without an id does');

-- close_batch that takes the next one
create table pg_temp.done as select jsonb_agg(jsonb_build_object('item_id', i.item_id, 'outcome', 'done')) as o from pg_temp.first f, tests.items_of(f.b) i;
create function pg_temp.close(p_request text) returns jsonb language sql as $$
  select jobs.close_batch((f.b ->> 'batch_id')::bigint, d.o, true, md5(p_request)::uuid)::jsonb from pg_temp.first f, pg_temp.done d
$$;
create table pg_temp.closed as select pg_temp.close('three') as c;
select is((select (c ->> 'closed')::integer from pg_temp.closed), 3, 'a close counts what it closed');
create table pg_temp.again as select pg_temp.close('three') as c;
select is((select (c ->> 'stale')::integer from pg_temp.again), 3, 'made again it finds nothing to close');
select is((select c -> 'next' ->> 'batch_id' from pg_temp.again), (select c -> 'next' ->> 'batch_id' from pg_temp.closed), 'but hears of the batch that it was given');
select ok((select c -> 'next' ->> 'batch_id' from pg_temp.closed) is not null, 'which there is');
select is((select pg_temp.close('four') ->> 'next'), null, 'another call gets nothing by a batch that is closed');

-- begin_effects
create table pg_temp.batch as select (c -> 'next' ->> 'batch_id')::bigint as id, array(select i.item_id from tests.items_of(c -> 'next') i order by 1) as items from pg_temp.closed;
create function pg_temp.begin(p_request uuid) returns bigint[] language sql as $$
  select array(select unnest(jobs.begin_effects(b.id, b.items, p_request)) order by 1) from pg_temp.batch b
$$;
select is(pg_temp.begin(md5('five')::uuid), (select items from pg_temp.batch), 'what may be sent');
select is(pg_temp.begin(md5('five')::uuid), (select items from pg_temp.batch), 'may be sent by the same call that asks again');
select is(pg_temp.begin(md5('six')::uuid), '{}'::bigint[], 'and by no other');
select is(pg_temp.begin(null), '{}'::bigint[], 'nor by one without an id');

-- past the lease
update jobs.batches set lease_until = clock_timestamp() - interval '1 second' where batch_id = (select id from pg_temp.batch);
select is(pg_temp.begin(md5('five')::uuid), '{}'::bigint[], 'past the lease nothing may be sent');
select is((select pg_temp.close('three') ->> 'next'), null, 'and the batch is not handed out again');

select * from finish();
rollback;
