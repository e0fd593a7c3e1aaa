-- Our own redirect: a visit of a task's link proves itself.
create function jobs.record_visit(tenant text, code text, counts boolean default true)
returns text
language plpgsql security definer
set search_path = ''
set jit = off
as $$
declare
  v_tenant_id uuid := nullif(private.webhook_tenant(record_visit.tenant), jobs.platform_id());
  v_task record;
begin
  -- {code} in the url is the tenant's wish to know whose visit it is.
  select c.code, t.id as task_id, t.kind::text as kind, replace(to_jsonb(t) ->> 'url', '{code}', c.code) as url into v_task
  from public.completions c
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  join public.tenants n on n.id = c.tenant_id and n.status = 'active'
  where c.tenant_id = v_tenant_id and c.code = upper(record_visit.code) and t.kind::text in ('link_visit', 'link_sign_up');
  if v_task.url is null then
    return null;
  end if;
  if record_visit.counts and v_task.kind = 'link_visit' then
    perform private.record_signals(v_tenant_id, jsonb_build_array(jsonb_build_object(
      'surface', 'link', 'kind', 'visit', 'external_id', v_task.code, 'target_id', v_task.task_id, 'text', v_task.code, 'happened_at', now())));
  end if;
  return v_task.url;
end
$$;

grant execute on function jobs.record_visit(text, text, boolean) to service_role;
comment on function jobs.record_visit(text, text, boolean) is
  'For functions/webhooks: notes that the link of a claim was visited (counts = false: not) and returns the task''s own url; null when no claim of a '
  'link task has this code. Definer: signals are reachable for no API role.';
