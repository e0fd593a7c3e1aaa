-- What is in flight never exceeds the cap: of the tenant's plan, of the batch's share, of the job as a whole.
begin;
select plan(22);
insert into public.plans (plan_id, name, position, weight, cap, batch_share, cadence_seconds, target_seconds) values
  ('three', 'Three', 91, 1, 3, 100, 0, 60), ('share', 'Share', 92, 1, 100, 4, 0, 60);
select tests.tenant('pizza', 'three');
select tests.tenant('gym', 'share');
select tests.job('bake', '{"quantum": 10}');

select tests.enqueue('bake', 'pizza', 10);
create table pg_temp.batch as select tests.claim('bake') as b;
select is(tests.served(b), 'pizza 3', 'a lane has no more in flight than its cap') from pg_temp.batch;
select is(tests.claim('bake'), null, 'while they are out there is nothing for it');
select is(tests.lane('bake', 'pizza'), 'asleep: cap', 'its lane sleeps until one of them ends');
select tests.enqueue('bake', 'pizza', 10);
select is(tests.lane('bake', 'pizza'), 'asleep: cap', 'more work does not wake it');
select jobs.close_batch((b ->> 'batch_id')::bigint, jsonb_build_array(jsonb_build_object('item_id', (select min(item_id) from tests.items_of(b)), 'outcome', 'done'))) from pg_temp.batch;
select is(tests.lane('bake', 'pizza'), 'asleep: waiting, wakes', 'an end does');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'one came free, one is handed out');
select is(tests.claim('bake'), null, 'and no more');
update public.plans set cap = 5 where plan_id = 'three';
select is(tests.served(tests.claim('bake')), 'pizza 2', 'a higher cap counts at once');
update public.plans set cap = 1 where plan_id = 'three';
select is(tests.claim('bake'), null, 'a lower one too: nothing new until enough has ended');
select tests.pass('2 minutes');
select tests.tick();
select tests.pass('1 hour');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'items that were lost with their worker free their places');
select is((select sum(open) from jobs.leases where job = 'bake' and tenant_id = tests.id('pizza')), 1::bigint, 'what is in flight is counted right');

-- The share of a batch
select tests.enqueue('bake', 'gym', 10);
select is(tests.served(tests.claim('bake', 100)), 'gym 4', 'no lane has more than its share of a batch');
select is(tests.served(tests.claim('bake', 100)), 'gym 4', 'the next batch has the next share');

-- An end frees places of its own lane only.
select tests.tenant('cafe', 'three');
select tests.tenant('pub', 'three');
update public.plans set cap = 2 where plan_id = 'three';
select tests.job('brew', '{"quantum": 10}');
select tests.enqueue('brew', slug, 5) from unnest(array['cafe', 'pub']) slug;
create table pg_temp.brewed as select tests.claim('brew') as b;
select tests.claim('brew');
select is(tests.lane('brew', 'cafe') || ', ' || tests.lane('brew', 'pub'), 'asleep: cap, asleep: cap', 'two lanes are at their cap');
select jobs.close_batch((b ->> 'batch_id')::bigint, jsonb_build_array(jsonb_build_object('item_id', (select min(item_id) from tests.items_of(b) where slug = 'pub'), 'outcome', 'done'))) from pg_temp.brewed;
select is(tests.lane('brew', 'cafe') || ', ' || tests.lane('brew', 'pub'), 'asleep: cap, asleep: waiting, wakes', 'an item of one of them wakes that one');

-- A plan that changes takes few locks, however many jobs and tenants there are: the lock table is one for all.
create function pg_temp.locks() returns bigint language sql as $$ select count(*) from pg_catalog.pg_locks l where l.locktype = 'advisory' and l.pid = pg_backend_pid() $$;
select tests.tenant('shop-' || n, 'three') from generate_series(1, 40) n;
create table pg_temp.locked as select pg_temp.locks() as before;
select tests.job('boil-' || n) from generate_series(1, 5) n;
update public.plans set cap = 3 where plan_id = 'three';
select is(tests.lane('brew', 'cafe') || ', ' || tests.lane('brew', 'pub'), 'asleep: waiting, wakes, asleep: waiting, wakes', 'a higher cap wakes who sleeps for it');
select ok(pg_temp.locks() <= before + (select count(*) from jobs.definitions), 'with one lock for each job, not for each tenant of the plan in each job') from pg_temp.locked;

-- The cap of the job
select tests.tenant('bar', 'share');
select tests.job('fry', '{"cap": 5}');
select tests.enqueue('fry', slug, 10) from unnest(array['gym', 'bar']) slug;
create table pg_temp.fried as select tests.claim('fry') as b;
select is((select count(*) from pg_temp.fried, tests.items_of(b)), 5::bigint, 'a job may have a cap for all tenants together');
select is(tests.claim('fry'), null, 'which holds');
select tests.close(b, '{"outcome": "done"}') from pg_temp.fried;
select is((select count(*) from tests.items_of(tests.claim('fry'))), 5::bigint, 'and frees as items end');
select is((select sum(open) from jobs.leases where job = 'fry'), 5::bigint, 'never more');
select is((select count(*) from jobs.items where job = 'fry'), 10::bigint, 'the rest waits');

select * from finish();
rollback;
