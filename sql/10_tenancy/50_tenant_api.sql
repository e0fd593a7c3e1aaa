-- What members do with tenants, as calls. A call in `public` is a thin invoker function; the rights it needs are in its
-- definer twin in `private`, which is not exposed.

create function private.create_tenant(p_name text, p_slug text, p_time_zone text)
returns public.tenants
language plpgsql security definer
set search_path = ''
as $$
declare
  v_tenant public.tenants;
begin
  if (select auth.uid()) is null then
    raise exception 'Sign in first.' using errcode = '42501';
  end if;
  insert into public.tenants (name, slug, time_zone)
  values (p_name, p_slug, p_time_zone)
  returning * into v_tenant;
  insert into public.memberships (tenant_id, user_id, role) values (v_tenant.id, (select auth.uid()), 'owner');
  perform private.audit(v_tenant.id, 'tenant.created', jsonb_build_object('slug', v_tenant.slug));
  return v_tenant;
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
  'Creates a tenant on the Free plan; the caller becomes its owner. Errors: 23505 slug taken, 23514 slug or name not allowed, 22023 time zone.';

-- The platform's own way to put a user into a tenant; members are invited by their tenant.
create function jobs.add_member(tenant_id uuid, user_id uuid, role public.member_role)
returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.memberships as m (tenant_id, user_id, role)
  values (add_member.tenant_id, add_member.user_id, add_member.role)
  on conflict on constraint memberships_pkey do update set role = excluded.role;
  perform private.audit(add_member.tenant_id, 'member.added',
    jsonb_build_object('user_id', add_member.user_id, 'role', add_member.role));
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
begin
  update public.tenants t set plan_id = set_plan.plan_id where t.id = set_plan.tenant_id;
  if not found then
    raise exception 'There is no tenant %.', set_plan.tenant_id using errcode = 'P0002';
  end if;
  perform private.audit(set_plan.tenant_id, 'plan.changed', jsonb_build_object('plan_id', set_plan.plan_id));
end
$$;

grant execute on function jobs.set_plan(uuid, text) to service_role;
comment on function jobs.set_plan(uuid, text) is 'Platform only: puts a tenant on a plan; the next claim serves it accordingly. '
  'Definer: the plan of a tenant and its audit row are written by functions only.';
