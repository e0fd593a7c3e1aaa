-- A job's own SQL may assert, raise, hang or take its session with it: the tick goes on for all others.
begin;
select plan(30);
select tests.tenant('pizza', 'pro');
select private.keep_secret('project_url', 'http://127.0.0.1:9');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
update jobs.definitions set paused = true;
create function private.tests_work(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb) returns jsonb language sql set search_path = '' as $$ select '{}'::jsonb $$;
create function private.tests_bad() returns setof uuid language plpgsql set search_path = '' as $$
begin
  assert false, 'This cannot be.';
end
$$;
create function private.tests_condition() returns boolean language plpgsql set search_path = '' as $$
begin
  assert false, 'This cannot be.';
end
$$;
-- By name the bad ones come first.
select tests.job('a-bad', '{"kind": "sql", "work_function": "private.tests_work", "eligible_function": "private.tests_bad", "schedule": "0 0 1 1 *"}');
select tests.job('b-bad', '{"kind": "sql", "work_function": "private.tests_work", "condition_function": "private.tests_condition", "schedule": "0 0 1 1 *"}');
select tests.job('good', '{"kind": "sql", "scope": "platform", "work_function": "private.tests_work", "schedule": "0 0 1 1 *"}');
select tests.job('bake');
create function pg_temp.due() returns void language sql as $$
  update jobs.definitions set next_slot_at = now() - interval '1 second' where job in ('a-bad', 'b-bad', 'good')
$$;
create function pg_temp.alerts(p_incident text) returns bigint language sql as $$
  select count(*) from jobs.alerts a where a.incident = p_incident and a.closed_at is null
$$;
create function pg_temp.runs(p_job text) returns bigint language sql as $$ select count(*) from jobs.runs r where r.job = p_job $$;

-- Asserts
select pg_temp.due();
update jobs.platform set last_tick_at = null;
select lives_ok('select tests.tick()', 'a failed assert of an eligible or a condition function stops no tick');
select isnt((select last_tick_at from jobs.platform), null, 'the tick has come');
select is(pg_temp.runs('good'), 1::bigint, 'the schedules of other jobs go on');
select is(pg_temp.alerts('schedule a-bad') + pg_temp.alerts('schedule b-bad'), 2::bigint, 'an alert tells of each');
select is_empty('select from jobs.steps', 'both are tried again at the next tick');

-- Hangs
create or replace function private.tests_bad() returns setof uuid language plpgsql set search_path = '' as $$
begin
  perform pg_sleep(20);
end
$$;
update jobs.definitions set paused = true where job = 'b-bad';
delete from jobs.alerts; delete from jobs.slots;
select pg_temp.due();
select tests.enqueue('bake', 'pizza');
update jobs.platform set last_tick_at = null;
set local statement_timeout = '500ms';
create table pg_temp.tick as select tests.tick() as t;
set local statement_timeout = 0;
select is((t ->> 'rung')::integer, 1, 'an eligible function that hangs keeps no doorbell from being rung') from pg_temp.tick;
select isnt((select last_tick_at from jobs.platform), null, 'and no tick from coming');
select matches((select message from jobs.alerts where incident = 'schedule a-bad' and closed_at is null),
  '^The slot of a-bad could not be started: .* tried again after .* UTC; the other jobs go on.$', 'the alert says when it is tried again');
