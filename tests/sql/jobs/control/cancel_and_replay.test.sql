begin;
select plan(31);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym']) slug;
create table pg_temp.ended (item_id bigint, outcome text);
create function private.tests_apply(p_ended jobs.ended[]) returns void language sql security definer set search_path = '' as $$
  insert into pg_temp.ended select e.item_id, e.outcome from unnest(p_ended) e
$$;
select tests.job('bake', '{"max_attempts": 1, "apply_function": "private.tests_apply"}');
select tests.enqueue('bake', slug, 3) from unnest(array['pizza', 'gym']) slug;
create table pg_temp.batch as select tests.claim('bake', 1) as b;

-- Cancel
select is(jobs.cancel('bake'), 5, 'a dry run, the default, says how many it would be: what waits, not what runs');
select is((select count(*) from jobs.items where job = 'bake'), 5::bigint, 'and changes nothing');
select is(jobs.cancel('bake', dry_run => null), 5, 'whether it is one or not left open, it is one');
select is((select count(*) from jobs.items where job = 'bake'), 5::bigint, 'which changes nothing either');
select is(jobs.cancel('bake', tests.id('gym'), older_than => interval '1 hour', dry_run => false), 0, 'only what matches is cancelled');
create table pg_temp.cancelled as select jobs.cancel('bake', tests.id('gym'), dry_run => false) as n;
select ok(n in (2, 3), 'the waiting items of one tenant') from pg_temp.cancelled;
select is((select count(*) from pg_temp.ended where outcome = 'cancelled'), n::bigint, 'the domain is told') from pg_temp.cancelled;
select is((select count(*) from jobs.attempts where job = 'bake' and outcome = 'cancelled'), n::bigint, 'the history has it') from pg_temp.cancelled;
select is((select detail ->> 'items' from public.audit_log where tenant_id = tests.id('gym') and action = 'items.cancelled' and (detail ->> 'items')::integer > 0), n::text, 'so has the audit log') from pg_temp.cancelled;
select is(tests.close(b, '{"outcome": "done"}') ->> 'closed', '1', 'what was running ends as ever') from pg_temp.batch;
select throws_ok($$ select jobs.cancel('fry') $$, 'P0002', null, 'a job that does not exist is an error');

-- Replay
select tests.close(tests.claim('bake'), '{"outcome": "refused", "error": "closed"}');
create table pg_temp.dead as select * from jobs.dead_items;
select ok(count(*) in (2, 3), 'some items died') from pg_temp.dead;
select is(jobs.replay('bake')::bigint, count(*), 'a dry run, the default, says how many could be replayed') from pg_temp.dead;
select is(jobs.replay('bake', dry_run => null)::bigint, count(*), 'also when that is left open') from pg_temp.dead;
select is((select count(*) from jobs.items where job = 'bake'), 0::bigint, 'and changes nothing');
select is(jobs.replay('bake', reason => 'attempts used up', dry_run => false), 0, 'only those with the reason');
select is(jobs.replay('bake', tests.id('gym'), dry_run => false), 0, 'or of the tenant');
select is(jobs.replay('bake', died_after => now() + interval '1 hour', dry_run => false), 0, 'or since the time');
select is(jobs.replay('bake', dry_run => false)::bigint, count(*), 'replayed they are alive') from pg_temp.dead;
select is((select count(*) from jobs.dead_items), 0::bigint, 'and not dead');
select is(jobs.replay('bake', dry_run => false), 0, 'a second time there is nothing left');
select set_eq('select item_id from jobs.items where job = ''bake''', 'select item_id from pg_temp.dead', 'they are the same items');
select is((select max(attempts) from jobs.items where job = 'bake'), 0::smallint, 'with fresh attempts');
select is((select count(*) from tests.items_of(tests.claim('bake'))), count(*), 'and are served at once') from pg_temp.dead;
select is((select count(distinct item_id) from jobs.attempts where item_id in (select item_id from pg_temp.dead)), count(*), 'their history is still there') from pg_temp.dead;
select throws_ok($$ select jobs.replay('fry') $$, 'P0002', null, 'a job that does not exist is an error');

-- Two of one key died, a third is under way again; of a fourth and fifth with another key one can come back.
select tests.job('boil', '{"max_attempts": 1}');
create function pg_temp.die(p_key text) returns void language plpgsql as $$
begin
  perform jobs.enqueue('boil', tests.id('pizza'), dedupe_key => p_key);
  perform tests.close(tests.claim('boil'), '{"outcome": "refused", "error": "closed"}');
end
$$;
select pg_temp.die(key) from unnest(array['used', 'used', 'free', 'free', null]) key;
select jobs.enqueue('boil', tests.id('pizza'), dedupe_key => 'used');
select is(jobs.replay('boil'), 2, 'a dry run counts only what would come back');
select is(jobs.replay('boil', dry_run => false), 2, 'and no more does');

select tests.member('pizza', 'pizza owner', 'owner');
select is(tests.answer('pizza owner', format('select jobs.replay(''bake'', %L)', tests.id('gym'))), '42501', 'no user replays anything');

-- A run of a schedule waits for what it has, not for what was cancelled.
select tests.job('daily', '{"schedule": "0 0 1 1 *", "eligible_function": "private.tests_eligible"}');
create function private.tests_eligible() returns setof uuid language sql set search_path = '' as $$
  select t.id from public.tenants t where t.slug in ('pizza', 'gym')
$$;
create function pg_temp.run() returns text language sql as $$
  select r.status || ' ' || r.expected from jobs.runs r where r.job = 'daily' order by r.run_id desc limit 1
$$;
select jobs.start_slot(d, now() - interval '1 day') from jobs.definitions d where d.job = 'daily';
select jobs.cancel('daily', tests.id('gym'), dry_run => false);
select jobs.finish_lost_drains(clock_timestamp());
select is(pg_temp.run(), 'running 1', 'a run of which one item was cancelled waits for the other');
select jobs.cancel('daily', dry_run => false);
select jobs.finish_lost_drains(clock_timestamp());
select is(pg_temp.run(), 'success 0', 'when all were cancelled it is over');

select * from finish();
rollback;
