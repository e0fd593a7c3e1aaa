-- The tenant that a user works in, as a convenience for clients that show one at a time. No policy and no function asks for it.
create table private.active_tenants (
  user_id uuid primary key,
  active_tenant_id uuid not null,
  chosen_at timestamptz not null default now(),
  -- Who loses the membership loses the choice.
  constraint active_tenants_membership_fkey foreign key (active_tenant_id, user_id) references public.memberships (tenant_id, user_id) on delete cascade
);

create index active_tenants_active_tenant_id_user_id_idx on private.active_tenants (active_tenant_id, user_id);

alter table private.active_tenants enable row level security;

comment on table private.active_tenants is 'The tenant that each user has chosen to work in. A preference, never a right.';

create function private.set_active_tenant(p_tenant_id uuid)
returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  if p_tenant_id is null then
    delete from private.active_tenants a where a.user_id = (select auth.uid());
    return;
  end if;
  perform private.require_role(p_tenant_id, 'viewer');
  insert into private.active_tenants as a (user_id, active_tenant_id)
  values ((select auth.uid()), p_tenant_id)
  on conflict on constraint active_tenants_pkey do update set active_tenant_id = excluded.active_tenant_id, chosen_at = now();
end
$$;

grant execute on function private.set_active_tenant(uuid) to authenticated;
comment on function private.set_active_tenant(uuid) is
  'Behind public.set_active_tenant. Definer: no API role may write preferences. Members only, for themselves.';

create function public.set_active_tenant(tenant_id uuid default null)
returns void
language sql
set search_path = ''
as $$
  select private.set_active_tenant(set_active_tenant.tenant_id)
$$;

grant execute on function public.set_active_tenant(uuid) to authenticated;
comment on function public.set_active_tenant(uuid) is
  'Remembers the tenant that the caller works in, for my_tenants() and the next token; left out, it is forgotten. Changes no right. Error: 42501.';

-- Auth calls it for every token, if the project is set to (docs/tenancy.md). Whatever goes wrong here, the user gets a token.
create function private.custom_access_token(event jsonb)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid;
begin
  -- The chosen tenant, or else the one that there is.
  select m.tenant_id into v_tenant_id
  from public.memberships m
  join public.tenants t on t.id = m.tenant_id
  left join private.active_tenants a on a.user_id = m.user_id and a.active_tenant_id = m.tenant_id
  where m.user_id = (event ->> 'user_id')::uuid and t.status <> 'closed'
  order by a.chosen_at nulls last, m.created_at, m.tenant_id
  limit 1;
  if v_tenant_id is null then
    return event;
  end if;
  return jsonb_set(event, '{claims,active_tenant}', to_jsonb(v_tenant_id));
exception when others then
  return event;
end
$$;

grant usage on schema private to supabase_auth_admin;
grant execute on function private.custom_access_token(jsonb) to supabase_auth_admin;
comment on function private.custom_access_token(jsonb) is
  'Access token hook of Auth: adds the claim active_tenant, for clients to start with. Nothing trusts it. Definer: Auth''s own role reads no tenants.';
