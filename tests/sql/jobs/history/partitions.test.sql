-- History is kept in partitions by day: made ahead, dropped whole, never in the way.
begin;
select plan(11);
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

select * from finish();
rollback;
