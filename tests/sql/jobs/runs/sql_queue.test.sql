-- A SQL job without a schedule is a queue like any other: each stretch of work of the database is a run.
begin;
select plan(10);
select tests.tenant(slug, 'enterprise') from unnest(array['pizza', 'gym']) slug;
create function private.tests_bake(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  if exists (select from public.tenants t where t.id = p_tenant_id and t.slug = 'gym') then
    raise exception 'The oven is cold.';
  end if;
  return '{}';
end
$$;
update jobs.definitions set paused = true where kind = 'sql';
select tests.job('bake', '{"kind": "sql", "work_function": "private.tests_bake", "max_attempts": 1}');
create function pg_temp.runs() returns text language sql as $$
  select string_agg(format('%s %s: %s', r.trigger, r.status, r.message), ', ' order by r.run_id) from jobs.runs r where r.job = 'bake'
$$;
select tests.work();
select is(pg_temp.runs(), null, 'with nothing to do there is no run');
select tests.enqueue('bake', slug, 3) from unnest(array['pizza', 'gym']) slug;
select is(tests.work(1), 1, 'one item is one step');
select is(tests.work(1), 1, 'the next goes on');
select is((select count(*) from jobs.drains where job = 'bake'), 1::bigint, 'in the same drain');
select is(pg_temp.runs(), 'queue running: ', 'of one run');
select tests.work();
select is(pg_temp.runs(), 'queue warning: 3 done, 3 failed.', 'which ends with the work, and tells');
select is((select string_agg(format('%s %s %s', t.slug, c.processed, c.failed), ', ' order by t.slug)
  from (select tenant_id, sum(processed) as processed, sum(failed) as failed from jobs.run_tenants group by tenant_id) c join public.tenants t on t.id = c.tenant_id),
  'gym 0 3, pizza 3 0', 'also of each tenant');

-- By hand, while the database is at work
select tests.enqueue('bake', 'pizza', 2);
select tests.work(1);
create table pg_temp.hand as select jobs.run_now('bake') as r;
select tests.work(1);
select is((select count(*) from jobs.batches), 0::bigint, 'the database goes on in its own drain');
select jobs.end_drain((r ->> 'drain_id')::uuid) from pg_temp.hand;
select tests.work();
select is(pg_temp.runs(), 'queue warning: 3 done, 3 failed., queue success: 2 done, 0 failed., manual success: Nothing to do.', 'each run has what it did');
select is((select count(*) from jobs.drains where ended_at is null), 0::bigint, 'and no drain is left');

select * from finish();
rollback;
