-- A backlog that grows faster than it drains is told before a promise breaks, with the time at which it will.
begin;
select plan(12);
select tests.tenant('pizza', 'pro');
select tests.job('bake');
update public.plans set target_seconds = 600 where plan_id = 'pro';
update jobs.platform set last_tick_at = clock_timestamp();
delete from jobs.alerts;

-- Ten more are ready at each look, a minute apart; 25 were done within five minutes.
create function pg_temp.look(p_minutes_ago integer, p_more integer) returns void language sql as $$
  select jobs.enqueue('bake', tests.id('pizza'), run_at => now() - interval '4 minutes') from generate_series(1, p_more);
  update jobs.lanes set awake = true, reason = null, wake_at = null, detail = null where job = 'bake';
  select jobs.look_at_backlogs(now() - make_interval(mins => p_minutes_ago));
$$;
insert into jobs.attempts (tenant_id, item_id, try, job, outcome, due_at, started_at, finished_at, trace_id)
select tests.id('pizza'), -n, 1, 'bake', 'done', now(), now(), now() - interval '1 minute', gen_random_uuid() from generate_series(1, 25) n;

select pg_temp.look(3, 10);
select is((select count(*) from jobs.forecast(now()) where job = 'bake'), 0::bigint, 'one look tells nothing');
select pg_temp.look(2, 10);
select is((select count(*) from jobs.forecast(now()) where job = 'bake'), 0::bigint, 'a single burst is no trend');
select pg_temp.look(1, 10);
select is((select ready from jobs.backlogs where job = 'bake'), 30::bigint, 'what is ready is counted');
select is((select growth_per_minute from jobs.backlogs where job = 'bake')::integer, 10, 'and by how much it grows');
select pg_temp.look(1, 5);
select is((select ready from jobs.backlogs where job = 'bake'), 30::bigint, 'a second look within half a minute is none');
delete from jobs.items where item_id in (select item_id from jobs.items where job = 'bake' order by item_id desc limit 5);

-- 5 a minute are done: 50 would be a wait of 600 s. From 30 it is 2 minutes to 50, and 10 more until that wait is over.
select is((select breach_at from jobs.forecast(now()) where job = 'bake'), now() + interval '12 minutes',
  'the promise breaks when the wait of what comes has grown to it');
select jobs.watch(now() - interval '40 seconds');
select is((select count(*) from jobs.alerts where incident = 'growth bake' and closed_at is null), 1::bigint, 'which is an alert');
select ok((select message like '%30 items are ready, 10.0 more each minute, 5.0 are done per minute%' from jobs.alerts where incident = 'growth bake'),
  'that tells how fast it grows and drains');
select ok((select message like '%the target of 600 s will be broken at ' || to_char((now() - interval '40 seconds' + interval '12 minutes') at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC.'
    from jobs.alerts where incident = 'growth bake'), 'and when the promise will break');
select is((select (details ->> 'breach_at')::timestamptz from jobs.alerts where incident = 'growth bake'), now() - interval '40 seconds' + interval '12 minutes',
  'as its details do');
select jobs.watch(now());
select is((select count(*) from jobs.alerts where incident = 'growth bake' and closed_at is null), 0::bigint, 'over when it grows no more');
select is((select count(*) from jobs.alerts where incident = 'growth bake'), 1::bigint, 'one alert for one incident');

select * from finish();
rollback;
