-- What members do with tenants, as calls. A call in `public` is a thin invoker function; the rights it needs are in its
-- definer twin in `private`, which is not exposed.

-- The caller as a user who is there: not anon, not deleted since the token was made, not a guest.
create function private.require_user()
returns uuid
language plpgsql stable
set search_path = ''
as $$
begin
  if not exists (select from auth.users u where u.id = (select auth.uid()) and not coalesce(u.is_anonymous, false)) then
    raise exception 'Sign in first.' using errcode = '42501';
  end if;
  return (select auth.uid());
end
$$;

comment on function private.require_user() is 'The id of the signed-in user; raises 42501 when there is none, for guests and for deleted users.';

-- Checks the role, locks the tenant's row, and checks the role again: with the lock held, nobody's role changes any more.
-- The first check keeps strangers from holding locks on other people's tenants.
create function private.lock_tenant(p_tenant_id uuid, p_role public.member_role)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform private.require_role(p_tenant_id, p_role);
  perform from public.tenants t where t.id = p_tenant_id for no key update;
  perform private.require_role(p_tenant_id, p_role);
end
$$;

comment on function private.lock_tenant(uuid, public.member_role) is
  'Raises 42501 unless the caller has at least this role, and keeps all roles in the tenant as they are until the transaction ends.';

create function private.create_tenant(p_name text, p_slug text, p_time_zone text)
returns public.tenants
language plpgsql security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.require_user();
  v_tenant public.tenants;
begin
  perform private.limit_calls('create_tenant', v_user_id);
  insert into public.tenants (name, slug, time_zone)
  values (p_name, p_slug, p_time_zone)
  returning * into v_tenant;
  insert into public.memberships (tenant_id, user_id, role) values (v_tenant.id, v_user_id, 'owner');
  perform private.audit(v_tenant.id, 'tenant.created', jsonb_build_object('slug', v_tenant.slug));
  return v_tenant;
exception
  -- Without its details, which would tell the whole row, with the columns that nobody may read.
  when check_violation or not_null_violation then
    raise exception '%', sqlerrm using errcode = sqlstate;
end
$$;

grant execute on function private.create_tenant(text, text, text) to authenticated;
comment on function private.create_tenant(text, text, text) is
  'Behind public.create_tenant. Definer: the caller is not a member yet, so no policy could let it write.';

create function public.create_tenant(name text, slug text, time_zone text default 'UTC')
returns public.tenants
language sql
set search_path = ''
as $$
  select private.create_tenant(create_tenant.name, create_tenant.slug, create_tenant.time_zone)
$$;

grant execute on function public.create_tenant(text, text, text) to authenticated;
comment on function public.create_tenant(text, text, text) is
  'Creates a tenant on the Free plan; the caller becomes its owner. Name and settings are changed by updating the row. '
  'Errors: 23505 slug taken, 23514 slug or name not allowed, 22023 time zone, PT429 too many.';

-- Tenants of the caller, for switching between them. A closed one is shown to its owners only, who may reopen it.
create function private.my_tenants()
returns table (tenant_id uuid, slug text, name text, role public.member_role, status public.tenant_status, time_zone text, locale text, is_active boolean)
language sql stable security definer
set search_path = ''
as $$
  select t.id, t.slug, t.name, m.role, t.status, t.time_zone, t.locale, a.user_id is not null
  from public.memberships m
  join public.tenants t on t.id = m.tenant_id
  left join private.active_tenants a on a.user_id = m.user_id and a.active_tenant_id = m.tenant_id
  where m.user_id = (select auth.uid()) and (t.status <> 'closed' or m.role = 'owner')
  order by t.name, t.id
$$;

grant execute on function private.my_tenants() to authenticated;
comment on function private.my_tenants() is 'Behind public.my_tenants. Definer: no policy shows a closed tenant, and nobody reads the preferences.';

create function public.my_tenants()
returns table (tenant_id uuid, slug text, name text, role public.member_role, status public.tenant_status, time_zone text, locale text, is_active boolean)
language sql stable
set search_path = ''
as $$
  select * from private.my_tenants()
$$;

grant execute on function public.my_tenants() to authenticated;
comment on function public.my_tenants() is
  'The tenants that the caller works for, with the role in each. is_active: the one chosen by set_active_tenant.';

create function private.close_tenant(p_tenant_id uuid)
returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  -- Active ones only: a suspension cannot be got rid of by closing and reopening.
  perform private.lock_tenant(p_tenant_id, 'owner');
  update public.tenants t set status = 'closed' where t.id = p_tenant_id;
  perform private.audit(p_tenant_id, 'tenant.closed');
end
$$;

grant execute on function private.close_tenant(uuid) to authenticated;
comment on function private.close_tenant(uuid) is 'Behind public.close_tenant. Definer: no API role may change the status. Owners only.';

create function public.close_tenant(tenant_id uuid)
returns void
language sql
set search_path = ''
as $$
  select private.close_tenant(close_tenant.tenant_id)
$$;

grant execute on function public.close_tenant(uuid) to authenticated;
comment on function public.close_tenant(uuid) is
  'Closes a tenant: nobody sees it any more and nothing is done for it, until an owner reopens it. Owners only. Error: 42501.';

