-- An open breaker of a tenant is probed by one item, however many jobs of the provider have work.
begin;
select plan(12);
select tests.tenant(slug, 'enterprise') from unnest(array['pizza', 'gym']) slug;
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "x"}');
select tests.job(job, '{"provider": "meta", "platform_allowed": true, "max_attempts": 100, "backoff_seconds": 1, "backoff_limit_seconds": 1, "breaker_after": 3, "quantum": 1}')
from unnest(array['look', 'read']) job;
create function pg_temp.open_breaker() returns void language plpgsql as $$
begin
  for v_n in 1..3 loop
    perform tests.enqueue('look', 'pizza');
    perform tests.close(tests.claim('look', 1), '{"outcome": "retry", "error": "no answer"}');
    perform tests.pass('2 seconds');
  end loop;
end
$$;
select pg_temp.open_breaker();
select tests.enqueue('read', slug, 3) from unnest(array['pizza', 'gym']) slug;
select is(tests.served(tests.claim('read')), 'gym 3', 'an open breaker holds the lanes of all jobs of that tenant, and no other''s');
select tests.pass('1 minute');
create table pg_temp.probe as select tests.claim('look') as b;
select is(tests.served(b), 'pizza 1', 'one item probes') from pg_temp.probe;
select is(tests.claim('read'), null, 'and none of another job');
select is(tests.lane('read', 'pizza'), 'asleep: breaker, wakes', 'whose lane looks again in a while');
select matches(jobs.why((select max(item_id) from jobs.items where job = 'read')), '^The breaker of its lane is open: an item of another job probes the provider, next look at ', 'and is told why');
select tests.close(b, '{"outcome": "retry", "error": "no answer"}') from pg_temp.probe;
select tests.pass('6 seconds');
select is(tests.claim('read'), null, 'a probe that fails keeps it open');
select ok(tests.wakes_in('read', 'pizza') > 30, 'until its new time');
select tests.pass('5 minutes');
create table pg_temp.second as select tests.claim('read') as b;
select is(tests.served(b), 'pizza 1', 'then another job may have the probe') from pg_temp.second;
select is(tests.claim('look'), null, 'and the first one waits');
select tests.close(b, '{"outcome": "done"}') from pg_temp.second;
select is((select count(*) from jobs.breakers where tenant_id = tests.id('pizza')), 0::bigint, 'an answer closes it');
select is(tests.served(tests.claim('look')), 'pizza 3', 'at once all work goes on');
select is(tests.served(tests.claim('read')), 'pizza 2', 'of all jobs');

select * from finish();
rollback;
