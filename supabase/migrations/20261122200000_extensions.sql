-- Extensions that the platform offers. Written by hand: a schema diff does not carry them.
-- Where they exist already (hosted Supabase installs some of them) these lines change nothing.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

create schema if not exists extensions;
create extension if not exists pgcrypto with schema extensions;
create extension if not exists supabase_vault with schema vault cascade;
create extension if not exists pg_cron with schema pg_catalog;
create extension if not exists pg_net with schema extensions;
