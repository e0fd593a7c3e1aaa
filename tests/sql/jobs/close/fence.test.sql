-- A stale worker changes nothing: the batch's id is the fence.
begin;
select plan(20);
select tests.tenant('pizza', 'pro');
create table pg_temp.ended (item_id bigint);
create function private.tests_apply(p_ended jobs.ended[]) returns void language sql security definer set search_path = '' as $$
  insert into pg_temp.ended select e.item_id from unnest(p_ended) e
$$;
select tests.job('bake', '{"apply_function": "private.tests_apply"}');
select tests.enqueue('bake', 'pizza', 3);

create table pg_temp.first as select tests.claim('bake') as b;
select tests.pass('2 minutes');
select is((tests.tick() ->> 'reaped')::integer, 3, 'items of a worker that fell silent are taken back');
select tests.pass('1 hour');
create table pg_temp.second as select tests.claim('bake') as b;
select is(tests.served(b), 'pizza 3', 'and handed to another') from pg_temp.second;

select is(tests.close(b, '{"outcome": "done"}') - 'next', '{"closed": 0, "stale": 3}', 'the first worker closes nothing any more') from pg_temp.first;
select is((select count(*) from pg_temp.ended), 0::bigint, 'its results are not applied');
select is((select count(*) from jobs.leased_items where batch_id = (b ->> 'batch_id')::bigint), 3::bigint, 'the items are the second worker''s') from pg_temp.second;
select is(jobs.extend_batch((b ->> 'batch_id')::bigint), false, 'the first worker''s heartbeat says that it is too late') from pg_temp.first;
select is(jobs.begin_effects((b ->> 'batch_id')::bigint, array(select item_id from tests.items_of(b))), '{}', 'it may begin no effect') from pg_temp.first;
select is(jobs.return_batch((b ->> 'batch_id')::bigint), 0, 'and has nothing to return') from pg_temp.first;
select is(jobs.close_batch((s.b ->> 'batch_id')::bigint, '[{"item_id": 0, "outcome": "done"}]') ->> 'stale', '1', 'an item that is not in the batch is stale') from pg_temp.second s;

-- Parts of a batch, and twice the same
create table pg_temp.one as select min(item_id) as item_id from pg_temp.second, tests.items_of(b);
select is(jobs.close_batch((b ->> 'batch_id')::bigint, jsonb_build_array(jsonb_build_object('item_id', item_id, 'outcome', 'done')))::jsonb - 'next', '{"closed": 1, "stale": 0}',
  'a batch may be closed in parts') from pg_temp.second, pg_temp.one;
select is(jobs.close_batch((b ->> 'batch_id')::bigint, jsonb_build_array(jsonb_build_object('item_id', item_id, 'outcome', 'done')))::jsonb - 'next', '{"closed": 0, "stale": 1}',
  'the same again changes nothing') from pg_temp.second, pg_temp.one;
select is((select count(*) from pg_temp.ended), 1::bigint, 'and is applied once');
select is(tests.close(b, '{"outcome": "retry", "error": "x"}') - 'next', '{"closed": 2, "stale": 1}', 'the rest follows') from pg_temp.second;
select is(tests.close(b, '{"outcome": "done"}') - 'next', '{"closed": 0, "stale": 3}', 'a batch that is closed is closed') from pg_temp.second;
select is((select count(*) from pg_temp.ended), 1::bigint, 'nothing is applied twice');
select is((select string_agg(outcome, ' ' order by outcome) from jobs.attempts), 'done lost lost lost retry retry', 'every try is in the history once');

-- Close and claim in one call
select tests.pass('1 hour');
create table pg_temp.third as select tests.claim('bake', 1) as b;
select is(tests.served(jobs.close_batch((b ->> 'batch_id')::bigint, jsonb_build_array(jsonb_build_object('item_id', (select item_id from tests.items_of(b)), 'outcome', 'done')), true)::jsonb -> 'next'),
  'pizza 1', 'a close may bring the next batch') from pg_temp.third;
select is(jobs.close_batch((b ->> 'batch_id')::bigint, '[]', true)::jsonb -> 'next', 'null'::jsonb, 'but not for a batch that is gone') from pg_temp.third;

-- A lease over but not taken back yet still holds: only the reaper ends it, so there is no moment of two owners.
select tests.enqueue('bake', 'pizza');
create table pg_temp.late as select tests.claim('bake') as b;
select tests.pass('61 seconds');
select is(jobs.extend_batch((b ->> 'batch_id')::bigint), false, 'a heartbeat after the lease is too late') from pg_temp.late;
select is(tests.close(b, '{"outcome": "done"}') ->> 'closed', '1', 'a result that comes before anybody took the item back counts') from pg_temp.late;

select * from finish();
rollback;
