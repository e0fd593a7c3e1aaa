-- What control calls may not do: make work vanish.
begin;
select plan(4);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym']) slug;
select tests.job('bake', '{"max_attempts": 1}');

select jobs.enqueue('bake', tests.id('pizza'), dedupe_key => 'k');
select tests.close(tests.claim('bake'), '{"outcome": "refused", "error": "x"}');
select jobs.enqueue('bake', tests.id('pizza'), dedupe_key => 'k');
select jobs.replay('bake', dry_run => false);
select is((select count(*) from jobs.dead_items) + (select count(*) from jobs.items), 2::bigint,
  'a dead item whose dedupe key is in use again stays dead, it does not vanish');
delete from jobs.items; delete from jobs.dedupe_keys;
select is(jobs.replay('bake', dry_run => false), 1, 'and comes back when the key is free');

select tests.enqueue('bake', 'gym');
create table pg_temp.batch as select tests.claim('bake') as b;
delete from public.tenants where slug = 'gym';
select tests.close(b, '{"outcome": "snooze", "seconds": 1}') from pg_temp.batch;
select is((select count(*) from jobs.items where tenant_id = tests.id('gym')), 0::bigint,
  'an item that comes back for a tenant that was deleted meanwhile ends as cancelled');
select is((select count(*) from jobs.lanes where tenant_id = tests.id('gym')), 0::bigint, 'and makes no new lane');

select * from finish();
rollback;
