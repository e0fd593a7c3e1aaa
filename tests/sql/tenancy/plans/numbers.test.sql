-- Numbers that an admin may set and that would never be got rid of again.
begin;
select plan(8);
select tests.tenant('pizza', 'pro');
select tests.job('bake');
create function pg_temp.plan_says(p_set text) returns text language sql as $$
  select tests.answer('service_role', format('update public.plans set %s where plan_id = ''pro'' returning plan_id', p_set))
$$;
create function pg_temp.job_says(p_set text) returns text language sql as $$
  select tests.answer('service_role', format('update jobs.definitions set %s where job = ''bake'' returning job', p_set))
$$;
select is(pg_temp.plan_says('weight = ''NaN'''), '23514', 'a weight that is no number is refused: the virtual clock would stay with it');
select is(pg_temp.plan_says('weight = 9999.99'), 'pro', 'the highest one is not');
select is(pg_temp.job_says('backoff_limit_seconds = ''NaN'''), '23514', 'a backoff limit that is no number is refused');
select is(pg_temp.job_says('backoff_seconds = ''NaN'', backoff_limit_seconds = ''NaN'''), '23514', 'so is a backoff');
select is(pg_temp.job_says('backoff_limit_seconds = ''Infinity'''), '23514', 'and one without an end');
select is(pg_temp.job_says('backoff_limit_seconds = 31536000'), 'bake', 'up to a year it may be');
select is(pg_temp.job_says('breaker_after = 2147483647'), '23514', 'a breaker that could not count as far is refused');
select is(pg_temp.job_says('breaker_after = 1000000'), 'bake', 'one that hardly ever opens is not');
select * from finish();
rollback;
