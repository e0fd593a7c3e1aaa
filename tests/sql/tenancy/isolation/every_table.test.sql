-- Every table that has a tenant_id, found in the catalog: a new one is under test as soon as it exists.
begin;
select no_plan();
select tests.two_tenants();
select tests.more_of_campaigns(slug) from unnest(array['pizza', 'gym']) slug;
insert into jobs.attempts (tenant_id, item_id, try, job, outcome, due_at, started_at, trace_id)
  values (tests.id('pizza'), 1, 1, 'verify-social-tasks', 'done', now(), now(), gen_random_uuid());
insert into public.data_deletions (tenant_id, subject, request_sha256) values (tests.id('pizza'), '700', repeat('a', 64));

create table pg_temp.owned as
  select c.oid::regclass as name
  from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
    and a.attname = 'tenant_id' and not a.attisdropped;

-- Reading: the rightful owner first, or the zeros below would prove nothing.
select isnt(tests.sees('pizza owner', name::text, 'pizza'), '0', format('%s: the owner sees rows of the own tenant', name)) from pg_temp.owned;
select ok(tests.sees(who, name::text, 'pizza') in ('0', '42501'), format('%s: %s sees no row of another tenant', name, who))
from pg_temp.owned, unnest(array['gym owner', 'gym participant', 'stranger']) who;
select is(tests.sees('anon', name::text, 'pizza'), '42501', format('%s: anon is refused', name)) from pg_temp.owned;

-- Blind writes: without any filter, to every column that may be written and to every row.
create table pg_temp.before as select tests.fingerprint('pizza') as rows;

select tests.rows('gym owner', format('update %s set %2$I = %2$I', o.name, a.attname))
from pg_temp.owned o join pg_catalog.pg_attribute a on a.attrelid = o.name and a.attnum > 0 and not a.attisdropped;
select is(tests.fingerprint('pizza'), rows, 'updating every column of every table without a filter touches no row of another tenant') from pg_temp.before;
select tests.rows('gym owner', format('delete from %s', name)) from pg_temp.owned;
select is(tests.fingerprint('pizza'), rows, 'deleting from every table without a filter touches no row of another tenant') from pg_temp.before;
select is(tests.sees('gym owner', 'public.campaigns', 'gym'), '0', 'while the own campaigns are deleted by it');

-- The pizza's owner can do what the gym's could not.
select is(tests.rows('pizza owner', 'update public.campaigns set name = name'), '1', 'the owner updates the own campaigns');
select is(tests.rows('pizza owner', 'delete from public.campaigns'), '1', 'and deletes them');

select * from finish();
rollback;
