-- Memberships: which signed-in user works for which tenant, in which role. Looked up on every request: removal works at once.
-- The order of the enum is the order of power, so `role >= 'admin'` reads as it is meant.
create type public.member_role as enum ('viewer', 'member', 'admin', 'owner');

create table public.memberships (
  tenant_id uuid not null,
  user_id uuid not null,
  role public.member_role not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, user_id),
  constraint memberships_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint memberships_user_fkey foreign key (user_id) references auth.users (id) on delete cascade
);

create index memberships_user_id_idx on public.memberships (user_id, role, tenant_id);

-- The tenants in which the caller has at least this role. Used as `tenant_id = any (array(select private.tenant_ids('member')))`:
-- the set is computed once per query and the index on tenant_id serves (0.3 ms; a helper called per row takes seconds).
create function private.tenant_ids(p_role public.member_role default 'viewer')
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

grant execute on function private.tenant_ids(public.member_role) to authenticated, service_role;
comment on function private.tenant_ids(public.member_role) is
  'Tenants in which the caller has at least this role. Definer: memberships cannot be read from its own policy without recursion.';

-- The platform itself: a request with the secret key, or a direct session that is no request at all (SQL editor, seed, cron).
create function private.is_platform()
returns boolean
language sql stable
set search_path = ''
as $$
  select coalesce((select auth.role()), '') = 'service_role'
    or ((select auth.role()) is null and (select auth.uid()) is null and session_user <> 'authenticator')
$$;

grant execute on function private.is_platform() to authenticated, service_role;
comment on function private.is_platform() is 'True for the secret key and for direct sessions of the platform; false for every signed-in user and for anon.';

-- Raises unless the caller has the role. A stranger and a wrong id get the same answer, so nothing can be guessed.
create function private.require_role(p_tenant_id uuid, p_role public.member_role)
returns void
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if p_tenant_id is null or not exists (select from private.tenant_ids(p_role) t where t = p_tenant_id) then
    raise exception 'No such tenant, or your role is below %.', p_role using errcode = '42501';
  end if;
end
$$;

comment on function private.require_role(uuid, public.member_role) is 'Raises 42501 unless the caller has at least this role in the tenant. '
  'Definer: memberships cannot be read from the policies of the tables that it guards.';

alter table public.memberships enable row level security;
grant select on public.memberships to authenticated;
grant select, insert, update, delete on public.memberships to service_role;

create policy memberships_select_members on public.memberships
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('viewer'))));

create policy tenants_select_members on public.tenants
  for select to authenticated using (id = any (array(select private.tenant_ids('viewer'))));

create policy tenants_update_admins on public.tenants
  for update to authenticated
  using (id = any (array(select private.tenant_ids('admin'))))
  with check (id = any (array(select private.tenant_ids('admin'))));

create trigger memberships_before_update_keep_row_rules
  before update on public.memberships
  for each row execute function private.keep_row_rules();

-- Whoever goes or steps down, one owner stays, also when the user is deleted, and when two owners demote each other at once:
-- the second to come waits for the tenant's row and finds itself alone.
create function private.keep_an_owner()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform from public.tenants t where t.id = old.tenant_id and t.status <> 'closed' for no key update;
  if found and not exists (select from public.memberships m where m.tenant_id = old.tenant_id and m.role = 'owner') then
    raise exception 'A tenant needs an owner. Transfer the ownership or close the tenant first.' using errcode = 'PT409';
  end if;
  return null;
end
$$;

comment on function private.keep_an_owner() is
  'Trigger: the last owner of a tenant that is not closed cannot go. Definer: it locks the tenant and counts owners whoever asks.';

create trigger memberships_after_delete_keep_an_owner
  after delete on public.memberships
  for each row when (old.role = 'owner') execute function private.keep_an_owner();

create trigger memberships_after_update_keep_an_owner
  after update of role on public.memberships
  for each row when (old.role = 'owner' and new.role <> 'owner') execute function private.keep_an_owner();

comment on table public.memberships is 'Who works for which tenant, in which role. The only authority on access; no claim in a token is trusted.';
