-- What jobs.why says stays true when something does not go on: a worker, a tick, a probe, a provider.
begin;
select plan(20);
select tests.tenant(slug, 'enterprise') from unnest(array['pizza', 'gym']) slug;
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "x"}');
select tests.job('bake', '{"batch_size": 2, "quantum": 1}');
select tests.job('fry', '{"batch_size": 2, "quantum": 1}');
select tests.job('look', '{"provider": "meta", "platform_allowed": true, "max_attempts": 100, "backoff_seconds": 1, "backoff_limit_seconds": 1, "breaker_after": 3, "quantum": 1}');
create function pg_temp.why(p_job text, p_slug text default 'pizza') returns text language sql as $$
  select jobs.why((select max(i.item_id)
    from (select job, tenant_id, item_id from jobs.items union all select job, tenant_id, item_id from jobs.leased_items) i
    where i.job = p_job and i.tenant_id = tests.id(p_slug)))
$$;

-- A worker
select tests.tick();
select tests.enqueue('bake', 'pizza');
select tests.claim('bake');
select matches(pg_temp.why('bake'), '^It is running: batch [0-9]+, lease until ', 'it runs while its lease does');
select tests.pass('5 minutes');
select matches(pg_temp.why('bake'), '^Its worker was lost: the lease of batch [0-9]+ ended at .*\. The next tick takes it back\.$', 'not after that');
select tests.tick();
select matches(pg_temp.why('bake'), 'because of: backoff \(attempt 1 of 8 failed: the lease ran out\)', 'the tick takes it back');

-- A tick
select tests.enqueue('bake', 'gym');
select matches(pg_temp.why('bake', 'gym'), 'Expected start: with the next drain\.$', 'it starts with the next drain');
update jobs.platform set last_tick_at = now() - interval '1 hour';
select matches(pg_temp.why('bake', 'gym'), 'No tick has come since .*: nothing starts before one does\.$', 'but not while no tick comes');
update jobs.platform set last_tick_at = null;
select matches(pg_temp.why('bake', 'gym'), 'No tick has come: nothing', 'or has come yet');
select tests.tick();
delete from jobs.drains;
insert into jobs.drains (job, rung_at, ended_at, error)
select 'bake', now() - n * interval '20 seconds', now() - n * interval '10 seconds', 'the doorbell was not answered' from generate_series(1, 3) n;
select matches(pg_temp.why('bake', 'gym'), 'No worker answers the doorbells of its job', 'nor while no worker answers');
select tests.enqueue('fry', 'gym');
select matches(pg_temp.why('fry', 'gym'), 'Expected start: with the next drain', 'doorbells of another job say nothing');
update jobs.drains set error = 'PGRST106', answered_at = ended_at where job = 'bake' and ended_at < now() - interval '15 seconds';
select matches(pg_temp.why('bake', 'gym'), 'The workers of its job fail: it starts when one succeeds', 'nor while all of them fail');
select tests.drain('bake');
select matches(pg_temp.why('bake', 'gym'), 'Expected start: with the next drain', 'a worker that has answered is one');
select jobs.open_alert(null, 'doorbell', 'x');
select matches(pg_temp.why('bake', 'gym'), 'No doorbell can be rung: it starts when one can', 'it is of no use while nobody can be called');
select jobs.close_alert(null, 'doorbell');
select matches(pg_temp.why('bake', 'gym'), 'Expected start: with the next drain', 'and is again afterwards');
select tests.enqueue('bake', 'gym', 5);
select matches(pg_temp.why('bake', 'gym'), 'behind 5 items .* Expected start: not known, nothing of its lane was served', 'what the next drain will not reach is not promised');

-- A probe
select tests.enqueue('look', 'pizza', 2);
create function pg_temp.fail() returns void language plpgsql as $$
begin
  for v_n in 1..3 loop
    perform tests.close(tests.claim('look', 1), '{"outcome": "retry", "error": "no answer"}');
    perform tests.pass('2 seconds');
  end loop;
end
$$;
select pg_temp.fail();
select matches(pg_temp.why('look'), '^The breaker of its lane is open: 3 servings in a row failed, next look at ', 'a breaker that is open');
select tests.pass('1 minute');
create table pg_temp.probe as select i.item_id from tests.items_of(tests.claim('look')) i;
select is((select count(*) from pg_temp.probe), 1::bigint, 'is probed by one item');
select is(jobs.why((select i.item_id from jobs.items i where i.job = 'look' and i.item_id not in (select item_id from pg_temp.probe))),
  'The breaker of its lane is open, and another item probes the provider; it goes on when that one is answered.', 'which is not a cap of the plan');
delete from jobs.breakers;
update public.plans set cap = 1 where plan_id = 'enterprise';
select matches(jobs.why((select i.item_id from jobs.items i where i.job = 'look' and i.item_id not in (select item_id from pg_temp.probe))),
  'as many items of look in flight as its plan allows', 'while a cap is');
update public.plans set cap = 1000 where plan_id = 'enterprise';

-- A provider
select tests.enqueue('look', 'gym');
insert into jobs.breakers (tenant_id, provider, state, open_until, reason) values (jobs.everyone_id(), 'meta', 'open', now() + interval '30 seconds', 'x');
select matches(pg_temp.why('look', 'gym'), '^The provider meta does not answer for anybody\. One item of one tenant probes it, not before .*; then the others go on\.$', 'when a provider is probed next');
select tests.pass('1 minute');
select matches(pg_temp.why('look', 'gym'), 'One item of one tenant probes it, now;', 'or that it is probed now');
update jobs.breakers set state = 'recovering', open_until = null;
select matches(pg_temp.why('look', 'gym'), '^It is ready', 'one that is back holds nobody');

select * from finish();
rollback;
