-- Schemas and the rule that everything below relies on: nothing is granted unless a line says so.
-- `public` is what clients see through the Data API, `jobs` is the engine (service_role only), `private` holds helpers.
create schema private;
create schema jobs;

revoke all on schema public from public;
grant usage on schema public to anon, authenticated, service_role;
-- Row-level security calls helpers in `private` as the caller, so the caller needs usage; the schema is not exposed.
grant usage on schema private to authenticated, service_role;
grant usage on schema jobs to service_role;

-- The global form is the one that works: with `in schema` a revoke from public changes nothing.
alter default privileges revoke execute on functions from public;
-- Older projects hand every new object to the API roles by default, newer ones do not: this makes both alike.
alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;
alter default privileges in schema public revoke all on sequences from anon, authenticated, service_role;
alter default privileges in schema public revoke all on functions from anon, authenticated, service_role;

comment on schema private is 'Helpers of the database itself; never exposed through the Data API.';
comment on schema jobs is 'The engine: lanes, items, batches, attempts, runs. Exposed to service_role only.';
