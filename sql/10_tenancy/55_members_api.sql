-- Who works for a tenant, as calls: leaving, removing, roles, ownership. Each locks the tenant's row before it looks.
-- An owner may do anything to anybody, an admin to members and viewers, and nobody gives a role above the own.

create function private.list_members(p_tenant_id uuid)
returns table (user_id uuid, email text, role public.member_role, since timestamptz)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  perform private.require_role(p_tenant_id, 'admin');
  return query
    select m.user_id, u.email::text, m.role, m.created_at
    from public.memberships m
    join auth.users u on u.id = m.user_id
    where m.tenant_id = p_tenant_id
    order by m.role desc, u.email;
end
$$;

grant execute on function private.list_members(uuid) to authenticated;
comment on function private.list_members(uuid) is 'Behind public.list_members. Definer: e-mail addresses are in auth.users, which no API role may read. Admins only.';

create function public.list_members(tenant_id uuid)
returns table (user_id uuid, email text, role public.member_role, since timestamptz)
language sql stable
set search_path = ''
as $$
  select * from private.list_members(list_members.tenant_id)
$$;

grant execute on function public.list_members(uuid) to authenticated;
comment on function public.list_members(uuid) is 'Who works for the tenant, with e-mail address; admins only. Error: 42501.';

create function private.leave_tenant(p_tenant_id uuid)
returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_role public.member_role;
begin
  -- From a suspended or closed tenant, too: nobody is kept.
  perform from public.tenants t
  where t.id = p_tenant_id
    and exists (select from public.memberships m where m.tenant_id = t.id and m.user_id = (select auth.uid()))
  for no key update;
  delete from public.memberships m where m.tenant_id = p_tenant_id and m.user_id = (select auth.uid()) returning m.role into v_role;
  if v_role is null then
    raise exception 'You do not work for this tenant.' using errcode = '42501';
  end if;
  perform private.audit(p_tenant_id, 'member.left', jsonb_build_object('user_id', (select auth.uid()), 'role', v_role));
end
$$;

grant execute on function private.leave_tenant(uuid) to authenticated;
comment on function private.leave_tenant(uuid) is 'Behind public.leave_tenant. Definer: no API role may change memberships. Removes the caller and nobody else.';

create function public.leave_tenant(tenant_id uuid)
returns void
language sql
set search_path = ''
as $$
  select private.leave_tenant(leave_tenant.tenant_id)
$$;

grant execute on function public.leave_tenant(uuid) to authenticated;
comment on function public.leave_tenant(uuid) is 'The caller works for the tenant no more. Errors: 42501 did not, PT409 the last owner stays.';

-- The role of a member whom the caller may manage; raises when there is none or it may not.
create function private.role_to_manage(p_tenant_id uuid, p_user_id uuid)
returns public.member_role
language plpgsql
set search_path = ''
as $$
declare
  v_own public.member_role;
  v_role public.member_role;
begin
  select m.role into v_own from public.memberships m where m.tenant_id = p_tenant_id and m.user_id = (select auth.uid());
  select m.role into v_role from public.memberships m where m.tenant_id = p_tenant_id and m.user_id = p_user_id;
  if v_role is null then
    raise exception 'There is no such member.' using errcode = 'PT404';
  end if;
  if p_user_id is distinct from (select auth.uid()) and v_own is distinct from 'owner' and (v_own is null or v_role >= v_own) then
    raise exception 'Only an owner manages members of this role.' using errcode = '42501';
  end if;
  return v_role;
end
$$;

comment on function private.role_to_manage(uuid, uuid) is 'A member''s role; raises 42501 unless the caller may change it, PT404 when there is no such member.';

create function private.remove_member(p_tenant_id uuid, p_user_id uuid)
returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_role public.member_role;
begin
  perform private.lock_tenant(p_tenant_id, 'admin');
  v_role := private.role_to_manage(p_tenant_id, p_user_id);
  delete from public.memberships m where m.tenant_id = p_tenant_id and m.user_id = p_user_id;
  perform private.audit(p_tenant_id, 'member.removed', jsonb_build_object('user_id', p_user_id, 'role', v_role));
