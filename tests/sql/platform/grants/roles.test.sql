-- The API roles are what they should be.
begin;
select plan(6);

select is_empty($$
  select r.rolname from pg_catalog.pg_roles r where r.rolname in ('anon', 'authenticated') and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcanlogin)
$$, 'anon and authenticated cannot log in, bypass row-level security or make roles');
select is_empty($$
  select c.oid::regclass from pg_catalog.pg_class c
  where pg_get_userbyid(c.relowner) in ('anon', 'authenticated', 'service_role', 'authenticator')
$$, 'no API role owns a table');
select is_empty($$
  select c.oid::regclass, pg_get_userbyid(c.relowner) from pg_catalog.pg_class c join pg_catalog.pg_roles r on r.oid = c.relowner
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and r.rolsuper
    and not exists (select from pg_catalog.pg_depend d where d.objid = c.oid and d.deptype = 'e')
$$, 'no table belongs to a superuser');
select is_empty($$
  select pg_get_userbyid(m.roleid) from pg_catalog.pg_auth_members m
  where pg_get_userbyid(m.member) in ('anon', 'authenticated', 'service_role')
$$, 'no API role is a member of another role');
select tests.two_tenants();
select is(tests.answer('pizza owner', 'select count(*) from vault.decrypted_secrets'), '42501', 'an owner cannot read Vault');
select is(tests.answer('pizza owner', $$ select vault.create_secret('a', 'b') $$), '42501', 'an owner cannot write Vault');

select * from finish();
rollback;
