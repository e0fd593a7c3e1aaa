-- Extensions that the platform offers, and the default privileges. Written by hand: a schema diff does not carry them.
-- Where they exist already (hosted Supabase installs some of them) these lines change nothing.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

create schema if not exists extensions;
create extension if not exists pgcrypto with schema extensions;
create extension if not exists supabase_vault with schema vault cascade;
create extension if not exists pg_cron with schema pg_catalog;
create extension if not exists pg_net with schema extensions;

-- Older projects hand every new object in public to the API roles, newer ones do not. This must come before any object is made:
-- nothing is granted unless a line says so. (The same lines stand in sql/00_platform/00_schemas.sql.)
alter default privileges revoke execute on functions from public;
alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;
alter default privileges in schema public revoke all on sequences from anon, authenticated, service_role;
alter default privileges in schema public revoke all on functions from anon, authenticated, service_role;