end
$$;

grant execute on function private.remove_member(uuid, uuid) to authenticated;
comment on function private.remove_member(uuid, uuid) is
  'Behind public.remove_member. Definer: no API role may change memberships. Admins, for members below them; owners, for all.';

create function public.remove_member(tenant_id uuid, user_id uuid)
returns void
language sql
set search_path = ''
as $$
  select private.remove_member(remove_member.tenant_id, remove_member.user_id)
$$;

grant execute on function public.remove_member(uuid, uuid) to authenticated;
comment on function public.remove_member(uuid, uuid) is
  'Takes a member''s access away, at once. Admins remove members and viewers, owners everybody. Errors: 42501, PT404, PT409 the last owner stays.';

create function private.change_role(p_tenant_id uuid, p_user_id uuid, p_role public.member_role)
returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_role public.member_role;
begin
  perform private.lock_tenant(p_tenant_id, 'admin');
  v_role := private.role_to_manage(p_tenant_id, p_user_id);
  if p_role is null then
    raise exception 'Name a role: viewer, member, admin or owner.' using errcode = '22023';
  end if;
  -- Nobody gives what they do not have.
  perform private.require_role(p_tenant_id, p_role);
  update public.memberships m set role = p_role where m.tenant_id = p_tenant_id and m.user_id = p_user_id;
  perform private.audit(p_tenant_id, 'member.role_changed', jsonb_build_object('user_id', p_user_id, 'from', v_role, 'to', p_role));
end
$$;

grant execute on function private.change_role(uuid, uuid, public.member_role) to authenticated;
comment on function private.change_role(uuid, uuid, public.member_role) is
  'Behind public.change_role. Definer: no API role may change memberships. Admins, for members below them and up to their own role; owners, for all.';

create function public.change_role(tenant_id uuid, user_id uuid, role public.member_role)
returns void
language sql
set search_path = ''
as $$
  select private.change_role(change_role.tenant_id, change_role.user_id, change_role.role)
$$;

grant execute on function public.change_role(uuid, uuid, public.member_role) to authenticated;
comment on function public.change_role(uuid, uuid, public.member_role) is
  'Gives a member another role, at most the caller''s own. Admins change members and viewers, owners everybody. '
  'Errors: 42501, PT404 no such member, PT409 the last owner stays.';

create function private.transfer_ownership(p_tenant_id uuid, p_user_id uuid)
returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.lock_tenant(p_tenant_id, 'owner');
  perform private.role_to_manage(p_tenant_id, p_user_id);
  if p_user_id = (select auth.uid()) then
    raise exception 'You are an owner already. Name the member who becomes one.' using errcode = '22023';
  end if;
  update public.memberships m set role = 'owner' where m.tenant_id = p_tenant_id and m.user_id = p_user_id;
  update public.memberships m set role = 'admin' where m.tenant_id = p_tenant_id and m.user_id = (select auth.uid());
  perform private.audit(p_tenant_id, 'ownership.transferred', jsonb_build_object('from', (select auth.uid()), 'to', p_user_id));
end
$$;

grant execute on function private.transfer_ownership(uuid, uuid) to authenticated;
comment on function private.transfer_ownership(uuid, uuid) is 'Behind public.transfer_ownership. Definer: no API role may change memberships. Owners only.';

create function public.transfer_ownership(tenant_id uuid, user_id uuid)
returns void
language sql
set search_path = ''
as $$
  select private.transfer_ownership(transfer_ownership.tenant_id, transfer_ownership.user_id)
$$;

grant execute on function public.transfer_ownership(uuid, uuid) to authenticated;
comment on function public.transfer_ownership(uuid, uuid) is
  'A member becomes owner in the caller''s place; the caller becomes an admin. Owners only. Errors: 42501, PT404 no such member.';
