-- Every item comes with the credential of its own tenant, or the platform's where the tenant has none; never with another's.
begin;
select plan(12);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym', 'salon']) slug;
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "token-of-pizza"}');
select public.set_credential(tests.id('gym'), 'meta', 'instagram_login', '{"access_token": "token-of-gym"}', '{"ig_user_id": "5"}');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "token-of-platform"}');
select tests.job('look', '{"provider": "meta", "platform_allowed": true}');
select tests.job('own', '{"provider": "meta"}');
select tests.enqueue(job, slug, 2) from unnest(array['look', 'own']) job, unnest(array['pizza', 'gym', 'salon']) slug;

create table pg_temp.batch as select tests.claim('look') as b;
create view pg_temp.tenants as select t ->> 'slug' as slug, t -> 'credential' as credential, jsonb_array_length(t -> 'items') as items from pg_temp.batch, jsonb_array_elements(b -> 'tenants') t;
select is(credential -> 'secret' ->> 'access_token', 'token-of-pizza', 'a tenant''s own') from pg_temp.tenants where slug = 'pizza';
select is(credential -> 'secret' ->> 'access_token', 'token-of-gym', 'another tenant''s own') from pg_temp.tenants where slug = 'gym';
select is(concat_ws(' ', credential ->> 'kind', credential ->> 'source', credential -> 'account' ->> 'ig_user_id'), 'instagram_login tenant 5', 'with its kind and account') from pg_temp.tenants where slug = 'gym';
select is(credential -> 'secret' ->> 'access_token', 'token-of-platform', 'the platform''s for who has none') from pg_temp.tenants where slug = 'salon';
select is(credential ->> 'source', 'platform', 'which says so') from pg_temp.tenants where slug = 'salon';
select is_empty($$ select from pg_temp.tenants t, tests.items_of((select b from pg_temp.batch)) i where i.slug = t.slug and t.credential is null $$, 'none is without');

select is(tests.served(tests.claim('own')), 'gym 2, pizza 2', 'where the job does not allow the platform''s, who has none is not served');
select is(tests.lane('own', 'salon'), 'asleep: breaker', 'the lane sleeps until there is a credential');
select is((select detail from jobs.lanes where job = 'own' and tenant_id = tests.id('salon')), 'no meta credential', 'and says so');
select public.set_credential(tests.id('salon'), 'meta', 'facebook_login', '{"access_token": "token-of-salon"}');
select is(tests.claim('own') -> 'tenants' -> 0 -> 'credential' -> 'secret' ->> 'access_token', 'token-of-salon', 'a new credential wakes it');

-- Secrets leave the database nowhere else.
select is_empty($$
  select from jobs.batches b where b::text like '%token-of-%' union all select from jobs.leases l where l::text like '%token-of-%'
  union all select from jobs.items i where i::text like '%token-of-%' union all select from jobs.drains d where d::text like '%token-of-%'
  union all select from jobs.lanes l where l::text like '%token-of-%' union all select from public.audit_log a where a::text like '%token-of-%'
$$, 'no row of the engine has a secret');
select is((select string_agg(distinct credential_source, ' ') from jobs.leases where job = 'look' and tenant_id = tests.id('salon')), 'platform',
  'the lease remembers whose credential it was, not what it was');

select * from finish();
rollback;
