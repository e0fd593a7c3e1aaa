-- Who sees which rows of tenants, memberships and plans, and who may change them.
begin;
select plan(16);
select tests.two_tenants();

create function pg_temp.tenants_of(p_who text) returns text language sql as $$
  select tests.answer(p_who, 'select string_agg(slug, '' '' order by slug) from public.tenants')
$$;

select is(pg_temp.tenants_of('pizza viewer'), 'pizza', 'a viewer sees the own tenant only');
select is(pg_temp.tenants_of('stranger'), null, 'a stranger sees no tenant');
select is(pg_temp.tenants_of('pizza participant'), null, 'a participant sees no tenant');
select is(pg_temp.tenants_of('anon'), '42501', 'anon is refused');
select tests.member('gym', 'pizza viewer', 'admin');
select is(pg_temp.tenants_of('pizza viewer'), 'gym pizza', 'who works for two sees both');
select is(tests.answer('pizza viewer', 'with u as (update public.tenants set name = ''New'' returning slug) select string_agg(slug, '' '') from u'), 'gym',
  'and changes the one where it is an admin');
select is(tests.rows('pizza owner', 'update public.tenants set name = ''New'''), '1', 'an owner renames the own tenant');
select is(tests.rows('pizza owner', 'update public.tenants set status = ''active'''), '42501', 'but not its status');
select is(tests.rows('pizza owner', 'update public.tenants set slug = ''other'''), '42501', 'nor its slug');
select is(tests.rows('pizza owner', 'delete from public.tenants'), '42501', 'and does not delete it');

select is(tests.sees('pizza viewer', 'public.memberships', 'pizza'), '4', 'every member sees who works for the tenant');
select is(tests.sees('pizza participant', 'public.memberships', 'pizza'), '0', 'a participant does not');
select is(tests.sees('gym owner', 'public.memberships', 'pizza'), '0', 'nor does another tenant''s owner');

select ok(tests.rows('stranger', 'select from public.plans')::integer >= 4, 'every signed-in user reads the plans');
select is(tests.rows('anon', 'select from public.plans'), '42501', 'anon does not');
select is(tests.rows('pizza owner', 'update public.plans set weight = 100'), '42501', 'nobody changes them');

select * from finish();
rollback;
