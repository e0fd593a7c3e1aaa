-- The server's clock was an hour ahead and is set back: the engine goes on at once, and does nothing twice.
begin;
select plan(21);
select tests.tenant('pizza', 'enterprise');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "x"}');
select tests.job('hourly', '{"scope": "platform", "schedule": "0 * * * *"}');
select tests.job('bake', '{"max_drains": 1}');
select tests.job('fry', '{"has_cadence": true}');
select tests.job('look', '{"provider": "meta", "platform_allowed": true}');
select tests.tick();

-- What came about under the later time
select tests.pass('-1 hour');
update jobs.definitions set next_slot_at = date_trunc('hour', now()) + interval '2 hours' where job = 'hourly';
insert into jobs.slots (job, slot) values ('hourly', date_trunc('hour', now())), ('hourly', date_trunc('hour', now()) + interval '1 hour');
select tests.enqueue('bake', 'pizza', 3);
create table pg_temp.batch as select tests.claim('bake', 1) as b;
update jobs.batches set lease_until = lease_until + interval '1 hour';
update jobs.items set run_at = run_at + interval '1 hour', enqueued_at = enqueued_at + interval '1 hour';
update jobs.drains set rung_at = now() + interval '1 hour', answered_at = null, seen_at = null where job = 'bake';
update jobs.lanes set awake = false, reason = 'waiting', wake_at = now() + interval '1 hour' where job = 'bake';
select jobs.enqueue('bake', tests.id('pizza'), dedupe_key => 'tomorrow', run_at => now() + interval '1 day');
select tests.enqueue('fry', 'pizza');
update jobs.lanes set reason = 'cadence', wake_at = now() + interval '61 minutes', not_before = now() + interval '61 minutes' where job = 'fry';
insert into jobs.rates (tenant_id, provider, free_at) values (tests.id('pizza'), 'meta', now() + interval '1 hour');
insert into jobs.throttles (tenant_id, provider, until) values (tests.id('pizza'), 'meta', now() + interval '2 hours');
insert into jobs.breakers (tenant_id, provider, state, since) values (jobs.everyone_id(), 'meta', 'recovering', now() + interval '1 hour');
insert into jobs.backlogs (job, seen_at, ready) values ('bake', now() + interval '1 hour', 1) on conflict (job) do update set seen_at = excluded.seen_at;

-- Control: by itself it would wait.
select is(tests.claim('bake'), null, 'what was put down for later waits');
select is(tests.claim('fry'), null, 'so do lanes');
select ok((select last_tick_at > clock_timestamp() + interval '50 minutes' from jobs.platform), 'the last tick lies ahead');

select is(tests.tick() ->> 'skipped', 'the clock was set back', 'the next tick sees it');
select is((select next_slot_at from jobs.definitions where job = 'hourly'), date_trunc('hour', now()) + interval '1 hour', 'the schedule goes by the new time');
update jobs.definitions set next_slot_at = date_trunc('hour', now()) where job = 'hourly';
select is((tests.tick() ->> 'opened')::integer, 0, 'and a slot that has had its run has no second one');
select is((select count(*) from jobs.runs where job = 'hourly'), 0::bigint, 'not when it comes again either');
select is(tests.served(tests.claim('bake')), 'pizza 2', 'what was enqueued under the later time is due');
select is((select count(*) from jobs.items where dedupe_key = 'tomorrow' and run_at > now() + interval '23 hours'), 1::bigint, 'but not what was meant for later');
select is(tests.served(tests.claim('fry')), 'pizza 1', 'lanes that slept wake');
select ok(not exists (select from jobs.drains d join jobs.definitions x using (job) where d.job = 'bake' and d.answered_at is null and d.rung_at > clock_timestamp()), 'no doorbell is waited for that was rung in an hour');
select ok((select max(lease_until) <= clock_timestamp() + interval '61 seconds' from jobs.batches), 'leases are as long as they should be');
select ok((select free_at <= clock_timestamp() + interval '1 minute' from jobs.rates where tenant_id = tests.id('pizza')), 'limits too');
select ok((select since <= clock_timestamp() from jobs.breakers where state = 'recovering'), 'a provider that recovers goes on recovering');
select is((select count(*) from jobs.backlogs where seen_at > clock_timestamp()), 0::bigint, 'backlogs are looked at again');
select ok((select watched_at <= clock_timestamp() and cleaned_at <= clock_timestamp() and last_tick_at <= clock_timestamp() from jobs.platform), 'and all that is done once a minute or an hour');
select ok((select until > clock_timestamp() + interval '1 hour' from jobs.throttles), 'what a provider asked for stays');
select tests.pass('62 seconds');
select tests.tick();
select is((select count(*) from jobs.batches where job = 'bake'), 0::bigint, 'a lost worker''s batch comes back in time');
select is((select min(tries) from jobs.items where job = 'bake' and dedupe_key is null), 1, 'as a lost attempt');

-- A small step is none.
update jobs.platform set last_tick_at = clock_timestamp() + interval '5 seconds';
select is(tests.tick() ->> 'skipped', null, 'seconds are corrected all the time');
select is((select count(*) from jobs.items where job = 'bake'), 4::bigint, 'nothing is lost');

select * from finish();
rollback;
