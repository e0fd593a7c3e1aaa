-- Platform admins: users who may do what concerns all tenants. A table and not a claim, so that a removal works at once.
create table private.platform_admins (
  user_id uuid primary key,
  added_at timestamptz not null default now(),
  constraint platform_admins_user_fkey foreign key (user_id) references auth.users (id) on delete cascade
);

alter table private.platform_admins enable row level security;

comment on table private.platform_admins is 'Users who run the platform. In no tenant do they have any right by it.';

create function private.is_platform_admin()
returns boolean
language sql stable security definer
set search_path = ''
as $$
  select exists (select from private.platform_admins a where a.user_id = (select auth.uid()))
    and (coalesce(private.setting('platform_admins_need_mfa'), 'true') = 'false'
      or coalesce((select auth.jwt()) ->> 'aal', '') = 'aal2')
$$;

grant execute on function private.is_platform_admin() to authenticated, service_role;
comment on function private.is_platform_admin() is
  'True when the caller is a platform admin, with a second factor where the settings ask for it. Definer: nobody may read who is.';

create function jobs.add_platform_admin(user_id uuid)
returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into private.platform_admins (user_id) values (add_platform_admin.user_id) on conflict on constraint platform_admins_pkey do nothing;
  perform private.audit(null, 'platform_admin.added', jsonb_build_object('user_id', add_platform_admin.user_id));
end
$$;

create function jobs.remove_platform_admin(user_id uuid)
returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  delete from private.platform_admins a where a.user_id = remove_platform_admin.user_id;
  if not found then
    return false;
  end if;
  perform private.audit(null, 'platform_admin.removed', jsonb_build_object('user_id', remove_platform_admin.user_id));
  return true;
end
$$;

grant execute on function jobs.add_platform_admin(uuid) to service_role;
grant execute on function jobs.remove_platform_admin(uuid) to service_role;
comment on function jobs.add_platform_admin(uuid) is
  'Platform only: makes a user a platform admin. Definer: private.platform_admins is not reachable for any API role.';
comment on function jobs.remove_platform_admin(uuid) is
  'Platform only: the user is no platform admin any more; false when it was none. Definer: like jobs.add_platform_admin.';
