-- SQL jobs are served in turn: none waits for another one to be empty.
begin;
select plan(2);
select tests.tenant(slug, 'enterprise') from unnest(array['pizza', 'gym']) slug;
create function private.tests_bake(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb) returns jsonb language sql set search_path = '' as 'select ''{}''::jsonb';
update jobs.definitions set paused = true where kind = 'sql';
select tests.job(job, '{"kind": "sql", "work_function": "private.tests_bake"}') from unnest(array['a-flood', 'm-few', 'z-one']) job;
select tests.enqueue('a-flood', 'pizza', 100);
select tests.enqueue('m-few', 'gym', 5);
select tests.enqueue('z-one', 'gym', 1);
select tests.work(3);
select is((select string_agg(distinct a.job, ' ' order by a.job) from jobs.attempts a), 'a-flood m-few z-one', 'the first three items are one of each job');
select tests.work(8);
select is((select string_agg(a.job || ' ' || a.items, ', ' order by a.job) from (select job, count(*) as items from jobs.attempts group by job) a),
  'a-flood 5, m-few 5, z-one 1', 'and so it goes on');
select * from finish();
rollback;
