-- The right credential, always: a tenant's own, or the platform's where the tenant has none and the job allows it.
begin;
select plan(9);
select tests.two_tenants();
select tests.tenant('salon');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "canary-platform"}');
delete from private.platform_credentials where provider = 'email';

create function pg_temp.token(p_slug text, p_allowed boolean default true) returns text language sql as $$
  select format('%s %s', c ->> 'source', c -> 'secret' ->> 'access_token') from private.credential_for(tests.id(p_slug), 'meta', p_allowed) c where c is not null
$$;

select is(pg_temp.token('pizza'), 'tenant canary-meta-pizza', 'a tenant''s item goes with the tenant''s own credential');
select is(pg_temp.token('gym'), 'tenant canary-meta-gym', 'each with its own');
select is(pg_temp.token('salon'), 'platform canary-platform', 'a tenant without one uses the platform''s');
select is(pg_temp.token('salon', false), null, 'but not where the job does not allow it');
select is(pg_temp.token('pizza', false), 'tenant canary-meta-pizza', 'where the own one is used as ever');
select is(private.credential_for(tests.id('salon'), 'email', true), null, 'where nobody has one there is none');

update public.credentials set health = 'broken' where tenant_id = tests.id('pizza');
select is(pg_temp.token('pizza'), 'tenant canary-meta-pizza', 'a broken credential of a tenant is never replaced by the platform''s silently');
select tests.answer('pizza owner', format('select public.remove_credential(%L, ''meta'')', tests.id('pizza')));
select is(pg_temp.token('pizza'), 'platform canary-platform', 'after its removal the platform''s is used');

select is(tests.answer('service_role', format('select private.credential_for(%L, ''meta'', true)', tests.id('gym'))), '42501',
  'not even service_role may ask for a credential: it comes with a batch only');

select * from finish();
rollback;
