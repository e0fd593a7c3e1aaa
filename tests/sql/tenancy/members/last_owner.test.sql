-- There is always an owner. That two who demote each other at once leave one is tested with two connections: tests/api/tenancy.test.ts
begin;
select plan(14);
select tests.two_tenants();

create function pg_temp.owner_does(p_call text, p_whom text default 'pizza owner') returns text language sql as $$
  select coalesce(substring(tests.error_of('pizza owner', format('select public.' || p_call, tests.id('pizza'), tests.id(p_whom))) from '^.{5}'), 'done')
$$;

select is(pg_temp.owner_does('leave_tenant(%L)'), 'PT409', 'the last owner does not leave');
select is(pg_temp.owner_does('remove_member(%L, %L)'), 'PT409', 'nor remove itself');
select is(pg_temp.owner_does('change_role(%L, %L, ''admin'')'), 'PT409', 'nor step down');
select throws_ok(format('select jobs.add_member(%L, %L, ''viewer'')', tests.id('pizza'), tests.id('pizza owner')), 'PT409', null, 'nor does the platform demote it by mistake');
select throws_ok(format('delete from public.memberships where user_id = %L', tests.id('pizza owner')), 'PT409', null, 'or remove it past the calls');
select throws_ok(format('delete from auth.users where id = %L', tests.id('pizza owner')), 'PT409', null, 'nor is the user deleted, as long as the tenant has no other owner');
select is((select role::text from public.memberships where user_id = tests.id('pizza owner')), 'owner', 'it is still the owner');

select is(pg_temp.owner_does('change_role(%L, %L, ''owner'')', 'pizza admin'), 'done', 'with a second owner');
select is(pg_temp.owner_does('leave_tenant(%L)'), 'done', 'the first one leaves');
select is(tests.answer('pizza admin', format('select public.leave_tenant(%L)', tests.id('pizza'))), 'PT409', 'and the second has to stay');
select is(tests.error_of('pizza admin', format('select public.close_tenant(%L)', tests.id('pizza'))), null, 'or closes the tenant');
select is(tests.error_of('pizza admin', format('select public.leave_tenant(%L)', tests.id('pizza'))), null, 'and leaves');

select lives_ok($$ delete from public.tenants where slug = 'gym' $$, 'a tenant that is deleted needs no owner');
select lives_ok(format('delete from auth.users where id in (%L, %L)', tests.id('gym owner'), tests.id('stranger')), 'and its people can be deleted');

select * from finish();
rollback;
