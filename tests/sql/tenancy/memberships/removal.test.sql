-- Access is looked up, never remembered: what a token says does not count, and a removal works at once.
begin;
select plan(14);
select tests.two_tenants();

select is(tests.sees('pizza owner', 'public.completions', 'pizza'), '1', 'an owner reads completions');
select is(tests.rows('pizza member', 'update public.campaigns set name = ''x'''), '1', 'a member changes campaigns');
select is(tests.rows('pizza viewer', 'update public.campaigns set name = ''x'''), '0', 'a viewer does not');
select is(tests.rows('pizza member', 'delete from public.campaigns'), '0', 'a member does not delete campaigns');

-- Somebody has to own the tenant after the owner is gone.
select tests.member('pizza', 'pizza heir', 'owner');
-- The token of a removed member stays valid for a while; its rights do not.
delete from public.memberships where user_id in (tests.id('pizza owner'), tests.id('pizza member'));
select is(tests.sees('pizza owner', 'public.completions', 'pizza'), '0', 'a removed owner reads nothing');
select is(tests.rows('pizza member', 'update public.campaigns set name = ''y'''), '0', 'a removed member changes nothing');
select is(tests.answer('pizza owner', format($$ select public.set_credential(%L, 'meta', 'facebook_login', '{"access_token": "x"}') $$, tests.id('pizza'))),
  '42501', 'a removed owner sets no credential');
select is(tests.sees('pizza viewer', 'public.completions', 'pizza'), '1', 'who stays still reads');

-- A demotion likewise.
update public.memberships set role = 'viewer' where user_id = tests.id('pizza admin');
select is(tests.sees('pizza admin', 'public.credentials', 'pizza'), '0', 'a demoted admin sees no credentials any more');
select is(tests.sees('gym admin', 'public.credentials', 'gym'), '1', 'another tenant''s admin still does');

-- Claims about tenants and roles are ignored.
select set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'sub', tests.id('stranger'),
  'tenant_id', tests.id('pizza'), 'app_metadata', jsonb_build_object('tenant_id', tests.id('pizza'), 'role', 'owner'),
  'user_metadata', jsonb_build_object('tenant_id', tests.id('pizza'), 'is_admin', true))::text, true);
set local role authenticated;
select is_empty('select * from public.campaigns', 'a stranger whose token claims a tenant sees nothing of it');
reset role;

-- Nobody writes memberships: neither their own nor somebody else's.
select is(tests.rows('stranger', format('insert into public.memberships (tenant_id, user_id, role) values (%L, %L, ''owner'')', tests.id('pizza'), tests.id('stranger'))),
  '42501', 'a stranger cannot make itself a member');
select is(tests.rows('gym viewer', 'update public.memberships set role = ''owner'''), '42501', 'a viewer cannot raise its role');

-- A closed tenant is invisible to its own members.
update public.tenants set status = 'closed' where id = tests.id('gym');
select is(tests.sees('gym owner', 'public.campaigns', 'gym'), '0', 'members of a closed tenant see nothing of it');

select * from finish();
rollback;
