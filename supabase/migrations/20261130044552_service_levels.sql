-- service levels: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function jobs.service_report (
  p_since timestamp with time zone,
  p_tenant_ids uuid[] default null::uuid[],
  p_by_tenant boolean default true
)
  returns table (
    job text,
    tenant_id uuid,
    plan_id text,
    tries bigint,
    succeeded bigint,
    success_rate numeric,
    per_minute numeric,
    wait_p50_seconds numeric,
    wait_p95_seconds numeric,
    wait_p99_seconds numeric,
    target_seconds integer,
    within_target numeric
  )
  language plpgsql
  stable
  set search_path to ''
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
#variable_conflict use_column
begin
  return query
  select a.job, g.tenant_id, t.plan_id, count(*), count(*) filter (where a.outcome = 'done'),
    -- Being put off (a throttle, a snooze, a broken credential) is neither success nor failure.
    round(count(*) filter (where a.outcome = 'done')::numeric
      / nullif(count(*) filter (where a.outcome in ('done', 'unknown', 'retry', 'refused', 'lost')), 0), 4),
    round(count(*) / greatest(extract(epoch from now() - p_since) / 60, 1), 4),
    round(percentile_cont(0.5) within group (order by w.seconds)::numeric, 3),
    round(percentile_cont(0.95) within group (order by w.seconds)::numeric, 3),
    round(percentile_cont(0.99) within group (order by w.seconds)::numeric, 3),
    p.target_seconds,
    round(count(*) filter (where w.seconds <= p.target_seconds)::numeric / count(*), 4)
  from jobs.attempts a
  left join public.tenants t on t.id = a.tenant_id
  left join public.plans p on p.plan_id = t.plan_id
  cross join lateral (select greatest(extract(epoch from a.started_at - a.due_at), 0)::double precision as seconds) w
  cross join lateral (select case when p_by_tenant then a.tenant_id end as tenant_id) g
  where a.finished_at >= p_since and a.outcome <> 'cancelled' and (p_tenant_ids is null or a.tenant_id = any (p_tenant_ids))
  group by a.job, g.tenant_id, t.plan_id, p.target_seconds;
end
$function$;
