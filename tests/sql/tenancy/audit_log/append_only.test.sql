begin;
select plan(9);
select tests.two_tenants();

select is(tests.sees('pizza owner', 'public.audit_log', 'pizza'), '1', 'an owner reads the audit log of the own tenant');
select is(tests.sees('pizza admin', 'public.audit_log', 'pizza'), '0', 'an admin does not');
select is(tests.sees('gym owner', 'public.audit_log', 'pizza'), '0', 'another tenant''s owner does not');
select is(tests.rows('pizza owner', 'update public.audit_log set actor = ''x'''), '42501', 'an owner changes no row');
select is(tests.rows('service_role', 'delete from public.audit_log'), '42501', 'service_role deletes none');
select throws_ok('update public.audit_log set actor = ''x''', '42501', 'The audit log is append-only.', 'nor does the platform');
select throws_ok('delete from public.audit_log', '42501', 'The audit log is append-only.', 'nor does it delete any');

select tests.acknowledge('pizza', 'unofficial_gateway');
select tests.answer('pizza admin', format($$ select public.set_credential(%L, 'whatsapp', 'waapi', '{"token": "canary-token"}', '{"instance_id": "1"}') $$, tests.id('pizza')));
select is((select a.actor_id from public.audit_log a where a.tenant_id = tests.id('pizza') and a.detail ->> 'provider' = 'whatsapp'), tests.id('pizza admin'),
  'the actor is who made the request, whatever rights the function runs with');
select is_empty($$ select * from public.audit_log a where a::text like '%canary%' $$, 'no secret is in the audit log');

select * from finish();
rollback;
