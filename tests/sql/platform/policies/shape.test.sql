-- Row-level security is on everywhere, and every policy has the one shape.
begin;
select plan(8);

select is_empty($$
  select c.oid::regclass from pg_catalog.pg_class c
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p')
    and not c.relrowsecurity
    and not exists (select from pg_catalog.pg_depend d where d.objid = c.oid and d.deptype = 'e')
$$, 'row-level security is on for every table, partitions included');
select is_empty($$
  select p.polrelid::regclass, p.polname from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace)
    and p.polroles <> array['authenticated'::regrole::oid]
$$, 'every policy is for authenticated, none for public or anon');
select is_empty($$
  select p.polrelid::regclass, p.polcmd from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and p.polpermissive
  group by p.polrelid, p.polcmd having count(*) > 1
$$, 'no table has two permissive policies for a command: they would be or-ed');
select is_empty($$
  select p.polrelid::regclass, p.polname from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace)
    and (p.polcmd = '*' or pg_get_expr(p.polqual, p.polrelid) = 'true' or pg_get_expr(p.polwithcheck, p.polrelid) = 'true'
      or (p.polcmd in ('a', 'w') and p.polwithcheck is null))
$$, 'no policy is for all commands or always true, and every write has a check');
select is_empty($$
  select p.polrelid::regclass, p.polname from pg_catalog.pg_policy p
  where concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) ~ 'metadata|jwt'
$$, 'no policy trusts a claim in a token');
select is_empty($$
  select p.polrelid::regclass, p.polname from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
  where c.relnamespace = 'public'::regnamespace
    and p.polname <> c.relname || '_' || case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' else 'delete' end
      || substring(p.polname from '_[a-z]+(?:_and_[a-z]+)*$')
$$, 'a policy is called <table>_<command>_<who>');
select is_empty($$
  select p.polrelid::regclass, p.polcmd from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
  where c.relnamespace = 'public'::regnamespace and p.polcmd in ('w', 'd')
    and not exists (select from pg_catalog.pg_policy s where s.polrelid = p.polrelid and s.polcmd = 'r')
$$, 'who may change rows of a table has a policy to see them: no blind writes');
select is_empty($$
  select c.oid::regclass from pg_catalog.pg_class c
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace)
    and (c.relkind = 'm' or (c.relkind = 'v' and not coalesce(c.reloptions @> array['security_invoker=true'] or c.reloptions @> array['security_invoker=on'], false)))
$$, 'every view is security_invoker, and there is no materialized one');

select * from finish();
rollback;
