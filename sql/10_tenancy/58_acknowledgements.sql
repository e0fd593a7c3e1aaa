-- Acknowledgements: what a tenant has read and taken upon itself before it may do something risky.
create table public.acknowledgements (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  rule text not null,
  version text not null,
  user_id uuid,
  acknowledged_at timestamptz not null default now(),
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
