-- A tenant: a business that runs campaigns on a plan.
create type public.tenant_status as enum ('active', 'suspended', 'closed');

create table public.tenants (
  id uuid primary key default gen_random_uuid(),
  slug text not null,
  name text not null,
  plan_id text not null default 'free',
  status public.tenant_status not null default 'active',
  time_zone text not null default 'UTC',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint tenants_slug_key unique (slug),
  constraint tenants_plan_fkey foreign key (plan_id) references public.plans (plan_id),
  constraint slug_is_lower_case_letters_digits_and_dashes check (slug ~ '^[a-z0-9]([a-z0-9-]{1,46})[a-z0-9]$'),
  constraint slug_is_not_reserved check (slug not in ('admin', 'api', 'app', 'auth', 'dashboard', 'health', 'jobs', 'platform', 'support', 'www')),
  constraint name_is_not_empty check (btrim(name) <> '' and char_length(name) <= 120),
  constraint time_zone_is_short check (char_length(time_zone) <= 64)
);

create index tenants_plan_id_idx on public.tenants (plan_id);

alter table public.tenants enable row level security;
grant select on public.tenants to authenticated;
grant update (name, time_zone) on public.tenants to authenticated;
grant select, insert, update, delete on public.tenants to service_role;

comment on table public.tenants is 'Businesses on the platform. The plan decides how fast and how much the engine works for them.';
comment on column public.tenants.status is 'active: served; suspended: readable, no background work; closed: invisible to its members.';

create trigger tenants_before_update_keep_row_rules
  before update on public.tenants
  for each row execute function private.keep_row_rules();

create function private.check_time_zone()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not private.is_time_zone(new.time_zone) then
    raise exception '"%" is not an IANA time zone. Use a name like Europe/Berlin.', new.time_zone using errcode = '22023';
  end if;
  return new;
end
$$;

comment on function private.check_time_zone() is 'Trigger: the time zone of a row must be a known IANA name.';

create trigger tenants_before_write_check
  before insert or update of time_zone on public.tenants
  for each row execute function private.check_time_zone();
