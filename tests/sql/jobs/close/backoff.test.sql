begin;
select plan(6);
select tests.job('bake', '{"backoff_seconds": 10, "backoff_limit_seconds": 100}');
create function pg_temp.waits(p_attempts integer) returns setof numeric language sql as $$
  select extract(epoch from jobs.backoff(d, p_attempts)) from jobs.definitions d, generate_series(1, 500) where d.job = 'bake'
$$;
select ok(max(w) <= 10 and min(w) >= 0, 'the first retry waits up to the job''s backoff') from pg_temp.waits(1) w;
select ok(max(w) <= 40 and max(w) > 20, 'each next one up to twice as long') from pg_temp.waits(3) w;
select ok(max(w) <= 100 and max(w) > 90, 'never longer than the ceiling') from pg_temp.waits(10) w;
select ok(max(w) <= 100, 'however many attempts there were') from pg_temp.waits(32000) w;
select ok(min(w) < 10, 'with full jitter: some of them come soon') from pg_temp.waits(10) w;
select ok(avg(w) between 35 and 65, 'and they spread evenly') from pg_temp.waits(10) w;
select * from finish();
rollback;
