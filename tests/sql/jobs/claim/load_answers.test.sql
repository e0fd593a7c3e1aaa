-- What a load function owes: one answer for each item. Whatever else it does concerns those items only.
begin;
select plan(15);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym']) slug;
create function private.tests_load(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[]) returns setof jobs.loaded language plpgsql set search_path = '' as $$
begin
  return query
  select case when p ->> 'is' = 'confused' then -i else i end, jsonb_build_object('answer', n), null::timestamptz, null::text, false
  from unnest(p_item_ids, p_payloads) u (i, p)
  cross join generate_series(1, case p ->> 'is' when 'forgotten' then 0 when 'twice' then 2 else 1 end) n;
end
$$;
select tests.job('bake', '{"max_attempts": 2, "load_function": "private.tests_load"}');
create function pg_temp.enqueue(p_slug text, p_is text) returns bigint language sql as $$
  select jobs.enqueue('bake', tests.id(p_slug), payload => jsonb_build_object('is', p_is))
$$;

-- No answer
select pg_temp.enqueue('gym', 'forgotten');
select is(tests.claim('bake'), null, 'an item for which the load function does not answer is not handed out');
select is((select attempts from jobs.items where job = 'bake'), 1::smallint, 'that was an attempt');
select is((select last_error from jobs.items where job = 'bake'), 'The load function did not answer for this item.', 'and says why');
select tests.pass('1 hour');
select pg_temp.enqueue('pizza', 'ready');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'others are handed out');
select is((select reason from jobs.dead_items where job = 'bake'), 'attempts used up', 'in the end it dies');
select pg_temp.enqueue('gym', 'confused');
select pg_temp.enqueue('pizza', 'ready');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'an answer for an item that nobody asked for is none');
select is((select last_error from jobs.items where job = 'bake'), 'The load function did not answer for this item.', 'the one that was asked for has none');

-- Two answers
select pg_temp.enqueue('pizza', 'twice');
create table pg_temp.twice as select i.* from tests.items_of(tests.claim('bake')) i;
select is((select count(*) from pg_temp.twice), 1::bigint, 'an item with two answers is handed out once');
select is((select data from pg_temp.twice), '{"answer": 1}', 'with the first of them');
select pg_temp.enqueue('gym', 'forgotten');
select pg_temp.enqueue('pizza', 'twice');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'two for one do not make up for none for another');

-- The same for a batch that is handed out again
create table pg_temp.again as select tests.drain('bake') as drain, gen_random_uuid() as request;
select pg_temp.enqueue('pizza', 'ready');
create table pg_temp.lost as select jobs.next_batch(drain, 'bake', request => request)::jsonb as b from pg_temp.again;
select is(tests.served(b), 'pizza 1', 'a batch whose answer is lost') from pg_temp.lost;
create or replace function private.tests_load(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[]) returns setof jobs.loaded language sql set search_path = '' as $$
  select null::jobs.loaded where false
$$;
select is(jobs.next_batch(drain, 'bake', request => request)::jsonb, null, 'is gone when the load function has no answers any more') from pg_temp.again;
select is((select count(*) from jobs.batches b, pg_temp.lost l where b.batch_id = (l.b ->> 'batch_id')::bigint), 0::bigint, 'and holds nothing');

-- ASSERT is an error of its own class
delete from jobs.items where job = 'bake';
create or replace function private.tests_load(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[]) returns setof jobs.loaded language plpgsql set search_path = '' as $$
begin
  assert 'assert' <> all (array(select p ->> 'is' from unnest(p_payloads) p)), 'This item makes no sense.';
  return query select i, '{}'::jsonb, null::timestamptz, null::text, false from unnest(p_item_ids) i;
end
$$;
select pg_temp.enqueue('gym', 'assert');
select pg_temp.enqueue('pizza', 'ready');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'an item that breaks an ASSERT of the load function does not stop the others');
select is((select last_error from jobs.items where job = 'bake'), 'The item could not be loaded: This item makes no sense.', 'and says why');

select * from finish();
rollback;
