begin;
select plan(4);

select is(tests.error_of('service_role', $$ select jobs.set_setting('app_url', 'https://spin.example') $$), null, 'the platform changes a setting');
select is(private.setting('app_url'), 'https://spin.example', 'and it is changed');
select is(tests.answer('service_role', $$ select jobs.set_setting('app_ulr', 'https://spin.example') $$), 'P0002',
  'a setting that does not exist is an error, not a new row');
select tests.two_tenants();
select is(tests.answer('pizza owner', $$ select jobs.set_setting('app_url', 'https://evil.example') $$), '42501', 'a tenant''s owner changes no setting');

select * from finish();
rollback;