create function private.reopen_tenant(p_tenant_id uuid)
returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_is_platform boolean := private.is_platform() or private.is_platform_admin();
begin
  -- The row first, by those who may ask: what is looked at then stays. The owners of a closed tenant may all have left meanwhile.
  perform from public.tenants t
  where t.id = p_tenant_id and (v_is_platform or exists (
    select from public.memberships m where m.tenant_id = t.id and m.user_id = (select auth.uid()) and m.role = 'owner'))
  for no key update;
  if not exists (
    select from public.tenants t
    where t.id = p_tenant_id
      and (v_is_platform and t.status <> 'active'
        or t.status = 'closed' and exists (
          select from public.memberships m where m.tenant_id = t.id and m.user_id = (select auth.uid()) and m.role = 'owner'))
  ) then
    raise exception 'There is no such tenant for you to reopen.' using errcode = '42501';
  end if;
  if not exists (select from public.memberships m where m.tenant_id = p_tenant_id and m.role = 'owner') then
    raise exception 'A tenant needs an owner. Add one first.' using errcode = 'PT409';
  end if;
  update public.tenants t set status = 'active' where t.id = p_tenant_id;
  perform private.audit(p_tenant_id, 'tenant.reopened');
end
$$;

grant execute on function private.reopen_tenant(uuid) to authenticated, service_role;
comment on function private.reopen_tenant(uuid) is
  'Behind public.reopen_tenant. Definer: no API role may change the status. Owners for a closed tenant, the platform and its admins for any.';

create function public.reopen_tenant(tenant_id uuid)
returns void
language sql
set search_path = ''
as $$
  select private.reopen_tenant(reopen_tenant.tenant_id)
$$;

grant execute on function public.reopen_tenant(uuid) to authenticated, service_role;
comment on function public.reopen_tenant(uuid) is
  'Makes a closed tenant active again: its owners. Or a suspended one: the platform and its admins. Errors: 42501, PT409 it has no owner any more.';

create function private.suspend_tenant(p_tenant_id uuid, p_reason text)
returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  if not (private.is_platform() or private.is_platform_admin()) then
    raise exception 'Only the platform suspends a tenant.' using errcode = '42501';
  end if;
  update public.tenants t set status = 'suspended' where t.id = p_tenant_id and t.status <> 'suspended';
  if not found then
    raise exception 'There is no such tenant to suspend.' using errcode = 'PT404';
  end if;
  perform private.audit(p_tenant_id, 'tenant.suspended', jsonb_build_object('reason', left(p_reason, 500)));
end
$$;

grant execute on function private.suspend_tenant(uuid, text) to authenticated, service_role;
comment on function private.suspend_tenant(uuid, text) is
  'Behind public.suspend_tenant. Definer: no API role may change the status. The platform and its admins only.';

create function public.suspend_tenant(tenant_id uuid, reason text)
returns void
language sql
set search_path = ''
as $$
  select private.suspend_tenant(suspend_tenant.tenant_id, suspend_tenant.reason)
$$;

grant execute on function public.suspend_tenant(uuid, text) to authenticated, service_role;
comment on function public.suspend_tenant(uuid, text) is
  'Suspends a tenant: its members can read, nothing is done for it. The platform and its admins only. Errors: 42501, PT404.';

-- The platform's own way to put a user into a tenant; members are invited by their tenant.
create function jobs.add_member(tenant_id uuid, user_id uuid, role public.member_role)
returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_from public.member_role;
begin
  select m.role into v_from from public.memberships m where m.tenant_id = add_member.tenant_id and m.user_id = add_member.user_id for update;
  insert into public.memberships as m (tenant_id, user_id, role)
  values (add_member.tenant_id, add_member.user_id, add_member.role)
  on conflict on constraint memberships_pkey do update set role = excluded.role;
  perform private.audit(add_member.tenant_id, case when v_from is null then 'member.added' else 'member.role_changed' end,
    jsonb_strip_nulls(jsonb_build_object('user_id', add_member.user_id, 'role', add_member.role, 'from', v_from)));
end
$$;

grant execute on function jobs.add_member(uuid, uuid, public.member_role) to service_role;
comment on function jobs.add_member(uuid, uuid, public.member_role) is 'Platform only: makes a user a member of a tenant, or changes the role. '
  'Definer: memberships are written by functions only.';

create function jobs.set_plan(tenant_id uuid, plan_id text)
returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_from text;
begin
  select t.plan_id into v_from from public.tenants t where t.id = set_plan.tenant_id for no key update;
  if not found then
    raise exception 'There is no tenant %.', set_plan.tenant_id using errcode = 'P0002';
  end if;
  update public.tenants t set plan_id = set_plan.plan_id where t.id = set_plan.tenant_id;
  perform private.audit(set_plan.tenant_id, 'plan.changed', jsonb_build_object('plan_id', set_plan.plan_id, 'from', v_from));
end
$$;

grant execute on function jobs.set_plan(uuid, text) to service_role;
comment on function jobs.set_plan(uuid, text) is 'Platform only: puts a tenant on a plan; the next claim serves it accordingly. '
  'Definer: the plan of a tenant and its audit row are written by functions only.';
