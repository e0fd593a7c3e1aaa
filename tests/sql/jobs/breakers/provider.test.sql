-- The provider as a whole: when it answers nobody, one item probes for all; then no stampede. And its limit for all tenants together.
begin;
select plan(15);
select tests.tenant('shop-' || n, 'enterprise') from generate_series(1, 12) n;
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "x"}');
select tests.job('look', '{"provider": "meta", "platform_allowed": true, "max_attempts": 100, "backoff_seconds": 1, "backoff_limit_seconds": 1, "breaker_after": 3, "quantum": 1, "batch_size": 40}');
select tests.enqueue('look', 'shop-' || n, 20) from generate_series(1, 12) n;
delete from jobs.breakers;
delete from jobs.alerts;

create function pg_temp.serve(p_outcome text, p_size integer default null) returns bigint language plpgsql as $$
declare
  v_batch jsonb := tests.claim('look', p_size);
begin
  perform tests.close(v_batch, jsonb_build_object('outcome', p_outcome, 'error', 'no answer'));
  return (select count(*) from tests.items_of(v_batch));
end
$$;
create function pg_temp.provider() returns text language sql as $$
  select coalesce((select b.state from jobs.breakers b where b.tenant_id = jobs.everyone_id() and b.provider = 'meta'), 'closed')
$$;

select pg_temp.serve('retry', 12);
select is(pg_temp.provider(), 'open', 'when no tenant gets an answer the provider''s breaker opens, before every tenant has found out alone');
select is((select count(*) from jobs.alerts where incident = 'provider meta' and closed_at is null), 1::bigint, 'one alert says so');
select tests.pass('2 seconds');
select is(pg_temp.serve('done'), 0::bigint, 'nobody is served');
select is((select count(*) from jobs.dead_items), 0::bigint, 'and nothing dies');
select tests.pass('1 minute');
create table pg_temp.probe as select tests.claim('look') as b;
select is((select count(*) from pg_temp.probe, tests.items_of(b)), 1::bigint, 'after a while one item of one tenant probes');
select is(tests.claim('look'), null, 'for all');
select tests.close(b, '{"outcome": "retry", "error": "no answer"}') from pg_temp.probe;
select is(pg_temp.provider(), 'open', 'it fails: still open');
select tests.pass('10 minutes');
select is(pg_temp.serve('done'), 1::bigint, 'another probe');
select is(pg_temp.provider(), 'recovering', 'succeeds: the provider is recovering');
select is((select count(*) from jobs.alerts where incident = 'provider meta' and closed_at is null), 0::bigint, 'the alert is over');
select ok(pg_temp.serve('done') < 5, 'the first batches are small: no stampede');
select tests.pass('61 seconds');
select tests.tick();
select is(pg_temp.provider(), 'closed', 'after a minute it is as before');
select is(pg_temp.serve('done'), 40::bigint, 'with full batches');

-- The limit of the provider for all tenants together
insert into jobs.provider_limits (provider, rate_per_minute) values ('meta', 100)
  on conflict (provider) do update set rate_per_minute = excluded.rate_per_minute;
select is(pg_temp.serve('done'), 10::bigint, 'a provider may have a limit for all tenants together: a tenth at once');
select is(pg_temp.serve('done'), 0::bigint, 'then it flows');

select * from finish();
rollback;
