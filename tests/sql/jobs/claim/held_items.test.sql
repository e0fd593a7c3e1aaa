-- A claim that finds only what must wait or has no reason to run any more: it ends soon, and the drain asks again.
begin;
select plan(11);
select tests.tenant(slug, 'enterprise') from unnest(array['pizza', 'gym']) slug;
create function private.tests_load(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[]) returns setof jobs.loaded language plpgsql set search_path = '' as $$
begin
  perform pg_sleep(0.05);
  return query select i, p, case when p ->> 'is' = 'early' then clock_timestamp() + interval '1 day' end, 'quiet hours', p ->> 'is' = 'over'
  from unnest(p_item_ids, p_payloads) u (i, p);
end
$$;
create function pg_temp.enqueue(p_job text, p_slug text, p_is text, p_count integer) returns integer language sql as $$
  select jobs.enqueue_many(p_job, array_agg(tests.id(p_slug)), payloads => array_agg(jsonb_build_object('is', p_is))) from generate_series(1, p_count)
$$;
-- Claims until there is a batch or nothing is awake: how often it had to ask.
create function pg_temp.asked(p_drain uuid, p_job text) returns integer language plpgsql as $$
begin
  for v_asked in 1..1000 loop
    exit when (jobs.next_batch(p_drain, p_job) -> 'tenants' ->> 0) is not null;
    if not exists (select from jobs.lanes l where l.job = p_job and l.awake) then
      return v_asked;
    end if;
  end loop;
  return null;
end
$$;

select tests.job('bake', '{"batch_size": 10, "quantum": 5, "load_function": "private.tests_load"}');
select pg_temp.enqueue('bake', 'pizza', 'early', 300);
create table pg_temp.first as select tests.claim('bake') as b;
select is(b -> 'tenants', '[]', 'a claim that finds only what must wait ends before it has seen all of it, and says that there is more') from pg_temp.first;
select ok((select count(*) from jobs.items where job = 'bake' and waiting_for = 'quiet hours') between 10 and 290, 'what it has put off by then stays so');
select is((select count(*) from jobs.batches where job = 'bake') + (select count(*) from jobs.leases where job = 'bake'), 0::bigint, 'it holds nothing');
select is(jobs.close_batch((b ->> 'batch_id')::bigint, '[]')::jsonb, '{"closed": 0, "stale": 0, "next": null}', 'and can be closed like any other answer') from pg_temp.first;
select pg_temp.enqueue('bake', 'gym', 'ready', 1);
select is(tests.served(tests.claim('bake')), 'gym 1', 'the one message of another tenant leaves with the next claim');
select cmp_ok(pg_temp.asked(tests.drain('bake'), 'bake'), '>', 1, 'asked again and again it sees all of them');
select is((select count(*) from jobs.items where job = 'bake' and waiting_for = 'quiet hours'), 300::bigint, 'once each');
select is(tests.claim('bake'), null, 'null means that nothing is awake');

select tests.job('cool', '{"batch_size": 10, "quantum": 5, "load_function": "private.tests_load"}');
select pg_temp.enqueue('cool', 'pizza', 'over', 300);
select is(tests.claim('cool') -> 'tenants', '[]', 'the same with items that have no reason to run any more');
select cmp_ok(pg_temp.asked(tests.drain('cool'), 'cool'), '>', 1, 'they end');
select is((select count(*) from jobs.items where job = 'cool') + (select count(*) from jobs.leases where job = 'cool'), 0::bigint, 'all of them');

select * from finish();
rollback;
