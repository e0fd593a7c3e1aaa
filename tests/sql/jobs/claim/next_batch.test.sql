begin;
select plan(20);
select tests.tenant('pizza');
select tests.tenant('gym');
select tests.job('bake', '{"batch_size": 10, "quantum": 5}');
select tests.job('boil');

select is(tests.claim('bake'), null, 'without work there is no batch');
select throws_ok($$ select jobs.next_batch(gen_random_uuid(), 'fry') $$, 'P0002', null, 'a job that does not exist is an error');
select jobs.enqueue('bake', tests.id('pizza'), tests.id('subject'), payload => '{"topping": "olives"}');
select tests.enqueue('bake', 'gym', 3);
select tests.enqueue('boil', 'gym', 3);
select is(jobs.next_batch(gen_random_uuid(), 'bake')::jsonb, null, 'a drain that nobody knows gets nothing');
select is(jobs.next_batch(tests.drain('boil'), 'bake')::jsonb, null, 'nor does one of another job');

create table pg_temp.batch as select tests.claim('bake') as b;
select is(tests.served(b), 'gym 3, pizza 1', 'a batch has items of several tenants, of one job') from pg_temp.batch;
select is((select count(*) from jsonb_array_elements(b -> 'tenants')), 2::bigint, 'grouped by tenant') from pg_temp.batch;
select is(b -> 'tenants' -> n -> 'credential', 'null'::jsonb, 'a job without a provider has no credential') from pg_temp.batch, generate_series(0, 0) n;
select is((select data ->> 'topping' from tests.items_of(b) where slug = 'pizza'), 'olives', 'without a load function the data is the payload') from pg_temp.batch;
select matches((select i ->> 'trace_id' from jsonb_array_elements(b -> 'tenants' -> 0 -> 'items') i limit 1), '^[0-9a-f]{32}$', 'every item has a trace id') from pg_temp.batch;
select is((b ->> 'lease_until')::timestamptz - l.leased_at, interval '60 seconds', 'the lease is the job''s') from pg_temp.batch, jobs.batches l where l.batch_id = (b ->> 'batch_id')::bigint;
select is((select count(*) from jobs.leased_items where job = 'bake' and batch_id = (b ->> 'batch_id')::bigint), 4::bigint, 'the items belong to the batch') from pg_temp.batch;
select is(tests.claim('bake'), null, 'and to no other');

-- Order and size
select jobs.enqueue('bake', tests.id('pizza'), run_at => now() - interval '1 minute' * n, payload => to_jsonb(n)) from generate_series(1, 4) n;
select is((select string_agg(data #>> '{}', ' ') from tests.items_of(tests.claim('bake', 3))), '4 3 2', 'within a lane the oldest comes first, and no more than was asked for');
select tests.enqueue('bake', 'pizza', 30);
select is(tests.served(tests.claim('bake', 1000)), 'pizza 31', 'a drain may ask for more than the job''s size');
select tests.enqueue('bake', 'pizza', 2);
select is(tests.served(tests.claim('bake', 0)), 'pizza 1', 'or for less, but not for nothing');

-- Switches
update jobs.definitions set paused = true where job = 'bake';
select is(tests.claim('bake'), null, 'a paused job hands out nothing');
update jobs.definitions set paused = false where job = 'bake';
update jobs.platform set stopped = true;
select is(tests.claim('bake'), null, 'nor does a stopped platform');
update jobs.platform set stopped = false;
select is(tests.served(tests.claim('bake')), 'pizza 1', 'afterwards it goes on');

select tests.member('pizza', 'pizza owner', 'owner');
select is(tests.answer('pizza owner', $$ select jobs.next_batch(gen_random_uuid(), 'bake') $$), '42501', 'no user may ask for a batch');
select is(tests.error_of('service_role', $$ select jobs.next_batch(gen_random_uuid(), 'bake') $$), null, 'service_role may');

select * from finish();
rollback;
