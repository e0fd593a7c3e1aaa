begin;
select plan(27);
select tests.two_tenants();

create function pg_temp.set_as(p_who text, p_slug text, p_provider text default 'whatsapp', p_kind text default 'whatsapp_cloud',
  p_secret jsonb default '{"access_token": "canary-first"}', p_account jsonb default '{"phone_number_id": "12345"}') returns text language sql as $$
  select tests.error_of(p_who, format('select public.set_credential(%L, %L, %L, %L, %L)', tests.id(p_slug), p_provider, p_kind, p_secret, p_account))
$$;

-- Who
select is(pg_temp.set_as('pizza admin', 'pizza'), null, 'an admin sets a credential');
select is(pg_temp.set_as('pizza owner', 'pizza'), null, 'an owner too');
select matches(pg_temp.set_as('pizza member', 'pizza'), '^42501', 'a member does not');
select matches(pg_temp.set_as('pizza viewer', 'pizza'), '^42501', 'a viewer does not');
select matches(pg_temp.set_as('pizza participant', 'pizza'), '^42501', 'a participant does not');
select matches(pg_temp.set_as('gym owner', 'pizza'), '^42501', 'another tenant''s owner does not');
select is(pg_temp.set_as('gym owner', 'pizza'), pg_temp.set_as('gym owner', 'no such tenant'), 'who cannot tell a tenant from one that does not exist');
select is(pg_temp.set_as('gym owner', 'pizza'), pg_temp.set_as('pizza member', 'pizza'), 'nor does a low role get another answer');
select matches(pg_temp.set_as('anon', 'pizza'), '^42501', 'anon is refused');
select is(pg_temp.set_as('service_role', 'pizza'), null, 'service_role sets credentials for tenants');

-- What comes back and what is kept
select is(
  tests.answer('pizza admin', format($$ select array_to_string(array(select jsonb_object_keys(public.set_credential(%L, 'whatsapp', 'whatsapp_cloud',
    '{"access_token": "canary-second"}', '{"phone_number_id": "12345"}')) order by 1), ' ') $$, tests.id('pizza'))),
  'credential_id fingerprint kind provider', 'the answer has a fingerprint and no secret');
select is((select s.decrypted_secret::jsonb ->> 'access_token' from vault.decrypted_secrets s join public.credentials c on c.secret_id = s.id
  where c.tenant_id = tests.id('pizza') and c.provider = 'whatsapp'), 'canary-second', 'the secret is in Vault, the last one that was set');
select is((select count(*) from vault.secrets where name like 'credential/' || tests.id('pizza') || '/whatsapp%'), 1::bigint, 'and only once');
select is_empty($$ select c from public.credentials c where c::text like '%canary%' $$, 'the row has no secret');
select is_empty($$ select a from public.audit_log a where a::text like '%canary%' $$, 'nor has the audit log');
select isnt((select fingerprint from public.credentials where tenant_id = tests.id('pizza') and provider = 'meta'),
  (select fingerprint from public.credentials where tenant_id = tests.id('gym') and provider = 'meta'), 'fingerprints of two tenants differ');
select is(tests.answer('pizza owner', 'select secret_id from public.credentials'), '42501', 'nobody sees which secret of Vault it is');

-- Two tenants with the same secret have the same row in nothing.
select pg_temp.set_as('gym owner', 'gym', 'whatsapp', 'whatsapp_cloud', '{"access_token": "canary-second"}');
select is((select count(distinct fingerprint) from public.credentials where provider = 'whatsapp'), 2::bigint,
  'the same secret at two tenants has two fingerprints: they tell nothing to each other');

-- What is refused, before anything is written
select matches(pg_temp.set_as('pizza admin', 'pizza', 'whatsapp', 'whatsapp_cloud', '{}'), '^22023', 'a secret without its token is refused');
select matches(pg_temp.set_as('pizza admin', 'pizza', 'whatsapp', 'whatsapp_cloud', '{"access_token": ""}'), '^22023', 'an empty token is refused');
select matches(pg_temp.set_as('pizza admin', 'pizza', 'whatsapp', 'whatsapp_cloud', '["canary"]'), '^22023', 'a secret that is no object is refused');
select matches(pg_temp.set_as('pizza admin', 'pizza', 'whatsapp', 'whatsapp_cloud', '{"access_token": "canary-x\r\nX-Evil: 1"}'), '^22023',
  'a token with a line break is refused: it would become a header');
select unalike(pg_temp.set_as('pizza admin', 'pizza', 'whatsapp', 'whatsapp_cloud', '{"access_token": "canary x"}'), '%canary%', 'and the error does not repeat it');
select matches(pg_temp.set_as('pizza admin', 'pizza', 'whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "1/../2"}'), '^22023',
  'an account that would change the path of a request is refused');
select matches(pg_temp.set_as('pizza admin', 'pizza', 'whatsapp', 'facebook_login'), '^23514', 'a kind of another provider is refused');
select is((select s.decrypted_secret::jsonb ->> 'access_token' from vault.decrypted_secrets s join public.credentials c on c.secret_id = s.id
  where c.tenant_id = tests.id('pizza') and c.provider = 'whatsapp'), 'canary-second', 'what was refused changed nothing');

-- Health starts anew
update public.credentials set health = 'broken', health_reason = 'revoked' where tenant_id = tests.id('pizza') and provider = 'whatsapp';
select pg_temp.set_as('pizza admin', 'pizza');
select is((select health || coalesce(health_reason, '') from public.credentials where tenant_id = tests.id('pizza') and provider = 'whatsapp'), 'unchecked',
  'a new secret is unchecked, whatever the old one was');

select * from finish();
rollback;
