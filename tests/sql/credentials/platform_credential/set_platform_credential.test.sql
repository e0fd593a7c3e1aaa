begin;
select plan(6);
select tests.two_tenants();

select is(tests.error_of('service_role', $$ select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "canary-platform"}') $$), null,
  'the platform sets its own credential');
select is((select s.decrypted_secret::jsonb ->> 'access_token' from vault.decrypted_secrets s join private.platform_credentials c on c.secret_id = s.id where c.provider = 'meta'),
  'canary-platform', 'the secret is in Vault');
select is_empty($$ select c from private.platform_credentials c where c::text like '%canary%' $$, 'and not in the row');
select is(tests.answer('pizza owner', $$ select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "x"}') $$), '42501', 'an owner of a tenant does not');
select is(tests.answer('pizza owner', 'select fingerprint from private.platform_credentials'), '42501', 'nor does it see the platform''s');
select is(tests.answer('service_role', $$ select jobs.set_platform_credential('meta', 'facebook_login', '{}') $$), '22023', 'an incomplete secret is refused');

select * from finish();
rollback;
