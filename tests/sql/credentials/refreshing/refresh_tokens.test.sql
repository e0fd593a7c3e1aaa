-- refresh-meta-tokens: who is due, and that a new token is stored once, in the right place, by the right batch.
begin;
select plan(29);
select tests.two_tenants();
delete from public.credentials;
update jobs.definitions set paused = false where job = 'refresh-meta-tokens';
delete from jobs.items;

select public.set_credential(tests.id('gym'), 'meta', 'instagram_login', '{"access_token": "canary-ig-gym", "app_secret": "canary-app"}', '{"ig_user_id": "5"}');
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "canary-fb-pizza", "app_secret": "canary-app"}', '{"app_id": "7"}');

create function pg_temp.set_age(p_slug text, p_age interval, p_left interval) returns void language sql as $$
  update public.credentials set secret_at = now() - p_age, expires_at = now() + p_left where tenant_id = tests.id(p_slug)
$$;
create function pg_temp.is_due(p_slug text, p_age interval, p_left interval default null) returns boolean language sql as $$
  select pg_temp.set_age(p_slug, p_age, p_left);
  select tests.id(p_slug) in (select private.tokens_to_refresh());
$$;
select is(pg_temp.is_due('gym', age::interval, remaining::interval), due, format('an Instagram token of %s with %s left', age, coalesce(remaining, 'who knows what')))
from (values ('44 days', null, false), ('46 days', null, true), ('44 days', '16 days', false), ('40 days', '14 days', true), ('46 days', '14 days', true),
  ('61 days', '-1 day', false), ('23 hours', '14 days', false), ('25 hours', '14 days', true)) as token (age, remaining, due);
select is(pg_temp.is_due('pizza', age::interval, remaining::interval), due, format('a Facebook token of %s with %s left', age, coalesce(remaining, 'no end')))
from (values ('46 days', null, false), ('46 days', '20 days', false), ('46 days', '14 days', true), ('1 hour', '1 day', false), ('61 days', '-1 day', false)) as token (age, remaining, due);
select pg_temp.set_age('pizza', '46 days', '14 days');
update public.credentials set account = '{}' where tenant_id = tests.id('pizza');
select is((select count(*) from private.tokens_to_refresh()), 1::bigint, 'a Facebook token is not exchanged for an app that does not say who it is');
update public.credentials set account = '{"app_id": "7"}', health = 'broken' where tenant_id = tests.id('pizza');
select is((select count(*) from private.tokens_to_refresh()), 1::bigint, 'nor one that is broken');
update public.credentials set health = 'healthy' where tenant_id = tests.id('pizza');

-- The new token
select jobs.start_slot((select d from jobs.definitions d where d.job = 'refresh-meta-tokens'), now());
create table pg_temp.batch as select tests.claim('refresh-meta-tokens') as b;
create function pg_temp.keep(p_slug text, p_token text default 'canary-renewed', p_batch bigint default null) returns text language sql as $$
  select tests.answer('service_role', format('select jobs.keep_refreshed_token(%s, %s, %L, now() + interval ''60 days'')',
    coalesce(p_batch, (select (b ->> 'batch_id')::bigint from pg_temp.batch)), (select i.item_id from pg_temp.batch, tests.items_of(b) i where i.slug = p_slug), p_token))
$$;
create function pg_temp.token(p_slug text) returns text language sql as $$
  select concat_ws(' ', c #>> '{secret,access_token}', c #>> '{secret,app_secret}') from private.credential_for(tests.id(p_slug), 'meta', false) c
$$;
select is((select tests.served(b) from pg_temp.batch), 'gym 1, pizza 1', 'both are due');
select is(pg_temp.keep('gym', 'canary renewed'), '22023', 'what is no token is not stored');
select is(pg_temp.keep('gym', 'canary-renewed', 0), 'false', 'a batch that does not exist stores nothing');
select is(tests.answer('gym owner', 'select jobs.keep_refreshed_token(1, 1, ''x'', now())'), '42501', 'a tenant cannot call it');
select is(pg_temp.keep('gym'), 'true', 'the batch that has the item stores its token');
select is(pg_temp.token('gym'), 'canary-renewed canary-app', 'in the place of the old one; the rest of the secret stays');
select is(pg_temp.token('pizza'), 'canary-fb-pizza canary-app', 'another tenant''s is not touched');
select is(pg_temp.keep('gym'), 'true', 'a repeated call is the same call');
select is((select count(*) from public.audit_log where tenant_id = tests.id('gym') and action = 'credential.refreshed'), 1::bigint, 'it is in the audit log once');
select is_empty($$ select from public.audit_log a where a::text like '%canary%' $$, 'without the token');
select is((select tests.id('gym') in (select private.tokens_to_refresh())), false, 'and not due again');

-- Too late
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "canary-by-owner"}');
select is(pg_temp.keep('pizza'), 'false', 'what the owner entered meanwhile is newer');
select is(pg_temp.token('pizza'), 'canary-by-owner', 'and stays');
update jobs.batches set lease_until = clock_timestamp() - interval '1 second';
select is(pg_temp.keep('gym', 'canary-too-late'), 'false', 'a batch whose lease is over stores nothing');

select * from finish();
rollback;
