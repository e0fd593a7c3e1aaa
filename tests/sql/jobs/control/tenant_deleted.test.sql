-- A tenant that is deleted takes its work with it.
begin;
select plan(11);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym']) slug;
select tests.job('bake');
select tests.enqueue('bake', slug, 3) from unnest(array['pizza', 'gym']) slug;
create table pg_temp.batch as select tests.claim('bake', 1) as b;
create table pg_temp.out as select slug from pg_temp.batch, tests.items_of(b);

delete from public.tenants where slug = (select slug from pg_temp.out);
select is((select count(*) from jobs.items where tenant_id = tests.id(slug)), 0::bigint, 'what waited is gone') from pg_temp.out;
select is((select count(*) from jobs.lanes where tenant_id = tests.id(slug)), 0::bigint, 'and its lanes') from pg_temp.out;
select is((select count(*) from jobs.items where tenant_id <> tests.id(slug) and job = 'bake'), 3::bigint, 'other tenants'' work stays') from pg_temp.out;
select is(tests.close(b, '{"outcome": "done"}') ->> 'closed', '1', 'what was out with a worker ends') from pg_temp.batch;
select is((select count(*) from jobs.items where tenant_id = tests.id(slug)), 0::bigint, 'then nothing is left') from pg_temp.out;
select is((select count(*) from tests.items_of(tests.claim('bake'))), 3::bigint, 'the others are served');

-- What else would wait for it for ever.
select tests.tenant('salon', 'pro');
select tests.job('daily', '{"schedule": "0 0 1 1 *", "eligible_function": "private.tests_eligible"}');
create function private.tests_eligible() returns setof uuid language sql set search_path = '' as $$
  select t.id from public.tenants t where t.slug = 'salon'
$$;
select jobs.start_slot(d, now() - interval '1 day') from jobs.definitions d where d.job = 'daily';
select jobs.open_alert(tests.id('salon'), 'credential meta', 'It does not work.');
delete from public.tenants where slug = 'salon';
select jobs.finish_lost_drains(clock_timestamp());
select is((select status::text from jobs.runs where job = 'daily'), 'success', 'the run that had an item for it is over');
select is((select count(*) from jobs.alerts where tenant_id = tests.id('salon') and closed_at is null), 0::bigint, 'so are its alerts');

-- Out with a worker, and its domain is gone with it.
create function private.tests_cannot(ended jobs.ended[]) returns void language plpgsql set search_path = '' as $$
begin
  raise exception 'there is no such order';
end
$$;
select tests.tenant('cafe', 'pro');
select tests.job('brew', '{"apply_function": "private.tests_cannot"}');
select tests.enqueue('brew', 'cafe', 2);
create table pg_temp.brewing as select tests.claim('brew') as b;
delete from public.tenants where slug = 'cafe';
select jobs.close_batch((b ->> 'batch_id')::bigint, jsonb_build_array(jsonb_build_object('outcome', 'done', 'item_id', (select min(i.item_id) from tests.items_of(b) i))))
from pg_temp.brewing;
select is((select count(*) from jobs.dead_items where job = 'brew'), 0::bigint, 'an end that could not be applied leaves no dead item of nobody');
select is(jobs.return_batch((b ->> 'batch_id')::bigint), 1, 'what is given back ends') from pg_temp.brewing;
select is((select string_agg(format('%s at try %s', outcome, try), ', ') from jobs.attempts where job = 'brew'),
  'refused at try 1, refused at try 1', 'and is numbered like any other try');

select * from finish();
rollback;
