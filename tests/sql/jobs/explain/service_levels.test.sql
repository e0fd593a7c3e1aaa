-- The arithmetic of the service reports, against numbers worked out by hand.
begin;
select plan(14);
select tests.tenant('pizza', 'pro');
select tests.tenant('bar', 'pro');
select tests.tenant('gym', 'free');
update public.plans set target_seconds = case plan_id when 'pro' then 120 else 600 end;
select tests.job('bake');
insert into jobs.attempts (tenant_id, item_id, try, job, outcome, due_at, started_at, finished_at, trace_id)
select tests.id(slug), item, try, 'bake', outcome, now() - interval '1 hour', now() - interval '1 hour' + make_interval(secs => wait), now() - interval '30 minutes', gen_random_uuid()
from (values
  ('pizza', -1, 1, 'retry', 5), ('pizza', -1, 2, 'done', 10), ('pizza', -2, 1, 'throttled', 500), ('pizza', -3, 1, 'cancelled', 9999),
  ('pizza', -4, 1, 'unknown', 20), ('pizza', -5, 1, 'refused', 30), ('pizza', -6, 1, 'credential broken', 3), ('pizza', -7, 1, 'lost', 3),
  ('bar', -8, 1, 'done', 120), ('gym', -9, 1, 'done', 400), ('gym', -10, 1, 'snoozed', -5)) as t (slug, item, try, outcome, wait);
insert into jobs.attempts (tenant_id, item_id, try, job, outcome, due_at, started_at, finished_at, trace_id)
select tests.id('bar'), -11, 1, 'bake', 'refused', now() - interval '3 days', now() - interval '2 days', now() - interval '2 days', gen_random_uuid();

create function pg_temp.level(p_slug text) returns jobs.service_levels language sql as $$
  select s from jobs.service_levels s where s.job = 'bake' and s.tenant_id = tests.id(p_slug)
$$;
select is((pg_temp.level('pizza')).tries, 7::bigint, 'every try that started counts, what was cancelled did not');
select is((pg_temp.level('pizza')).succeeded, 1::bigint, 'one was done');
select is((pg_temp.level('pizza')).success_rate, 0.2000, 'of five that burnt an attempt: being put off is no failure');
select is((pg_temp.level('pizza')).wait_p50_seconds, 10.000, 'half waited for 10 s at most');
select is((pg_temp.level('pizza')).wait_p95_seconds, 359.000, 'the 95th percentile lies 0.7 of the way from 30 to 500');
select is((pg_temp.level('pizza')).wait_p99_seconds, 471.800, 'the 99th 0.94 of it');
select is((pg_temp.level('pizza')).within_target, 0.8571, 'six of seven started within the plan''s 120 s');
select is((pg_temp.level('pizza')).per_minute, 0.0049, 'seven in a day are not none');
select is((pg_temp.level('bar')).tries, 1::bigint, 'what is older than a day is left out');
select is((pg_temp.level('bar')).within_target, 1.0000, 'exactly the target is within it');
select is((pg_temp.level('gym')).wait_p50_seconds, 200.000, 'who starts before its time has not waited');
select is((select row(l.tries, l.success_rate, l.wait_p50_seconds, l.within_target)::text from jobs.plan_levels l where l.job = 'bake' and l.plan_id = 'pro'),
  '(8,0.3333,15.000,0.8750)', 'a plan''s are over all of its tenants');
select is((select row(l.tries, l.success_rate, l.target_seconds)::text from jobs.plan_levels l where l.job = 'bake' and l.plan_id = 'free'), '(2,1.0000,600)', 'each with its own target');
delete from jobs.attempts where tenant_id = tests.id('gym') and outcome = 'done';
select is((pg_temp.level('gym')).success_rate, null, 'where nothing succeeded or failed there is no rate');

select * from finish();
rollback;
