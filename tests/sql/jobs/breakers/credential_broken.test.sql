-- A broken credential parks all lanes of its owner for that provider at once, burns no attempt, alerts once; a new one wakes them.
begin;
select plan(38);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym', 'salon', 'bar']) slug;
select public.set_credential(tests.id(slug), 'meta', 'facebook_login', jsonb_build_object('access_token', 'first-' || slug)) from unnest(array['pizza', 'gym']) slug;
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "first-platform"}');
select tests.job('look', '{"provider": "meta", "platform_allowed": true}');
select tests.job('read', '{"provider": "meta", "platform_allowed": true}');
select tests.job('bake');
delete from jobs.alerts;

create function pg_temp.alerts(p_slug text default null) returns text language sql as $$
  select count(*) || ' open' from jobs.alerts where closed_at is null and incident = 'credential meta' and tenant_id is not distinct from tests.id(p_slug)
$$;

select tests.enqueue(job, slug, 2) from unnest(array['look', 'read', 'bake']) job, unnest(array['pizza', 'gym']) slug;
create table pg_temp.batch as select tests.claim('look') as b;
select tests.enqueue('look', 'pizza', 5);
select jobs.close_batch((b ->> 'batch_id')::bigint, (select jsonb_agg(jsonb_build_object('item_id', i.item_id, 'outcome', case slug when 'pizza' then 'credential_broken' else 'done' end, 'error', 'revoked'))
  from tests.items_of(b) i)) from pg_temp.batch;

select is(tests.lane('look', 'pizza'), 'asleep: breaker', 'the lane of the broken credential is parked');
select is(tests.lane('read', 'pizza'), 'asleep: breaker', 'and that of every other job of the provider');
select isnt(tests.lane('bake', 'pizza'), 'asleep: breaker', 'but not of jobs that need no credential');
select isnt(tests.lane('read', 'gym'), 'asleep: breaker', 'nor of other tenants');
select is((select max(attempts) from jobs.items where job = 'look' and tenant_id = tests.id('pizza')), 0::smallint, 'no attempt is counted');
select is((select count(*) from jobs.items where job = 'look' and tenant_id = tests.id('pizza')), 7::bigint, 'all items wait');
select is((select string_agg(distinct outcome, ' ') from jobs.attempts where job = 'look' and tenant_id = tests.id('pizza')), 'credential broken', 'the history knows');
select is((select health || ': ' || health_reason from public.credentials where tenant_id = tests.id('pizza')), 'broken: revoked', 'the credential says that it is broken');
select is(pg_temp.alerts('pizza'), '1 open', 'there is one alert for the tenant');
select is(tests.served(tests.claim('read')), 'gym 2', 'the others are served');
select tests.enqueue('look', 'pizza');
select is(tests.claim('look'), null, 'more work does not wake a parked lane');
select is(tests.lane('look', 'pizza'), 'asleep: breaker', 'it stays parked');
select tests.pass('1 day');
select is(tests.claim('read', 1) -> 'tenants' -> 0 ->> 'slug', null, 'for as long as it takes');

-- A new credential
create table pg_temp.old as select b from pg_temp.batch;
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "second-pizza"}');
select is(pg_temp.alerts('pizza'), '0 open', 'a new credential closes the alert');
select is((select count(*) from jobs.breakers where tenant_id = tests.id('pizza')), 0::bigint, 'and the breaker');
create table pg_temp.again as select tests.claim('look') as b;
select is(tests.served(b), 'pizza 8', 'all that waited is served') from pg_temp.again;
select is(b -> 'tenants' -> 0 -> 'credential' -> 'secret' ->> 'access_token', 'second-pizza', 'with the new credential') from pg_temp.again;
select is(tests.served(tests.claim('read')), 'pizza 2', 'the other jobs wake too');

