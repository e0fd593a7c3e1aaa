-- Acknowledgements: what a tenant has read and taken upon itself before it may do something risky.
create table public.acknowledgements (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  rule text not null,
  version integer not null,
  user_id uuid,
  acknowledged_at timestamptz not null default now(),
  text text not null,
  primary key (tenant_id, id),
  constraint acknowledgements_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade
);

alter table public.acknowledgements enable row level security;
grant select on public.acknowledgements to authenticated;
grant select, insert, update, delete on public.acknowledgements to service_role;

create policy acknowledgements_select_admins on public.acknowledgements
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('admin'))));

comment on table public.acknowledgements is 'Which rule a tenant has acknowledged, in which version, by whom and when.';

create function private.require_acknowledgement(p_tenant_id uuid, p_rule text)
returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if not private.is_platform() and not exists (
    select from public.acknowledgements a where a.tenant_id = p_tenant_id and a.rule = p_rule) then
    raise exception 'This needs an acknowledgement first: %.', p_rule using errcode = 'PT409', hint = 'Call acknowledge_rule first.';
  end if;
end
$$;

comment on function private.require_acknowledgement(uuid, text) is 'Raises PT409 unless the tenant has acknowledged the rule. The platform passes.';

create function private.acknowledge_rule(p_tenant_id uuid, p_rule text, p_version integer)
returns uuid
language plpgsql security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  perform private.require_role(p_tenant_id, 'admin');
  insert into public.acknowledgements (tenant_id, rule, version, user_id, text)
  values (p_tenant_id, p_rule, p_version, (select auth.uid()), 'as read') returning id into v_id;
  return v_id;
end
$$;

grant execute on function private.acknowledge_rule(uuid, text, integer) to authenticated, service_role;
comment on function private.acknowledge_rule(uuid, text, integer) is 'Behind public.acknowledge_rule. Definer: no API role writes acknowledgements.';

create function public.acknowledge_rule(tenant_id uuid, rule text, version integer, campaign_id uuid default null)
returns uuid
language sql
set search_path = ''
as $$
  select private.acknowledge_rule(acknowledge_rule.tenant_id, acknowledge_rule.rule, acknowledge_rule.version)
$$;

grant execute on function public.acknowledge_rule(uuid, text, integer, uuid) to authenticated, service_role;
comment on function public.acknowledge_rule(uuid, text, integer, uuid) is 'Takes note of a rule for the tenant; admins only.';