select is((select string_agg(step, ', ') from jobs.steps where retry_at > clock_timestamp() + interval '1 minute'), 'schedule a-bad', 'which is minutes later');
set local statement_timeout = '5s';
select is((tests.tick() ->> 'opened')::integer, 1, 'the next tick leaves it out and opens the slots of the others');
select tests.pass('2 minutes');
set local statement_timeout = '500ms';
select tests.tick();
set local statement_timeout = 0;
select is((select tries from jobs.steps), 2, 'it is tried again when its time has come');
select ok((select retry_at > clock_timestamp() + interval '3 minutes' from jobs.steps), 'and then waits for longer');
select is((select count(*) from jobs.alerts where incident = 'schedule a-bad'), 1::bigint, 'all of that is one incident');
create or replace function private.tests_bad() returns setof uuid language sql set search_path = '' as $$ select tests.id('pizza') $$;
select is((tests.tick() ->> 'opened')::integer, 0, 'repaired, it still waits for its turn');
select tests.pass('4 minutes');
select is((tests.tick() ->> 'opened')::integer, 1, 'then its slot is opened after all');
select is(pg_temp.alerts('schedule a-bad'), 0::bigint, 'the alert is over');
select is_empty('select from jobs.steps', 'and nothing is left of it');

-- Its session ended in the middle: what was committed before it began tells.
select pg_temp.due();
delete from jobs.slots; delete from jobs.runs where job = 'good';
select is(jobs.next_step('reap'), 'schedule a-bad', 'a step is written down before it is taken');
select is(jobs.next_step('schedule a-bad'), 'schedule good', 'so is the next');
delete from jobs.steps where step = 'schedule good';
select tests.pass('61 seconds');
select is((tests.tick() ->> 'opened')::integer, 1, 'a step that took its session with it is left out by the next ticks');
select is(pg_temp.alerts('schedule a-bad'), 1::bigint, 'and an alert tells of it');
select tests.pass('1 minute');
select is((tests.tick() ->> 'opened')::integer, 1, 'later it is tried again');
select is(pg_temp.alerts('schedule a-bad'), 0::bigint, 'which ends the alert');

-- Taking back
create function private.tests_apply(p_ended jobs.ended[]) returns void language plpgsql security definer set search_path = '' as $$
begin
  perform pg_sleep(20);
end
$$;
update jobs.definitions set paused = true where job in ('a-bad', 'good');
select tests.job('a-fry', '{"max_attempts": 1, "apply_function": "private.tests_apply"}');
select tests.job('boil');
select tests.enqueue(job, 'pizza') from unnest(array['a-fry', 'boil']) job;
select tests.claim(job) from unnest(array['a-fry', 'boil']) job;
select tests.pass('61 seconds');
set local statement_timeout = '500ms';
select tests.tick();
set local statement_timeout = 0;
select is(pg_temp.alerts('reap a-fry'), 1::bigint, 'an apply function that hangs is an alert');
select is((tests.tick() ->> 'reaped')::integer, 1, 'at the next tick the batches of others are taken back');
select is((select count(*) from jobs.leased_items where job = 'a-fry'), 1::bigint, 'its own waits');
select jobs.watch(clock_timestamp());
select is(pg_temp.alerts('reap a-fry'), 1::bigint, 'as long as it waits the alert stays');
create or replace function private.tests_apply(p_ended jobs.ended[]) returns void language plpgsql security definer set search_path = '' as $$ begin null; end $$;
select tests.pass('3 minutes');
select is((tests.tick() ->> 'reaped')::integer, 1, 'repaired, it is taken back after all');
select jobs.watch(clock_timestamp());
select is(pg_temp.alerts('reap a-fry'), 0::bigint, 'and the alert is over');

-- An assert on the way
create or replace function jobs.settle(p_definition jobs.definitions, p_batch jobs.batches, p_outcomes jsonb, p_now timestamptz) returns integer language plpgsql set search_path = '' as $$
begin
  assert (p_definition).job <> 'a-fry', 'This cannot be.';
  return 1;
end
$$;
select tests.enqueue(job, 'pizza') from unnest(array['a-fry', 'boil']) job;
select tests.claim(job) from unnest(array['a-fry', 'boil']) job;
select tests.pass('61 seconds');
select ok((tests.tick() ->> 'reaped')::integer > 0 and pg_temp.alerts('reap a-fry') = 1, 'a failed assert while a batch is taken back stops no other, and is an alert');

select * from finish();
rollback;
