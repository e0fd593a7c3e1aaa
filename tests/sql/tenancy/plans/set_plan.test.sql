begin;
select plan(8);
select tests.two_tenants();

select is(tests.error_of('service_role', format('select jobs.set_plan(%L, ''enterprise'')', tests.id('pizza'))), null, 'the platform puts a tenant on a plan');
select is((select plan_id from public.tenants where slug = 'pizza'), 'enterprise', 'and it is on it');
select is((select detail ->> 'plan_id' from public.audit_log where tenant_id = tests.id('pizza') and action = 'plan.changed'), 'enterprise', 'the audit log knows');
select is(tests.answer('service_role', format('select jobs.set_plan(%L, ''free'')', tests.id('nobody'))), 'P0002', 'a tenant that does not exist is an error');
select is(tests.answer('service_role', format('select jobs.set_plan(%L, ''gold'')', tests.id('pizza'))), '23503', 'so is a plan that does not exist');
select is(tests.answer('pizza owner', format('select jobs.set_plan(%L, ''enterprise'')', tests.id('pizza'))), '42501', 'an owner sets no plan');

select tests.answer('service_role', format('select jobs.add_member(%L, %L, ''admin'')', tests.id('pizza'), tests.id('stranger')));
select is(tests.sees('stranger', 'public.credentials', 'pizza'), '1', 'the platform makes a user a member, with the role''s rights at once');

select is((select detail ->> 'from' from public.audit_log where tenant_id = tests.id('pizza') and action = 'plan.changed'), 'pro', 'the audit log knows what it was before');

select * from finish();
rollback;
