-- Active, suspended, closed: who may change it, and what it means for members.
begin;
select plan(31);
select tests.two_tenants();
select tests.person('platform admin');
select jobs.add_platform_admin(tests.id('platform admin'));

create function pg_temp.does(p_who text, p_call text) returns text language sql as $$
  select coalesce(tests.error_of(p_who, format('select public.' || p_call, tests.id('pizza'))), 'done')
$$;
create function pg_temp.status() returns text language sql as $$ select status::text from public.tenants where slug = 'pizza' $$;

-- Closing: owners.
select matches(pg_temp.does(who, 'close_tenant(%L)'), '^42501', who || ' does not close the tenant')
from unnest(array['pizza admin', 'pizza participant', 'gym owner', 'stranger', 'anon', 'platform admin']) who;
select is(pg_temp.does('gym owner', 'close_tenant(%L)'), tests.error_of('gym owner', format('select public.close_tenant(%L)', tests.id('nowhere'))),
  'another''s tenant and one that does not exist get the same answer');
select is(pg_temp.does('pizza owner', 'close_tenant(%L)'), 'done', 'an owner closes the own tenant');
select is(pg_temp.status(), 'closed', 'and it is closed');
select is(tests.sees('pizza owner', 'public.campaigns', 'pizza'), '0', 'nobody sees anything of it');
select is(tests.answer('pizza owner', 'select status from public.my_tenants()'), 'closed', 'but the owner sees that it is there to be reopened');
select is(tests.rows('pizza admin', 'select from public.my_tenants()'), '0', 'an admin does not');
select is(pg_temp.does('pizza owner', 'close_tenant(%L)'), pg_temp.does('stranger', 'close_tenant(%L)'), 'it cannot be closed twice');

-- Reopening: owners.
select matches(pg_temp.does(who, 'reopen_tenant(%L)'), '^42501', who || ' does not reopen the tenant') from unnest(array['pizza admin', 'gym owner', 'anon']) who;
select is(pg_temp.does('pizza owner', 'reopen_tenant(%L)'), 'done', 'an owner reopens it');
select is(tests.sees('pizza viewer', 'public.campaigns', 'pizza'), '1', 'and all is there again');

-- Suspending: the platform and its admins.
select matches(pg_temp.does(who, 'suspend_tenant(%L, ''owes money'')'), '^42501', who || ' does not suspend a tenant') from unnest(array['pizza owner', 'gym owner', 'anon']) who;
select is(pg_temp.does('platform admin', 'suspend_tenant(%L, ''owes money'')'), 'done', 'a platform admin suspends it');
select is(tests.sees('pizza viewer', 'public.campaigns', 'pizza'), '1', 'its members can read');
select is(tests.rows('pizza owner', 'update public.campaigns set name = ''x'''), '0', 'but not write');
select matches(pg_temp.does('pizza owner', 'close_tenant(%L)'), '^42501', 'the owner cannot close it,');
select matches(pg_temp.does('pizza owner', 'reopen_tenant(%L)'), '^42501', 'nor reopen it: a suspension cannot be got rid of');
select is(pg_temp.does('service_role', 'reopen_tenant(%L)'), 'done', 'the platform does');
select is(tests.error_of('service_role', format('select public.suspend_tenant(%L, ''x'')', tests.id('nowhere'))), 'PT404: There is no such tenant to suspend.',
  'and is told when there is no such tenant');

select results_eq($$ select action, actor_id from public.audit_log where tenant_id = tests.id('pizza') and action like 'tenant.%' order by action, actor_id $$,
  $$ values ('tenant.closed', tests.id('pizza owner')), ('tenant.reopened', tests.id('pizza owner')), ('tenant.reopened', null),
    ('tenant.suspended', tests.id('platform admin')) $$, 'the audit log knows of all of it');

-- A tenant has an owner. A closed one may be left by the last; then it takes a new one to open it.
select pg_temp.does('pizza owner', 'close_tenant(%L)');
select pg_temp.does('pizza owner', 'leave_tenant(%L)');
select matches(pg_temp.does('service_role', 'reopen_tenant(%L)'), '^PT409', 'a tenant without an owner is not reopened');
select jobs.add_member(tests.id('pizza'), tests.id('stranger'), 'owner');
select is(pg_temp.does('service_role', 'reopen_tenant(%L)'), 'done', 'with a new one it is');

select * from finish();
rollback;
