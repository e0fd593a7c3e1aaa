-- Nobody in particular may do nothing at all.
begin;
select plan(7);

select is_empty($$
  select c.oid::regclass, p.privilege
  from pg_catalog.pg_class c
  cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) as p (privilege)
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace)
    and c.relkind in ('r', 'p', 'v', 'm', 'f') and has_table_privilege('anon', c.oid, p.privilege)
$$, 'anon has no privilege on any table or view');
select is_empty($$
  select a.attrelid::regclass, a.attname
  from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm', 'f')
    and a.attnum > 0 and not a.attisdropped and has_column_privilege('anon', a.attrelid, a.attnum, 'select, insert, update, references')
$$, 'anon has no privilege on any column');
select is_empty($$
  select c.oid::regclass from pg_catalog.pg_class c
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and case when c.relkind = 'S' then has_sequence_privilege('anon', c.oid, 'usage, select, update') end
$$, 'anon has no privilege on any sequence');
select is_empty($$
  select p.oid::regprocedure from pg_catalog.pg_proc p
  where p.pronamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace)
    and has_function_privilege('anon', p.oid, 'execute') and p.proname <> 'check_request'
$$, 'anon may execute no function, but for the check that every request starts with');
select isnt_empty($$
  select p.oid::regprocedure from pg_catalog.pg_proc p
  where p.pronamespace = 'public'::regnamespace and has_function_privilege('authenticated', p.oid, 'execute')
$$, 'while a signed-in user may execute some');
select ok(not has_schema_privilege('anon', 'jobs', 'usage') and has_function_privilege('anon', 'private.check_request()', 'execute'),
  'anon cannot even name what is in jobs, and can be checked');
select is_empty($$
  select r.rolname, s.nspname
  from pg_catalog.pg_roles r cross join pg_catalog.pg_namespace s
  where r.rolname in ('anon', 'authenticated', 'service_role') and s.nspname in ('public', 'jobs', 'private')
    and has_schema_privilege(r.rolname, s.oid, 'create')
$$, 'no API role may create anything');

select * from finish();
rollback;
