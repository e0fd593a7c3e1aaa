-- SQL jobs, step by step: what was claimed is worked off and closed in one transaction with the next claim.
begin;
select plan(14);
select tests.tenant(slug, 'enterprise') from unnest(array['pizza', 'gym']) slug;
create table pg_temp.seen (tenant_id uuid, n integer);
create function private.tests_bake(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  insert into pg_temp.seen values (p_tenant_id, (p_payload ->> 'n')::integer);
  if exists (select from public.tenants t where t.id = p_tenant_id and t.slug = 'gym') then
    assert false, 'The oven is cold.';
  end if;
  return p_payload;
end
$$;
create table pg_temp.told (outcome text, result jsonb);
create function private.tests_apply(p_ended jobs.ended[]) returns void language sql security definer set search_path = '' as $$
  insert into pg_temp.told select e.outcome, e.result from unnest(p_ended) e
$$;
update jobs.definitions set paused = true where kind = 'sql';
select tests.job('bake', '{"kind": "sql", "work_function": "private.tests_bake", "apply_function": "private.tests_apply"}');
select jobs.enqueue('bake', tests.id('pizza'), payload => jsonb_build_object('n', n)) from generate_series(1, 3) n;
select jobs.enqueue('bake', tests.id('gym'), payload => '{"n": 0}');
create table pg_temp.by_hand as select tests.drain('bake') as drain_id;
create function pg_temp.step(p_batch_id bigint) returns bigint language sql as $$ select jobs.work_batch((select drain_id from pg_temp.by_hand), 'bake', p_batch_id) $$;

create table pg_temp.claimed as select pg_temp.step(null) as batch_id;
select is((select count(*) from pg_temp.seen), 0::bigint, 'a claim alone does nothing');
select is((select sum(open) from jobs.leases), 1::bigint, 'but one item is out');
create table pg_temp.second as select pg_temp.step(batch_id) as batch_id from pg_temp.claimed;
select is((select count(*) from pg_temp.seen where n > 0) + (select count(*) from jobs.items where last_error is not null), 1::bigint, 'the next step works it off');
select isnt(s.batch_id, c.batch_id, 'and claims the next one') from pg_temp.second s, pg_temp.claimed c;
select is(pg_temp.step(batch_id) is null, false, 'what was worked off before is not worked off again') from pg_temp.claimed;
select is((select count(*) from jobs.leases), 2::bigint, 'only another item is claimed');
select jobs.return_batch(b.batch_id) from jobs.batches b;
select tests.work();
select is((select string_agg(s.n::text, ' ' order by s.n) from pg_temp.seen s), '1 2 3', 'each was worked off once; what failed left nothing');
select is((select count(*) || ' ' || min(outcome) || ' ' || sum((result ->> 'n')::integer) from pg_temp.told), '3 done 6', 'the domain is told of each, with its result');
select is((select string_agg(format('%s: %s', t.slug, i.last_error), ', ') from jobs.items i join public.tenants t on t.id = i.tenant_id where i.job = 'bake'),
  'gym: The oven is cold. (P0004)', 'what failed waits for its next try, also when it was an assertion');
select is((select count(*) from jobs.leases) + (select count(*) from jobs.batches), 0::bigint, 'nothing is out any more');
select is(pg_temp.step(null), null, 'then nothing waits');
select throws_ok($$ select jobs.work_batch((select drain_id from pg_temp.by_hand), 'send-emails') $$, 'P0002', null, 'only SQL jobs are worked off by the database');

select tests.job('ring');
select tests.enqueue('ring', 'pizza');
create table pg_temp.of_worker as select (tests.claim('ring') ->> 'batch_id')::bigint as batch_id;
select throws_ok(format('select jobs.work(%s)', batch_id), '22023', null, 'what a worker holds is not the database''s') from pg_temp.of_worker;
select throws_ok(format('select pg_temp.step(%s)', batch_id), '22023', null, 'nor another drain''s') from pg_temp.of_worker;

select * from finish();
rollback;
