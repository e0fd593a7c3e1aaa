-- Rows of two tenants are kept apart by structure: no reference crosses, nothing can be guessed from a key.
begin;
select plan(6);

create view pg_temp.owned as
  select c.oid, c.relname, a.attnum, a.attnotnull
  from pg_catalog.pg_class c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p')
    and not c.relispartition
    -- Alerts are the platform's own; the tenant is a remark.
    and c.oid <> 'jobs.alerts'::regclass;

select isnt_empty($$ select from pg_temp.owned where relname = 'completions' $$, 'there are tables that tenants own');
select is_empty($$ select oid::regclass from pg_temp.owned where not attnotnull $$, 'tenant_id is not null in every table of tenants');
select is_empty($$
  select o.oid::regclass from pg_temp.owned o
  where not exists (select from pg_catalog.pg_index i where i.indrelid = o.oid and i.indisprimary and i.indkey[0] = o.attnum)
$$, 'the primary key of every such table starts with tenant_id');
select is_empty($$
  select i.indexrelid::regclass from pg_temp.owned o
  join pg_catalog.pg_index i on i.indrelid = o.oid and i.indisunique and not (o.attnum = any (i.indkey::smallint[]))
$$, 'every unique index includes tenant_id: one tenant cannot probe another''s values');
select is_empty($$
  select f.conname from pg_catalog.pg_constraint f
  join pg_temp.owned child on child.oid = f.conrelid
  join pg_temp.owned parent on parent.oid = f.confrelid
  where f.contype = 'f' and not exists (
    select from unnest(f.conkey, f.confkey) as k (mine, theirs) where k.mine = child.attnum and k.theirs = parent.attnum)
$$, 'every reference between such tables includes tenant_id on both sides');
select is_empty($$
  select f.conname from pg_catalog.pg_constraint f
  where f.contype = 'f' and f.connamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace)
    -- Jobs come with deployments; none is ever deleted while it has rows.
    and f.confrelid <> 'jobs.definitions'::regclass
    and not exists (
      select from pg_catalog.pg_index i
      where i.indrelid = f.conrelid and i.indpred is null
        and (i.indkey::smallint[])[0:cardinality(f.conkey) - 1] @> f.conkey
    )
$$, 'every reference has an index that serves it');

select * from finish();
rollback;
