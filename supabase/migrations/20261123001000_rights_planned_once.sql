-- The three functions that every policy asks are planned once per session: they become plpgsql, in place, so that no policy has
-- to be dropped.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

create or replace function private.tenant_ids(p_role public.member_role default 'viewer')
returns setof uuid
language plpgsql stable security definer rows 10
set search_path = ''
as $$
begin
  return query
  select m.tenant_id
  from public.memberships m
  join public.tenants t on t.id = m.tenant_id
  where m.user_id = (select auth.uid()) and m.role >= p_role
    -- A suspended tenant can be read, a closed one is gone for its members.
    and (t.status = 'active' or (t.status = 'suspended' and p_role = 'viewer'));
end
$$;

create or replace function private.participant_ids()
returns setof uuid
language plpgsql stable security definer rows 10
set search_path = ''
as $$
begin
  return query
  select p.id
  from public.participants p
  join public.tenants t on t.id = p.tenant_id
  where p.user_id = (select auth.uid()) and t.status <> 'closed';
end
$$;

create or replace function private.participant_tenant_ids()
returns setof uuid
language plpgsql stable security definer rows 10
set search_path = ''
as $$
begin
  return query
  select p.tenant_id
  from public.participants p
  join public.tenants t on t.id = p.tenant_id
  where p.user_id = (select auth.uid()) and t.status <> 'closed';
end
$$;
