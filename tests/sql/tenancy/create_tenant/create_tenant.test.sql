begin;
select plan(14);
select tests.person('anna');
select tests.person('bert');

select is(tests.answer('anna', $$ select (public.create_tenant('Anna''s', 'annas-bakery', 'Europe/Berlin')).plan_id $$), 'free',
  'a signed-in user creates a tenant, on the Free plan');
select is((select m.role::text from public.memberships m join public.tenants t on t.id = m.tenant_id where t.slug = 'annas-bakery' and m.user_id = tests.id('anna')),
  'owner', 'and is its owner');
select is(tests.answer('anna', $$ select slug from public.tenants where slug = 'annas-bakery' $$), 'annas-bakery', 'who sees it');
select is(tests.rows('bert', $$ select from public.tenants where slug = 'annas-bakery' $$), '0', 'while another user does not');
select is((select a.action from public.audit_log a join public.tenants t on t.id = a.tenant_id where t.slug = 'annas-bakery'), 'tenant.created', 'the audit log knows');

select is(tests.answer('bert', $$ select public.create_tenant('Other', 'annas-bakery') $$), '23505', 'a slug that is taken is refused');
select is(tests.answer('bert', $$ select public.create_tenant('Other', 'Annas-Bakery') $$), '23514', 'capitals in a slug are refused');
select is(tests.answer('bert', $$ select public.create_tenant('Other', 'аnnas-bakery') $$), '23514', 'a look-alike with a Cyrillic letter is refused');
select is(tests.answer('bert', $$ select public.create_tenant('Other', 'admin') $$), '23514', 'a reserved slug is refused');
select is(tests.answer('bert', $$ select public.create_tenant('  ', 'berts-bakery') $$), '23514', 'an empty name is refused');
select is(tests.answer('bert', $$ select public.create_tenant('Bert''s', 'berts-bakery', 'Mars/Base') $$), '22023', 'a time zone that does not exist is refused');
select is(tests.answer('anon', $$ select public.create_tenant('Other', 'other-bakery') $$), '42501', 'anon creates no tenant');
select is(tests.answer('bert', format($$ insert into public.tenants (slug, name) values ('x-y', 'x') returning slug $$)), '42501', 'nobody inserts a tenant past the function');
select is(tests.rows('anna', $$ update public.tenants set plan_id = 'enterprise' $$), '42501', 'an owner cannot change the own plan');

select * from finish();
rollback;
