-- A SQL job that is charged by milliseconds: who takes long has fewer turns.
begin;
select plan(3);
select tests.tenant(slug, 'enterprise') from unnest(array['slow', 'quick']) slug;
create function private.tests_bake(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  perform pg_sleep(0.02) from public.tenants t where t.id = p_tenant_id and t.slug = 'slow';
  return '{}';
end
$$;
create function pg_temp.worked(p_job text) returns text language plpgsql as $$
begin
  perform tests.enqueue(p_job, slug, 30) from unnest(array['slow', 'quick']) slug;
  perform tests.work(30);
  update jobs.definitions set paused = true where job = p_job;
  return (select string_agg(t.slug || ' ' || a.items, ', ' order by t.slug)
    from (select tenant_id, count(*) as items from jobs.attempts where job = p_job group by tenant_id) a join public.tenants t on t.id = a.tenant_id);
end
$$;
update jobs.definitions set paused = true where kind = 'sql';
select tests.job('by-item', '{"kind": "sql", "work_function": "private.tests_bake", "quantum": 1}');
select is(pg_temp.worked('by-item'), 'quick 15, slow 15', 'charged by items both have the same number');
select tests.job('by-time', '{"kind": "sql", "work_function": "private.tests_bake", "quantum": 1, "cost_unit": "milliseconds"}');
create table pg_temp.by_time as select pg_temp.worked('by-time') as worked;
select ok(substring(worked from 'slow ([0-9]+)')::integer between 1 and 8, format('charged by time the slow one has fewer: %s', worked)) from pg_temp.by_time;
select ok(substring(worked from 'quick ([0-9]+)')::integer >= 22, 'and the quick one more') from pg_temp.by_time;

select * from finish();
rollback;
