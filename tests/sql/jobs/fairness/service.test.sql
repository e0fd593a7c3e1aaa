-- Weighted fair service: among equals the difference is at most one quantum; weights get what they pay for; idleness earns nothing.
begin;
select plan(16);
-- Plans with room, so that nothing but weight decides.
insert into public.plans (plan_id, name, position, weight, cap, batch_share, cadence_seconds, target_seconds) values
  ('one', 'One', 91, 1, 100000, 1000, 0, 60), ('four', 'Four', 92, 4, 100000, 1000, 0, 60), ('eight', 'Eight', 93, 8, 100000, 1000, 0, 60);

-- Serves p_batches batches, closing each, and notes after each how much every tenant has had.
create table pg_temp.history (job text, batch integer, slug text, items bigint);
create function pg_temp.serve(p_job text, p_batches integer, p_size integer) returns void language plpgsql as $$
declare
  v_drain uuid := tests.drain(p_job);
  v_batch jsonb;
begin
  for v_n in 1..p_batches loop
    v_batch := jobs.next_batch(v_drain, p_job, p_size);
    exit when v_batch is null;
    perform tests.close(v_batch, '{"outcome": "done"}');
    insert into pg_temp.history
    select p_job, v_n, t.slug, (select count(*) from jobs.attempts a where a.job = p_job and a.tenant_id = t.id) from public.tenants t
    where exists (select from jobs.lanes l where l.job = p_job and l.tenant_id = t.id);
  end loop;
end
$$;
create function pg_temp.had(p_job text, p_slug text) returns bigint language sql as $$
  select count(*) from jobs.attempts a where a.job = p_job and a.tenant_id = tests.id(p_slug)
$$;

select tests.tenant(slug, 'one') from unnest(array['ann', 'ben', 'cat', 'dan', 'eve']) slug;
select tests.tenant('four', 'four');
select tests.tenant('eight', 'eight');

-- Equals, with batches that are no multiple of the quantum.
select tests.job('equal', '{"quantum": 5}');
select tests.enqueue('equal', slug, n) from (values ('ann', 400), ('ben', 150), ('cat', 150)) as t (slug, n);
select pg_temp.serve('equal', 30, 13);
select is((select count(distinct batch) from pg_temp.history where job = 'equal'), 30::bigint, 'thirty batches were served');
select ok((select max(d) from (select max(items) - min(items) as d from pg_temp.history where job = 'equal' group by batch) x) <= 5,
  'after every batch equal lanes differ by at most one quantum');
select ok((select min(items) from pg_temp.history where job = 'equal' and batch = 30) >= 125, 'and all of them have got on');

-- Weights.
select tests.job('weighted', '{"quantum": 5}');
select tests.enqueue('weighted', slug, 2000) from unnest(array['ann', 'four', 'eight']) slug;
select pg_temp.serve('weighted', 13, 100);
select is((select sum(items) from pg_temp.history where job = 'weighted' and batch = 13), 1300::numeric, 'a batch is full while there is work');
select ok(abs(pg_temp.had('weighted', 'ann') - 100) <= 5, 'weight 1 of 13 gets 100 of 1,300, within a quantum');
select ok(abs(pg_temp.had('weighted', 'four') - 400) <= 5, 'weight 4 gets 400');
select ok(abs(pg_temp.had('weighted', 'eight') - 800) <= 5, 'weight 8 gets 800');

-- A new weight counts from the next claim on.
update public.plans set weight = 8 where plan_id = 'one';
select pg_temp.serve('weighted', 10, 100);
select ok(abs(pg_temp.had('weighted', 'ann') - 100 - 400) <= 15, 'a changed weight counts from the next claim on');
update public.plans set weight = 1 where plan_id = 'one';

-- A flood does not delay the small.
select tests.job('flood', '{"quantum": 10}');
select tests.enqueue('flood', 'dan', 3000);
select pg_temp.serve('flood', 10, 100);
select tests.enqueue('flood', 'eve', 1);
select matches(tests.served(tests.claim('flood', 100)), 'eve 1', 'who comes late with one item is in the very next batch');

-- Idleness is no credit.
select tests.job('idle', '{"quantum": 5}');
select tests.enqueue('idle', 'ann', 1000);
select tests.enqueue('idle', 'ben', 1);
select pg_temp.serve('idle', 10, 50);
select is(pg_temp.had('idle', 'ann'), 499::bigint, 'one lane has had 499 items while the other was idle');
select tests.enqueue('idle', 'ben', 400);
create table pg_temp.before as select pg_temp.had('idle', 'ann') as ann, pg_temp.had('idle', 'ben') as ben;
select pg_temp.serve('idle', 4, 50);
select ok(abs((pg_temp.had('idle', 'ann') - ann) - (pg_temp.had('idle', 'ben') - ben)) <= 5, 'when it wakes it gets its half, not what it missed') from pg_temp.before;

-- Neither does a lane that comes and goes gain on one that stays.
select tests.job('drip', '{"quantum": 5}');
select tests.enqueue('drip', 'ann', 500);
create function pg_temp.drip() returns void language plpgsql as $$
begin
  for v_n in 1..20 loop
    perform tests.enqueue('drip', 'ben', 5);
    perform pg_temp.serve('drip', 1, 20);
  end loop;
end
$$;
select pg_temp.drip();
select is(pg_temp.had('drip', 'ben'), 100::bigint, 'a lane that always has a little is served as it comes');
select is(pg_temp.had('drip', 'ann'), 300::bigint, 'and the rest goes to who has more');

-- Nobody waits behind lanes that may not be served.
select tests.job('stuck', '{"quantum": 1}');
select tests.tenant('gone-' || n, 'one') from generate_series(1, 60) n;
select tests.enqueue('stuck', 'gone-' || n) from generate_series(1, 60) n;
update public.tenants set status = 'suspended' where slug like 'gone-%';
select tests.enqueue('stuck', 'eve');
select is(tests.served(tests.claim('stuck', 5)), 'eve 1', 'lanes that may not be served do not stand in the way');
select is((select count(*) from jobs.lanes where job = 'stuck' and awake), 0::bigint, 'they are put to sleep on the way');
select is((select count(*) from jobs.items where job = 'stuck'), 60::bigint, 'with their work');

select * from finish();
rollback;