-- An answer about a credential that has been replaced meanwhile parks nothing.
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "third-pizza"}');
select tests.close(b, '{"outcome": "credential_broken", "error": "revoked"}') from pg_temp.again;
select is((select health::text from public.credentials where tenant_id = tests.id('pizza')), 'unchecked', 'news about an old credential do not break the new one');
select is(tests.served(tests.claim('look')), 'pizza 8', 'the items are tried with it');
select is(pg_temp.alerts('pizza'), '0 open', 'without an alert');

-- The platform's credential, which serves many tenants
select tests.enqueue('look', slug) from unnest(array['salon', 'bar']) slug;
create table pg_temp.platform as select tests.claim('look', 1) as b;
select tests.close(b, '{"outcome": "credential_broken", "error": "expired"}') from pg_temp.platform;
select is((select health::text from private.platform_credentials where provider = 'meta'), 'broken', 'the platform''s credential can break too');
select is(pg_temp.alerts(), '1 open', 'there is one alert for the platform');
select is(tests.claim('look'), null, 'tenants that lean on it are not served');
select is(tests.lane('look', 'salon'), 'asleep: breaker', 'their lanes are parked');
select is(tests.lane('look', 'bar'), 'asleep: breaker', 'all of them');
select is((select string_agg(distinct detail, ', ') from jobs.lanes where job = 'look' and tenant_id in (tests.id('salon'), tests.id('bar'))),
  'the platform''s meta credential does not work', 'and say why, without what the provider said of the platform');
select matches((select message from jobs.alerts where incident = 'credential meta' and tenant_id is null and closed_at is null), 'expired', 'which the platform is told');
select tests.enqueue('look', 'gym');
select is(tests.served(tests.claim('look')), 'gym 1', 'who has an own credential goes on');
select is((select health::text from public.credentials where tenant_id = tests.id('gym')), 'unchecked', 'which is not touched');
select public.set_credential(tests.id('bar'), 'meta', 'facebook_login', '{"access_token": "own-bar"}');
select is(tests.served(tests.claim('look')), 'bar 1', 'who brings an own credential is served');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "second-platform"}');
select is(pg_temp.alerts(), '0 open', 'a new credential of the platform closes the alert');
select is(tests.served(tests.claim('look')), 'salon 1', 'and wakes the others, whose items were never lost');

-- A worker that does not say why
select tests.enqueue('look', slug) from unnest(array['salon', 'pizza']) slug;
create table pg_temp.wordless as select tests.claim('look', 1) as b;
select tests.close(b, '{"outcome": "credential_broken"}') from pg_temp.wordless;
select is((select count(*) from jobs.breakers where state = 'parked'), 1::bigint, 'a credential that is broken for no reason given is parked, too');
select tests.enqueue('read', slug) from pg_temp.wordless, unnest(array[b -> 'tenants' -> 0 ->> 'slug']) slug;
select is((select count(*) from jobs.lanes l join pg_temp.wordless w on l.tenant_id = (w.b -> 'tenants' -> 0 ->> 'tenant_id')::uuid
  cross join lateral jobs.judge((select d from jobs.definitions d where d.job = 'read'), array[l.tenant_id], clock_timestamp()) j
  where l.job = 'read' and j.reason = 'breaker'), 1::bigint, 'and its lanes are not served');
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "fourth-pizza"}');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "third-platform"}');
delete from jobs.items where job in ('look', 'read');

-- Removing a credential
select tests.enqueue('look', 'gym');
select public.remove_credential(tests.id('gym'), 'meta');
select is(tests.claim('look') -> 'tenants' -> 0 -> 'credential' ->> 'source', 'platform', 'a tenant that removes its own falls back to the platform''s');
select is((select string_agg(distinct a.credential_source, ' ' order by a.credential_source) from jobs.attempts a where job = 'look'), 'platform tenant', 'the history says which it was');
select is((select count(*) from jobs.dead_items where job in ('look', 'read')), 0::bigint, 'no item died of all this');

select * from finish();
rollback;
