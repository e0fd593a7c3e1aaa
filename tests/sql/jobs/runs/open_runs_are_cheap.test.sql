-- A scheduled run stays open for as long as one lane of it is paused. Ticks and drains must not add up its counts again and again.
begin;
select plan(21);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym', 'salon']) slug;
create function private.tests_eligible() returns setof uuid language sql set search_path = '' as $$
  select t.id from public.tenants t where t.slug in ('pizza', 'gym', 'salon')
$$;
select tests.job('daily', '{"schedule": "0 0 1 1 *", "eligible_function": "private.tests_eligible", "max_attempts": 2}');
create table pg_temp.run (n integer, run_id bigint);
create function pg_temp.begin(p_n integer) returns bigint language sql as $$
  insert into pg_temp.run select p_n, jobs.start_slot(d, now() - interval '1 day' + make_interval(mins => p_n)) from jobs.definitions d where d.job = 'daily' returning run_id
$$;
create function pg_temp.state(p_n integer) returns text language sql as $$
  select r.status || ' ' || c.processed
  from pg_temp.run join jobs.runs r using (run_id) cross join lateral jobs.run_counts(r.run_id) c where n = p_n
$$;
create function pg_temp.look() returns void language sql as $$ select jobs.finish_lost_drains(clock_timestamp()) $$;
-- How many counts were read since the transaction began.
create function pg_temp.counts_read() returns numeric language sql as $$
  select sum(pg_stat_get_xact_tuples_returned(x.oid) + pg_stat_get_xact_tuples_fetched(x.oid))
  from (
    select c.oid from pg_catalog.pg_class c where c.relname like 'run\_tenants%' and c.relkind = 'r'
    union all
    select i.indexrelid from pg_catalog.pg_class c join pg_catalog.pg_index i on i.indrelid = c.oid where c.relname like 'run\_tenants%' and c.relkind = 'r'
  ) x
$$;

-- One lane is paused
select pg_temp.begin(1);
select jobs.pause('daily', tests.id('gym'));
create table pg_temp.drain as select tests.drain('daily') as one, tests.drain('daily') as two;
select tests.close(jobs.next_batch(one, 'daily')::jsonb, '{"outcome": "done"}') from pg_temp.drain;
create table pg_temp.unseen as select pg_temp.counts_read() as n;
select pg_temp.look();
select ok(pg_temp.counts_read() > n, 'the first tick has to add up what was done') from pg_temp.unseen;
select is(pg_temp.state(1), 'running 2', 'a run with a paused lane goes on');
create table pg_temp.seen as select pg_temp.counts_read() as n;
select pg_temp.look();
select pg_temp.look();
select is(pg_temp.counts_read(), n, 'a tick adds nothing up while it knows an item of the run that is still there') from pg_temp.seen;
select jobs.end_drain(two) from pg_temp.drain;
select is(pg_temp.counts_read(), n, 'nor does a drain that ends') from pg_temp.seen;
select jobs.resume('daily', tests.id('gym'));
create table pg_temp.batch as select jobs.next_batch(one, 'daily')::jsonb as b from pg_temp.drain;
select is(tests.served(b), 'gym 1', 'the lane goes on') from pg_temp.batch;
select pg_temp.look();
select is(pg_temp.counts_read(), n, 'an item that is out with a worker is still there') from pg_temp.seen;
select tests.close(b, '{"outcome": "snooze", "seconds": 0, "reason": "later"}') from pg_temp.batch;
select pg_temp.look();
select is(pg_temp.counts_read(), n, 'so is one that came back') from pg_temp.seen;
select tests.close(jobs.next_batch(one, 'daily')::jsonb, '{"outcome": "done"}') from pg_temp.drain;
select pg_temp.look();
select is(pg_temp.state(1), 'success 3', 'the tick after its last item ends it');

-- However the last item ends
select pg_temp.begin(2);
select pg_temp.look();
select tests.close(jobs.next_batch(one, 'daily')::jsonb, '{"outcome": "done"}') from pg_temp.drain;
select jobs.end_drain(one) from pg_temp.drain;
select is(pg_temp.state(2), 'success 3', 'the drain that did the last items ends it at once');

select pg_temp.begin(3);
select pg_temp.look();
select tests.close(tests.claim('daily'), '{"outcome": "refused", "error": "closed"}');
select pg_temp.look();
select is(pg_temp.state(3), 'error 0', 'of one whose items died');
select is(jobs.replay('daily', dry_run => false), 3, 'what is replayed is not the run''s any more');
select pg_temp.begin(4);
select jobs.pause('daily', t.id) from public.tenants t where t.slug in ('pizza', 'gym', 'salon');
select pg_temp.look();
select is(pg_temp.state(4), 'running 0', 'a new one begins');
select jobs.cancel('daily', tests.id(slug), dry_run => false) from unnest(array['pizza', 'gym']) slug;
select pg_temp.look();
select is(pg_temp.state(4), 'running 0', 'it waits for the one that is left');
delete from public.tenants where slug = 'salon';
select pg_temp.look();
select is(pg_temp.state(4), 'success 0', 'and is over when its tenant is deleted');

-- A worker that was lost: its items come back, and end with the next.
select jobs.resume('daily', tests.id(slug)) from unnest(array['pizza', 'gym']) slug;
select pg_temp.begin(5);
select tests.claim('daily');
select pg_temp.look();
select tests.pass('1 hour');
select jobs.reap(clock_timestamp());
select pg_temp.look();
select is(pg_temp.state(5), 'running 0', 'items of a lost worker have not ended');
select tests.pass('1 hour');
select tests.claim('daily');
select tests.pass('1 hour');
select jobs.reap(clock_timestamp());
select pg_temp.look();
select is(pg_temp.state(5), 'error 0', 'until their attempts are used up, whoever finds that');

-- Several at once
select pg_temp.begin(6), pg_temp.begin(7);
select pg_temp.look();
select bag_eq('select run_id from jobs.witnesses', 'select run_id from pg_temp.run where n in (6, 7)', 'each open run has a witness of its own');
delete from jobs.witnesses;
select pg_temp.look();
select is((select count(*) from jobs.witnesses w join jobs.items i on i.item_id = w.item_id and i.tenant_id = w.tenant_id and i.run_id = w.run_id), 2::bigint, 'which is one of its items');
select tests.close(tests.claim('daily'), '{"outcome": "done"}');
select pg_temp.look();
select is(pg_temp.state(6) || ', ' || pg_temp.state(7), 'success 2, success 2', 'both end when their items have');

-- One that died and came back by a replay has the same number, and no run.
select pg_temp.begin(8);
select pg_temp.look();
select tests.close(tests.claim('daily'), '{"outcome": "refused", "error": "closed"}');
select jobs.replay('daily', dry_run => false);
select pg_temp.look();
select is(pg_temp.state(8), 'error 0', 'a replayed item keeps no run open');

-- What is over is forgotten when there is something new to remember.
select pg_temp.begin(9);
select pg_temp.look();
select results_eq('select run_id from jobs.witnesses', 'select run_id from pg_temp.run where n = 9', 'only open runs have witnesses');

select * from finish();
rollback;
