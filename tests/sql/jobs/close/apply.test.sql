-- Results are applied in the transaction that ends the item. One that cannot be applied stops nobody else.
begin;
select plan(16);
select tests.tenant('pizza', 'pro');
select tests.tenant('gym', 'pro');
create table pg_temp.ended (slug text, outcome text);
create function private.tests_apply(p_ended jobs.ended[]) returns void language plpgsql security definer set search_path = '' as $$
begin
  insert into pg_temp.ended select t.slug, e.outcome from unnest(p_ended) e join public.tenants t on t.id = e.tenant_id;
  if exists (select from unnest(p_ended) e where e.result ->> 'poison' = 'true') then
    raise exception 'This result makes no sense.';
  end if;
end
$$;
select tests.job('bake', '{"max_attempts": 2, "backoff_seconds": 1, "backoff_limit_seconds": 1, "apply_function": "private.tests_apply"}');
select tests.enqueue('bake', 'pizza', 2);
select tests.enqueue('bake', 'gym', 1);

create table pg_temp.batch as select tests.claim('bake') as b;
create function pg_temp.outcomes(p_batch jsonb) returns jsonb language sql as $$
  select jsonb_agg(jsonb_build_object('item_id', i.item_id, 'outcome', 'done', 'result', jsonb_build_object('poison', i.slug = 'gym'))) from tests.items_of(p_batch) i
$$;
select is(jobs.close_batch((b ->> 'batch_id')::bigint, pg_temp.outcomes(b)) ->> 'closed', '3', 'a batch with a result that cannot be applied is closed') from pg_temp.batch;
select is((select string_agg(slug || ' ' || outcome, ', ') from pg_temp.ended), 'pizza done, pizza done', 'the other results are applied, once');
select is((select count(*) from jobs.items where job = 'bake'), 1::bigint, 'the one item is tried again');
select matches((select last_error from jobs.items where job = 'bake'), 'could not be applied: This result makes no sense', 'and says why');
select is((select string_agg(outcome, ' ' order by outcome) from jobs.attempts), 'done done retry', 'the history has it');
select tests.pass('2 seconds');
create table pg_temp.again as select tests.claim('bake') as b;
select is(jobs.close_batch((b ->> 'batch_id')::bigint, pg_temp.outcomes(b)) ->> 'closed', '1', 'a second time the same') from pg_temp.again;
select is((select count(*) from jobs.items where job = 'bake'), 0::bigint, 'when its attempts are used up');
select is((select reason from jobs.dead_items), 'its result could not be applied', 'it dies for that reason');
select is((select count(*) from pg_temp.ended), 2::bigint, 'nothing of the failed application stays');

-- So does one whose ASSERT fails, which PL/pgSQL does not count among the others.
create function private.tests_assert(p_ended jobs.ended[]) returns void language plpgsql security definer set search_path = '' as $$
begin
  assert not exists (select from unnest(p_ended) e where e.result ->> 'poison' = 'true'), 'No such oven.';
end
$$;
select tests.job('grill', '{"max_attempts": 2, "backoff_seconds": 1, "backoff_limit_seconds": 1, "apply_function": "private.tests_assert"}');
select tests.enqueue('grill', 'pizza', 2);
select tests.enqueue('grill', 'gym', 1);
create table pg_temp.grilled as select tests.claim('grill') as b;
select lives_ok(format('select jobs.close_batch(%s, %L)', b ->> 'batch_id', pg_temp.outcomes(b)), 'an ASSERT of an apply function that fails for one item does not fail the close') from pg_temp.grilled;
select is((select string_agg(outcome, ' ' order by outcome) from jobs.attempts where job = 'grill'), 'done done retry', 'the others are done');
select matches((select last_error from jobs.items where job = 'grill'), 'could not be applied: No such oven', 'the one is tried again, and says why');

-- A load function that raises for one item stops nobody either.
create function private.tests_load(uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[]) returns setof jobs.loaded language plpgsql set search_path = '' as $$
begin
  if 'true' = any (array(select p ->> 'poison' from unnest(p_payloads) p)) then
    raise exception 'This item makes no sense.';
  end if;
  return query select i, '{}'::jsonb, null::timestamptz, null::text, false from unnest(p_item_ids) i;
end
$$;
select tests.job('read', '{"max_attempts": 2, "load_function": "private.tests_load"}');
select tests.enqueue('read', 'pizza', 2);
select jobs.enqueue('read', tests.id('gym'), payload => '{"poison": true}');
select is(tests.served(tests.claim('read')), 'pizza 2', 'an item that cannot be loaded does not stop the others');
select is((select attempts from jobs.items where job = 'read' and tenant_id = tests.id('gym')), 1::smallint, 'it counts as an attempt');
select matches((select last_error from jobs.items where job = 'read' and tenant_id = tests.id('gym')), 'could not be loaded: This item makes no sense', 'with the reason');
select tests.pass('1 hour');
select tests.claim('read');
select is((select count(*) from jobs.dead_items where job = 'read'), 1::bigint, 'and in the end it dies');

select * from finish();
rollback;
