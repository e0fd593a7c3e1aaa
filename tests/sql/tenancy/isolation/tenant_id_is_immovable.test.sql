-- A row never changes its tenant, whoever asks.
begin;
select no_plan();
select tests.two_tenants();
select tests.more_of_campaigns(slug) from unnest(array['pizza', 'gym']) slug;

select is(tests.rows('pizza owner', format('update public.campaigns set tenant_id = %L', tests.id('gym'))), '42501',
  'an owner of one tenant cannot move a campaign to another');
select tests.member('gym', 'pizza owner', 'owner');
select is(tests.rows('pizza owner', format('update public.campaigns set tenant_id = %L', tests.id('gym'))), '42501',
  'not even an owner of both');
select throws_ok(
  format('update %s set tenant_id = %L where tenant_id = %L', c.oid::regclass, tests.id('gym'), tests.id('pizza')), '42501', null,
  format('%s: not even the platform moves a row', c.oid::regclass))
from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attname = 'tenant_id' and not a.attisdropped
  and has_any_column_privilege('service_role', c.oid, 'update');
select is(tests.rows('pizza owner', format('update public.campaigns set name = name where tenant_id = %L', tests.id('pizza'))), '1',
  'while other columns change');

select * from finish();
rollback;
