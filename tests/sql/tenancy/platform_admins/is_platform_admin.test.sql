-- Platform admins stand in a table that nobody reads, and are never made by a claim.
begin;
select plan(14);
select tests.two_tenants();
select tests.person('platform admin');

create function pg_temp.asks(p_who text, p_claims jsonb default '{}') returns text language plpgsql as $$
begin
  perform set_config('request.jwt.claims', (jsonb_build_object('role', 'authenticated', 'sub', tests.id(p_who)) || p_claims)::text, true);
  return private.is_platform_admin()::text;
end
$$;

select is(pg_temp.asks('platform admin'), 'false', 'nobody is one to begin with');
select is(tests.error_of('service_role', format('select jobs.add_platform_admin(%L)', tests.id('platform admin'))), null, 'the platform makes a user one');
select is(pg_temp.asks('platform admin'), 'true', 'and it is one');
select is(pg_temp.asks('pizza owner'), 'false', 'an owner is none');
select is(pg_temp.asks('stranger', '{"is_platform_admin": true, "app_metadata": {"is_platform_admin": true, "role": "platform_admin"}}'), 'false', 'whatever the token claims');
select is(tests.answer('pizza owner', format('select jobs.add_platform_admin(%L)', tests.id('pizza owner'))), '42501', 'nobody makes itself one');
select is(tests.answer(who, 'select count(*) from private.platform_admins'), '42501', who || ' does not read who is one')
from unnest(array['platform admin', 'pizza owner', 'anon', 'service_role']) who;
select is(tests.sees('platform admin', 'public.campaigns', 'pizza'), '0', 'a platform admin sees nothing of a tenant by it');

update private.settings set value = 'true' where name = 'platform_admins_need_mfa';
select is(pg_temp.asks('platform admin', '{"aal": "aal1"}') || pg_temp.asks('platform admin'), 'falsefalse', 'where a second factor is asked for, a session without one is not enough');
select is(pg_temp.asks('platform admin', '{"aal": "aal2"}'), 'true', 'one with it is');
select set_config('request.jwt.claims', '', true);
select jobs.remove_platform_admin(tests.id('platform admin'));
select is(pg_temp.asks('platform admin', '{"aal": "aal2"}'), 'false', 'a removal works at once');

select * from finish();
rollback;
