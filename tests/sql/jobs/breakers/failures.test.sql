-- Breakers by failures: five servings in a row that fail open the breaker of a tenant; one probe decides.
begin;
select plan(18);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym']) slug;
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "x"}');
select tests.job('look', '{"provider": "meta", "platform_allowed": true, "max_attempts": 100, "backoff_seconds": 1, "backoff_limit_seconds": 1, "breaker_after": 3}');
select tests.enqueue('look', 'pizza', 50);

create function pg_temp.serve(p_outcome text, p_size integer default 2) returns text language plpgsql as $$
declare
  v_batch jsonb := tests.claim('look', p_size);
begin
  perform tests.close(v_batch, jsonb_build_object('outcome', p_outcome, 'error', 'no answer')) where v_batch is not null;
  perform tests.pass('2 seconds');
  return tests.served(v_batch);
end
$$;
create function pg_temp.breaker() returns text language sql as $$
  select coalesce((select b.state from jobs.breakers b where b.tenant_id = tests.id('pizza') and b.provider = 'meta'), 'closed')
$$;

select pg_temp.serve('retry');
select pg_temp.serve('retry');
select is(pg_temp.breaker(), 'closed', 'two failures in a row are bad luck');
select pg_temp.serve('done');
select pg_temp.serve('retry');
select pg_temp.serve('retry');
select is(pg_temp.breaker(), 'closed', 'an answer in between starts the count anew');
select pg_temp.serve('retry');
select is(pg_temp.breaker(), 'open', 'three in a row open the breaker');
select is(pg_temp.serve('done'), 'nothing', 'then the lane is not served');
select is(tests.lane('look', 'pizza'), 'asleep: breaker, wakes', 'it sleeps until the probe');
select ok(tests.wakes_in('look', 'pizza') between 15 and 40, 'in about half a minute');
select tests.enqueue('look', 'gym', 2);
select is(pg_temp.serve('done'), 'gym 2', 'others are served meanwhile');
select tests.pass('1 minute');
select is(pg_temp.serve('retry', 10), 'pizza 1', 'one item probes');
select is(pg_temp.breaker(), 'open', 'if it fails the breaker stays open');
select is(pg_temp.serve('retry', 10), 'nothing', 'for longer');
select ok(tests.wakes_in('look', 'pizza') between 40 and 80, 'twice as long');
select tests.pass('2 minutes');
create table pg_temp.probe as select tests.claim('look') as b;
select is(tests.served(b), 'pizza 1', 'another probe') from pg_temp.probe;
select is(tests.claim('look'), null, 'one at a time');
select tests.close(b, '{"outcome": "done"}') from pg_temp.probe;
select is(pg_temp.breaker(), 'closed', 'if it succeeds the breaker closes');
select is(pg_temp.serve('done', 10), 'pizza 10', 'and work goes on');

-- What is not the provider's fault opens nothing.
select pg_temp.serve(o) from unnest(array['snooze', 'refused', 'snooze', 'refused', 'snooze', 'refused']) o;
select is(pg_temp.breaker(), 'closed', 'answers that say no are answers');
select is((select count(*) from jobs.dead_items where reason <> 'refused'), 0::bigint, 'no item died for want of an answer');
select is((select count(*) from jobs.alerts where incident = 'credential meta'), 0::bigint, 'and nobody was told that the credential is broken');

select * from finish();
rollback;
