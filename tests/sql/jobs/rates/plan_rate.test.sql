-- A plan's rate per minute holds for a tenant and provider over all its jobs; a tenth of it may come at once.
begin;
select plan(9);
insert into public.plans (plan_id, name, position, weight, cap, batch_share, cadence_seconds, rate_per_minute, target_seconds) values
  ('sixty', 'Sixty', 91, 1, 1000, 1000, 0, 60, 60);
select tests.tenant('pizza', 'sixty');
select tests.tenant('gym', 'enterprise');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "x"}');
select tests.job(job, '{"provider": "meta", "platform_allowed": true, "quantum": 1}') from unnest(array['look', 'read']) job;
select tests.job('bake');

select tests.enqueue(job, 'pizza', 150) from unnest(array['look', 'read', 'bake']) job;
create table pg_temp.given as select 0::numeric as second, 0::bigint as items where false;
-- The clock goes on by itself, too.
create table pg_temp.start as select clock_timestamp() as at;
create function pg_temp.take(p_seconds numeric) returns void language plpgsql as $$
declare
  v_job text;
  v_batch jsonb;
begin
  foreach v_job in array array['look', 'read'] loop
    v_batch := tests.claim(v_job, 100);
    if v_batch is not null then
      insert into pg_temp.given select p_seconds + extract(epoch from clock_timestamp() - (select at from pg_temp.start)), count(*) from tests.items_of(v_batch);
      perform tests.close(v_batch, '{"outcome": "done"}');
    end if;
  end loop;
end
$$;
select pg_temp.take(0);
select is((select sum(items) from pg_temp.given), 6::numeric, 'a tenth of the limit may come at once, for both jobs together');
select is(tests.lane('look', 'pizza'), 'asleep: rate limit, wakes', 'then the lane sleeps for the limit');
select is(tests.served(tests.claim('bake', 100)), 'pizza 100', 'a job without the provider is not limited');
select tests.enqueue('look', 'gym', 40);
select is(tests.served(tests.claim('look', 100)), 'gym 40', 'a tenant without a limit is not either');

create function pg_temp.minutes() returns void language plpgsql as $$
begin
  for v_second in 1..90 loop
    perform tests.pass('1 second');
    perform pg_temp.take(v_second);
  end loop;
end
$$;
select pg_temp.minutes();
select ok((select max(total) from (select sum(b.items) as total from pg_temp.given a join pg_temp.given b on b.second >= a.second and b.second < a.second + 60 group by a.second) w) <= 60,
  'in no 60 seconds more than the limit');
select ok((select sum(items) from pg_temp.given) >= 80, 'and nearly all of the limit is used');
select ok(count(distinct second) > 30, 'spread over time') from pg_temp.given where items > 0;
select is((select max(attempts) from jobs.items where job in ('look', 'read')), 0::smallint, 'waiting for the limit is no attempt');
select tests.enqueue('look', 'pizza', 100);
update public.plans set rate_per_minute = null where plan_id = 'sixty';
select tests.pass('1 minute');
select is(tests.served(tests.claim('look', 100)), 'pizza 100', 'a plan without a limit has none from the next claim on');

select * from finish();
rollback;
