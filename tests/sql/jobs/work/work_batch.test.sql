-- A batch of a SQL job over HTTP: worked off and closed in one transaction, however much of it there is.
begin;
select plan(8);
select tests.tenant(slug, 'enterprise') from unnest(array['pizza', 'gym']) slug;
create table pg_temp.seen (tenant_id uuid, n integer);
create function private.tests_bake(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  insert into pg_temp.seen values (p_tenant_id, (p_payload ->> 'n')::integer);
  if exists (select from public.tenants t where t.id = p_tenant_id and t.slug = 'gym') then
    raise exception 'The oven is cold.';
  end if;
  return p_payload - 'dough';
end
$$;
create table pg_temp.told (outcome text, result jsonb);
create function private.tests_apply(p_ended jobs.ended[]) returns void language sql security definer set search_path = '' as $$
  insert into pg_temp.told select e.outcome, e.result from unnest(p_ended) e
$$;
select tests.job('bake', '{"kind": "sql", "work_function": "private.tests_bake", "apply_function": "private.tests_apply"}');
select jobs.enqueue('bake', tests.id('pizza'), payload => jsonb_build_object('n', n, 'dough', repeat('x', 15000))) from generate_series(1, 200) n;
select jobs.enqueue('bake', tests.id('gym'), payload => '{"n": 0}');
insert into jobs.drains (drain_id, job, answered_at, seen_at) values ('00000000-0000-4000-8000-000000000001', 'bake', clock_timestamp(), clock_timestamp());
create table pg_temp.size as select pg_total_relation_size('jobs.leases') as before;
select is(jobs.work_batch('00000000-0000-4000-8000-000000000001', 'bake', 500), 201, 'it says how many items the batch had');
select is((select string_agg(s.n::text, ' ' order by s.n) from pg_temp.seen s), (select string_agg(n::text, ' ' order by n) from generate_series(1, 200) n), 'each was worked off once; what failed left nothing');
select is((select count(*) || ' ' || min(outcome) || ' ' || sum((result ->> 'n')::integer) from pg_temp.told), '200 done 20100', 'the domain is told of each, with its result');
select is((select string_agg(format('%s: %s', t.slug, i.last_error), ', ') from jobs.items i join public.tenants t on t.id = i.tenant_id where i.job = 'bake'),
  'gym: The oven is cold. (P0001)', 'what failed waits for its next try');
select is((select count(*) from jobs.leases) + (select count(*) from jobs.batches), 0::bigint, 'nothing is out any more');
select cmp_ok(pg_total_relation_size('jobs.leases') - before, '<', 2 * 200 * 15000::bigint, 'its payloads are written into leases once, not once for each item that ends') from pg_temp.size;
select is(jobs.work_batch('00000000-0000-4000-8000-000000000001', 'bake'), null, 'then nothing waits');
select throws_ok($$ select jobs.work_batch('00000000-0000-4000-8000-000000000001', 'send-emails') $$, 'P0002', null, 'only SQL jobs are worked off by the database');

select * from finish();
rollback;
