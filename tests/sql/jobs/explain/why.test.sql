-- Why an item is not running, in words.
begin;
select plan(25);
select tests.tenant('pizza', 'pro');
select tests.tenant('gym', 'pro');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "x"}');
select tests.job('bake', '{"max_attempts": 2, "batch_size": 1, "quantum": 1}');
select tests.job('own', '{"provider": "meta"}');

create function pg_temp.why(p_job text default 'bake') returns text language sql as $$
  select jobs.why((select max(i.item_id) from jobs.items i where i.job = p_job))
$$;
select tests.tick();
select tests.enqueue('bake', 'pizza', 3);
select matches(pg_temp.why(), '^It is ready, behind 2 items of its own tenant', 'ready, and behind whom');
create table pg_temp.batch as select tests.claim('bake') as b;
select matches(jobs.why((select item_id from tests.items_of(b))), '^It is running: batch [0-9]+, lease until ', 'running') from pg_temp.batch;
select tests.close(b, '{"outcome": "done"}') from pg_temp.batch;
select matches(jobs.why((select item_id from tests.items_of(b))), '^It ended at .*: done', 'ended, and how') from pg_temp.batch;
select jobs.stop_all(true);
select matches(pg_temp.why(), 'stopped by the platform', 'everything stopped');
select jobs.stop_all(false);
select jobs.pause('bake');
select matches(pg_temp.why(), 'The job bake is paused', 'the job paused');
select jobs.resume('bake');
select jobs.pause('bake', tests.id('pizza'));
select matches(pg_temp.why(), 'Its lane is paused', 'the lane paused');
select jobs.resume('bake', tests.id('pizza'));
select jobs.enqueue('bake', tests.id('pizza'), run_at => now() + interval '1 hour');
select matches(pg_temp.why(), '^It is not due before .* because of: delay', 'not due');
select tests.enqueue('own', 'pizza');
select tests.claim('own');
select matches(pg_temp.why('own'), 'breaker of its lane is open: no meta credential; it waits until the credential changes', 'no credential');
update public.plans set cap = 1 where plan_id = 'pro';
delete from jobs.items where run_at > now() and job = 'bake';
select tests.claim('bake');
select matches(pg_temp.why(), 'as many items of bake in flight as its plan allows', 'capped');
update public.plans set cap = 100 where plan_id = 'pro';

select tests.enqueue('bake', 'gym');
create table pg_temp.gym as select max(item_id) as item_id from jobs.items where job = 'bake' and tenant_id = tests.id('gym');
create function pg_temp.fail() returns void language plpgsql as $$
declare
  v_batch jsonb;
begin
  loop
    v_batch := tests.claim('bake');
    exit when v_batch is null;
    perform tests.close(v_batch, '{"outcome": "retry", "error": "no answer", "after_seconds": 50}');
  end loop;
end
$$;
select pg_temp.fail();
select matches(jobs.why(item_id), 'because of: backoff \(attempt 1 of 2 failed: no answer\)', 'waiting for a retry, with the last error') from pg_temp.gym;
select tests.pass('1 minute');
select pg_temp.fail();
select matches(jobs.why(item_id), '^Dead since .* after 2 attempts: attempts used up. Last error: no answer', 'dead, and why') from pg_temp.gym;
select is(jobs.why(-1), 'There is no such item.', 'nothing at all');
select is(jobs.why(item_id, tests.id('pizza')), 'There is no such item.', 'another tenant''s item is none') from pg_temp.gym;
select tests.enqueue('bake', 'gym');
select tests.close(tests.claim('bake'), '{"outcome": "throttled", "seconds": 100, "error": "429"}') from generate_series(1, 5);
select matches(coalesce(pg_temp.why(), ''), 'rate limit', 'throttled');
select is(tests.answer('service_role', 'select jobs.why(-1)'), 'There is no such item.', 'service_role may ask');
select tests.member('pizza', 'pizza owner', 'owner');
select is(tests.answer('pizza owner', 'select jobs.why(-1)'), '42501', 'users ask through public.why, for their own tenant');

-- What concerns all tenants together, and what is told to whom.
select tests.tick();
delete from jobs.items; delete from jobs.leases;
select tests.job('fry', '{"cap": 1}');
select tests.enqueue('fry', slug, 2) from unnest(array['pizza', 'gym']) slug;
select tests.claim('fry');
select matches(pg_temp.why('fry'), 'as many items in flight as it may have for all tenants together', 'the job is capped as a whole');
update jobs.definitions set cap = null where job = 'fry';
select matches(pg_temp.why('fry'), '; [01] other lanes are awake', 'the platform hears how many other lanes are awake');
create function pg_temp.told() returns text language sql as $$
  select tests.answer('pizza owner', format('select public.why(%L, %s)', tests.id('pizza'),
    (select max(i.item_id) from jobs.items i where i.job = 'fry' and i.tenant_id = tests.id('pizza'))))
$$;
select matches(pg_temp.told(), '^It is ready, behind [0-9]+ items of its own tenant\. Expected start', 'a tenant does not: how many others there are is none of its business');
select tests.job('mail', '{"provider": "meta", "platform_allowed": true}');
insert into jobs.provider_limits (provider, rate_per_minute) values ('meta', 1);
select tests.enqueue('mail', 'gym', 2);
select tests.claim('mail');
select matches(pg_temp.why('mail'), 'The limit of meta for all tenants together is used up', 'the provider''s limit');

-- A lane that nothing has woken yet, although its reason is over.
delete from jobs.items;
select tests.job('slow', '{"provider": "meta", "platform_allowed": true}');
delete from jobs.provider_limits;
delete from jobs.throttles;
delete from jobs.breakers;
select tests.enqueue('slow', 'pizza');
update jobs.lanes set awake = false, wake_at = null, reason = 'breaker', detail = 'the token was revoked' where job = 'slow';
select is(pg_temp.why('slow'), 'Its lane is asleep until something wakes it, because of: breaker (the token was revoked).', 'a lane that sleeps for a breaker that is closed says so');
update jobs.items set run_at = now() + interval '1 hour' where job = 'slow';
select matches(pg_temp.why('slow'), '^Its lane is asleep until something wakes it', 'also where its item is not due: that is not what it waits for');
update jobs.lanes set wake_at = now() + interval '2 hours', reason = 'rate limit', detail = '429' where job = 'slow';
select matches(pg_temp.why('slow'), '^Its lane is asleep until .* because of: rate limit \(429\)\.$', 'nor where the lane sleeps longer than it');
update jobs.lanes set wake_at = now() + interval '1 minute' where job = 'slow';
select matches(pg_temp.why('slow'), '^It is not due before', 'where it wakes in time the item''s own time counts');
update jobs.items set run_at = now() where job = 'slow';
update jobs.lanes set wake_at = null, reason = r, detail = null from unnest(array['cap']) r where job = 'slow';
select is(pg_temp.why('slow'), 'Its lane is asleep until something wakes it, because of: cap.', 'whatever the reason, a lane that sleeps is not ready');

select * from finish();
rollback;
