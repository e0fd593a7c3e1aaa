begin;
select plan(9);
select tests.two_tenants();

create function pg_temp.remove_as(p_who text, p_slug text, p_provider text default 'meta') returns text language sql as $$
  select tests.answer(p_who, format('select public.remove_credential(%L, %L)', tests.id(p_slug), p_provider))
$$;

select is(pg_temp.remove_as('pizza member', 'pizza'), '42501', 'a member removes no credential');
select is(pg_temp.remove_as('gym owner', 'pizza'), '42501', 'another tenant''s owner removes none');
select is(pg_temp.remove_as('gym owner', 'no such tenant'), '42501', 'and cannot tell it from a tenant that does not exist');
select is((select count(*) from vault.secrets where name = 'credential/' || tests.id('pizza') || '/meta'), 1::bigint, 'the secret is still there');
select is(pg_temp.remove_as('pizza admin', 'pizza'), 'true', 'an admin removes it');
select is((select count(*) from vault.secrets where name = 'credential/' || tests.id('pizza') || '/meta'), 0::bigint, 'the secret leaves Vault');
select is((select count(*) from public.credentials where tenant_id = tests.id('pizza')), 0::bigint, 'and the row is gone');
select is(pg_temp.remove_as('pizza admin', 'pizza'), 'false', 'a second time there was none');
select is((select count(*) from public.audit_log where tenant_id = tests.id('pizza') and action = 'credential.removed'), 1::bigint, 'the audit log knows it once');

select * from finish();
rollback;
