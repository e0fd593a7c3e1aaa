begin;
select plan(11);
select tests.two_tenants();

select is(tests.sees('pizza owner', 'public.credentials', 'pizza'), '1', 'an owner sees the tenant''s credentials');
select is(tests.sees('pizza admin', 'public.credentials', 'pizza'), '1', 'an admin too');
select is(tests.sees('pizza member', 'public.credentials', 'pizza'), '0', 'a member does not');
select is(tests.sees('pizza viewer', 'public.credentials', 'pizza'), '0', 'a viewer does not');
select is(tests.sees('pizza participant', 'public.credentials', 'pizza'), '0', 'a participant does not');
select is(tests.sees('gym owner', 'public.credentials', 'pizza'), '0', 'another tenant''s owner does not');
select is(tests.sees('anon', 'public.credentials', 'pizza'), '42501', 'anon is refused');
select is(tests.answer('pizza owner', 'select * from public.credentials'), '42501', 'select * is refused: it names the hidden column');
select is(tests.rows('pizza owner', 'update public.credentials set health = ''healthy'''), '42501', 'an owner changes no row past the function');
select is(tests.rows('pizza owner', format('update public.credentials set secret_id = %L', tests.id('gym'))), '42501',
  'and cannot point its credential at another secret');
select is(tests.rows('pizza owner', 'delete from public.credentials'), '42501', 'nor delete one');

select * from finish();
rollback;
