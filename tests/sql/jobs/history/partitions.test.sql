-- History is kept in partitions by day: made ahead, dropped whole, never in the way.
begin;
select plan(21);
select tests.tenant('pizza', 'pro');
create function pg_temp.partitions() returns setof text language sql as $$
  select c.relname::text from pg_catalog.pg_inherits h join pg_catalog.pg_class c on c.oid = h.inhrelid where h.inhparent = 'jobs.attempts'::regclass
$$;
create function pg_temp.attempt(p_at timestamptz) returns void language sql as $$
  insert into jobs.attempts (tenant_id, item_id, try, job, outcome, due_at, started_at, finished_at, trace_id)
  values (tests.id('pizza'), 1, 1, 'bake', 'done', p_at, p_at, p_at, gen_random_uuid())
$$;

select jobs.make_partitions('2031-05-30 12:00Z');
select set_has('select * from pg_temp.partitions()', $$ select unnest(array['attempts_20310530', 'attempts_20310531', 'attempts_20310601', 'attempts_20310602', 'attempts_default']) $$, 'today and three days ahead are there');
select pg_temp.attempt('2031-06-01 00:00Z');
select is((select tableoid::regclass::text from jobs.attempts where finished_at = '2031-06-01 00:00Z'), 'jobs.attempts_20310601', 'an attempt goes into its day, by UTC');
select is_empty($$ select c.oid::regclass from pg_catalog.pg_class c where c.relname like 'attempts\_%' and c.relkind = 'r' and c.relnamespace = 'jobs'::regnamespace and not c.relrowsecurity $$,
  'row-level security is on for every partition');
select is_empty($$
  select c.oid::regclass from pg_catalog.pg_class c, unnest(array['anon', 'authenticated']) r
  where c.relname like 'attempts\_%' and c.relkind = 'r' and c.relnamespace = 'jobs'::regnamespace and has_table_privilege(r, c.oid, 'select, insert, update, delete')
$$, 'and no user has a right on any');
select lives_ok($$ select jobs.make_partitions('2031-05-30 13:00Z') $$, 'a second time nothing is missing');

select pg_temp.attempt('2031-07-01 10:00Z');
select is((select tableoid::regclass::text from jobs.attempts where finished_at = '2031-07-01 10:00Z'), 'jobs.attempts_default', 'an attempt of a day without a partition is not lost');
select lives_ok($$ select jobs.make_partitions('2031-07-01 11:00Z') $$, 'that day stays where it is');
select set_has('select * from pg_temp.partitions()', $$ select unnest(array['attempts_20310702', 'attempts_20310703']) $$, 'the next have their own');
select ok('attempts_20310602' in (select pg_temp.partitions()), 'what is younger than 30 days stays');
select is((select count(*) from pg_temp.partitions() p where p < 'attempts_20310601'), 0::bigint, 'what is older is dropped');
select is((select count(*) from jobs.attempts where finished_at = '2031-06-01 00:00Z'), 1::bigint, 'and nothing else');

-- Runs and their counts by month
create function pg_temp.months(p_table text) returns setof text language sql as $$
  select c.relname::text from pg_catalog.pg_inherits h join pg_catalog.pg_class c on c.oid = h.inhrelid where h.inhparent = ('jobs.' || p_table)::regclass
$$;
select tests.job('bake');
select jobs.make_partitions('2031-11-30 23:30Z');
select set_has($$ select pg_temp.months('runs') $$, $$ select unnest(array['runs_203111', 'runs_203112', 'runs_default']) $$, 'of runs this month and the next are there');
select set_has($$ select pg_temp.months('run_tenants') $$, $$ select unnest(array['run_tenants_203111', 'run_tenants_203112', 'run_tenants_default']) $$, 'of their counts as well');
select is_empty($$ select c.oid::regclass from pg_catalog.pg_class c where c.relname ~ '^(runs|run_tenants)_' and c.relkind = 'r' and c.relnamespace = 'jobs'::regnamespace and not c.relrowsecurity $$,
  'row-level security is on for each of them');
insert into jobs.runs (job, trigger, started_at, finished_at, status) values ('bake', 'manual', '2031-12-01 00:00Z', '2031-12-01 00:01Z', 'success');
select is((select tableoid::regclass::text from jobs.runs where started_at = '2031-12-01 00:00Z'), 'jobs.runs_203112', 'a run goes into its month, by UTC');
create table pg_temp.run as select jobs.run_now('bake') as r;
select tests.enqueue('bake', 'pizza', 2);
select tests.close(jobs.next_batch((r ->> 'drain_id')::uuid, 'bake')::jsonb, '{"outcome": "done"}') from pg_temp.run;
select is((select sum(rt.processed) from jobs.run_tenants rt join jobs.runs r on r.run_id = rt.run_id and r.started_at = rt.started_at, pg_temp.run x
  where r.run_id = (x.r ->> 'run_id')::bigint), 2::numeric, 'the counts of a run carry its time, so they go with it');
select jobs.make_partitions('2032-02-28 12:00Z');
select ok('runs_203111' in (select pg_temp.months('runs')), 'a month stays while its last day is younger than 90 days');
select jobs.make_partitions('2032-03-30 12:00Z');
select is((select count(*) from (select pg_temp.months('runs') as m union all select pg_temp.months('run_tenants')) x where x.m ~ '_203111$'), 0::bigint, 'then it is dropped');
select ok('runs_203112' in (select pg_temp.months('runs')), 'and no other');

-- One run per slot, whatever partition it is in
select isnt(jobs.start_slot(d, '2031-12-05 00:00Z'), null, 'a slot has a run') from jobs.definitions d where d.job = 'bake';
select is((select jobs.start_slot(d, '2031-12-05 00:00Z') from jobs.definitions d where d.job = 'bake'), null, 'and never a second');

select * from finish();
rollback;
