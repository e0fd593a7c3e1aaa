-- Lanes that are awake and have nothing to give never keep a claim from the work behind them, however little room it has.
begin;
select plan(10);
insert into public.tenants (id, slug, name, plan_id) select tests.id('tenant-' || n), 'tenant-' || n, 'T', 'free' from generate_series(1, 3000) n;
select tests.tenant('pizza');
create function pg_temp.lanes(p_job text) returns void language plpgsql as $$
begin
  perform jobs.enqueue_many(p_job, array(select tests.id('tenant-' || n) from generate_series(1, 3000) n));
  perform jobs.enqueue(p_job, tests.id('pizza'));
  -- All are awake, pizza behind all others.
  update jobs.lanes set awake = true, reason = null, detail = null, wake_at = null, vtime = case when tenant_id = tests.id('pizza') then 1 else 0 end
  where job = p_job;
end
$$;

select tests.job('bake', '{"cap": 1}');
select pg_temp.lanes('bake');
delete from jobs.items where job = 'bake' and tenant_id <> tests.id('pizza');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'a claim with room for one item passes 3,000 lanes that hold nothing');
select is((select count(*) from jobs.lanes where job = 'bake' and reason = 'idle'), 3001::bigint, 'and puts them to sleep');

select tests.job('boil');
select pg_temp.lanes('boil');
update public.tenants set status = 'suspended' where slug like 'tenant-%';
select is(tests.served(tests.claim('boil', 1)), 'pizza 1', 'and 3,000 of tenants that are not served');
select is((select count(*) from jobs.lanes where job = 'boil' and reason = 'paused'), 3000::bigint, 'which sleep until they are');
select is((select count(*) from jobs.items where job = 'boil'), 3000::bigint, 'with what they have');
update public.tenants set status = 'active';

-- Where there is work, a claim with little room still takes it from who is furthest behind, and no more than that.
select tests.job('fry');
select pg_temp.lanes('fry');
update jobs.lanes set vtime = -1 where job = 'fry' and tenant_id = tests.id('tenant-7');
update jobs.clocks set looked_at = '-infinity' where job = 'fry';
select is(tests.served(tests.claim('fry', 1)), 'tenant-7 1', 'a claim for one item takes it from the lane that is furthest behind');
select is((select count(*) from jobs.lanes where job = 'fry' and not awake), 1::bigint, 'and looks at no other');
delete from jobs.items where job = 'fry' and tenant_id not in (tests.id('pizza'), tests.id('tenant-8'), tests.id('tenant-9'));
select is(tests.served(tests.claim('fry', 2)), 'tenant-8 1, tenant-9 1', 'behind empty lanes it takes no more than it has room for');

-- A claim wakes 500 lanes at most.
select tests.job('cool');
select jobs.enqueue_many('cool', array(select tests.id('tenant-' || n) from generate_series(1, 600) n));
delete from jobs.items where job = 'cool';
select is(tests.claim('cool') -> 'tenants', '[]', 'when it finds nothing in these and more are due, it says that there is more');
select is(tests.claim('cool'), null, 'until nothing is awake or due');

select * from finish();
rollback;
