-- The engine is for service_role only; members see their own queues through views.
begin;
select plan(22);
select tests.two_tenants();
select tests.enqueue('verify-social-tasks', 'pizza', 3);
insert into jobs.attempts (tenant_id, item_id, try, job, outcome, due_at, started_at, trace_id)
select tests.id(slug), 999999, 1, 'verify-social-tasks', 'done', now(), now(), gen_random_uuid() from unnest(array['pizza', 'gym']) slug;

select is((select string_agg(c.relname, ' ') from pg_catalog.pg_class c where c.relnamespace = 'jobs'::regnamespace and c.relkind in ('r', 'p', 'v')
    and tests.rows(who, format('select from %s', c.oid::regclass)) <> '42501'), null, format('%s reads no table of the engine', who))
from unnest(array['pizza owner', 'stranger', 'anon']) who;
select ok(tests.rows('service_role', 'select from jobs.items')::integer >= 3, 'while service_role does');
select is(tests.rows('service_role', 'insert into jobs.items (tenant_id, job, run_at) values (gen_random_uuid(), ''bake'', now())'), '42501', 'not even service_role writes items past the functions');
select is(tests.rows('service_role', 'delete from jobs.lanes'), '42501', 'nor lanes');
select is(tests.rows('service_role', 'update jobs.attempts set outcome = ''done'''), '42501', 'nor history');
select is(tests.rows('service_role', 'update jobs.definitions set cap = 7'), (select count(*)::text from jobs.definitions), 'it may change a job''s numbers');
select is(tests.rows('service_role', 'update jobs.definitions set apply_function = ''pg_catalog.version'''), '42501', 'but not which functions the database calls');

-- What members see
select is(tests.answer('pizza viewer', 'select string_agg(job || '' '' || (ready + waiting), '', '' order by job) from public.job_queues'), 'send-notifications 1, verify-social-tasks 4', 'a member sees the own queues');
select is(tests.answer('gym owner', 'select string_agg(job || '' '' || (ready + waiting), '', '' order by job) from public.job_queues'), 'send-notifications 1, verify-social-tasks 1', 'another tenant''s owner sees its own');
select is(tests.rows('pizza viewer', 'select from public.job_service_levels'), '1', 'and how it was served');
select is(tests.rows(who, 'select from public.job_queues'), '0', format('%s sees no queue', who)) from unnest(array['stranger', 'pizza participant']) who;
select is(tests.rows('anon', 'select from public.job_queues'), '42501', 'anon is refused');

-- Why
create table pg_temp.item as select min(item_id) as item_id from jobs.items where tenant_id = tests.id('pizza') and job = 'verify-social-tasks';
create function pg_temp.why(p_who text, p_slug text) returns text language sql as $$
  select tests.error_of(p_who, format('select public.why(%L, %s)', tests.id(p_slug), item_id)) from pg_temp.item
$$;
select is(pg_temp.why('pizza viewer', 'pizza'), null, 'a member asks why an item of its tenant waits');
select is(pg_temp.why('gym owner', 'pizza'), pg_temp.why('gym owner', 'no tenant'), 'another tenant''s owner learns nothing');
select is(tests.answer('gym owner', format('select public.why(%L, %s)', tests.id('gym'), (select item_id from pg_temp.item))), 'There is no such item.', 'also not by asking for it in the own tenant');

-- Beside a big neighbour: what a member asks for is found by index, whatever others have.
insert into jobs.attempts (tenant_id, item_id, try, job, outcome, due_at, started_at, trace_id)
select tests.id('neighbour ' || n % 100), n, 1, 'verify-social-tasks', 'done', now(), now(), gen_random_uuid() from generate_series(1, 20000) n;
analyze jobs.attempts;
create function pg_temp.walked() returns bigint language sql as $$
  select sum(s.seq_tup_read)::bigint from pg_catalog.pg_stat_xact_all_tables s where s.schemaname = 'jobs' and s.relname like 'attempts%'
$$;
create table pg_temp.before as select pg_temp.walked() as n;
select is(tests.rows('pizza viewer', 'select from public.job_service_levels'), '1', 'a member sees the own service');
select tests.rows('pizza viewer', 'select from public.job_queues');
select is(pg_temp.walked() - n, 0::bigint, 'and the attempts of others are not walked through for it') from pg_temp.before;
select ok(tests.answer('pizza viewer', 'select expected_start between now() - interval ''1 minute'' and now() + interval ''1 hour'' from public.job_queues where job = ''verify-social-tasks''')::boolean,
  'a member sees when work that came now would start');
select is((select string_agg(l.tries || ' ' || l.wait_p50_seconds, ', ') from jobs.plan_levels l where l.job = 'verify-social-tasks' and l.plan_id = 'pro'), '2 0.000', 'admins see each plan''s waiting times');

select * from finish();
rollback;
