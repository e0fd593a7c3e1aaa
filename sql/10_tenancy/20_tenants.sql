-- A tenant: a business that runs campaigns on a plan.
create type public.tenant_status as enum ('active', 'suspended', 'closed');

create table public.tenants (
  id uuid primary key default gen_random_uuid(),
  slug text not null,
  name text not null,
  plan_id text not null default 'free',
  status public.tenant_status not null default 'active',
  time_zone text not null default 'UTC',
  locale text not null default 'en',
  campaign_notifications boolean not null default true,
  campaign_notify_from time not null default '00:00',
  campaign_notify_until time not null default '24:00',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint tenants_slug_key unique (slug),
  constraint tenants_plan_fkey foreign key (plan_id) references public.plans (plan_id),
  constraint slug_is_lower_case_letters_digits_and_dashes check (slug ~ '^[a-z0-9]([a-z0-9-]{1,46})[a-z0-9]$'),
  constraint slug_has_no_double_dash check (slug !~ '--'),
  constraint slug_is_not_a_number check (slug ~ '[a-z]'),
  -- Words that stand for something of the platform in addresses, in messages, or for nothing at all.
  constraint slug_is_no_encoded_look_alike check (slug !~ '^..--'),
  constraint slug_is_not_reserved check (slug not in (
    'about', 'account', 'accounts', 'admin', 'administrator', 'api', 'app', 'apps', 'assets', 'auth', 'billing', 'blog', 'cdn',
    'console', 'contact', 'dashboard', 'docs', 'email', 'ftp', 'functions', 'graphql', 'health', 'help', 'invitations', 'invite',
    'jobs', 'legal', 'localhost', 'login', 'logout', 'mail', 'me', 'members', 'new', 'null', 'oauth', 'onecron', 'owner', 'platform',
    'privacy', 'public', 'realtime', 'rest', 'root', 'security', 'settings', 'sign-in', 'sign-up', 'signin', 'signup', 'smtp', 'staff',
    'static', 'status', 'storage', 'supabase', 'support', 'system', 'team', 'tenant', 'tenants', 'terms', 'undefined', 'user', 'users',
    'webhook', 'webhooks', 'www')),
  constraint name_is_not_empty check (btrim(name) <> '' and char_length(name) <= 120),
  constraint name_is_normalised check (name is nfkc normalized),
  -- Control characters, line separators, and the invisible ones that turn the direction of writing or hide in between.
  constraint name_has_no_control_characters check (name !~ '[\u0001-\u001F\u007F-\u009F\u061C\u200B\u200E\u200F\u2028-\u202E\u2060-\u2069\uFEFF]'),
  constraint time_zone_is_short check (char_length(time_zone) <= 64),
  constraint locale_is_a_language_tag check (locale ~ '^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$')
);

create index tenants_plan_id_idx on public.tenants (plan_id);

alter table public.tenants enable row level security;
grant select on public.tenants to authenticated;
grant update (name, time_zone, locale, campaign_notifications, campaign_notify_from, campaign_notify_until)
  on public.tenants to authenticated;
grant select, insert, update, delete on public.tenants to service_role;

comment on table public.tenants is 'Businesses on the platform. The plan decides how fast and how much the engine works for them.';
comment on column public.tenants.status is 'active: served; suspended: readable, no background work; closed: invisible to its members.';
comment on column public.tenants.locale is 'The language that the tenant writes to its participants in, such as en or pt-BR.';
comment on column public.tenants.campaign_notifications is
  'What a campaign starts with unless told otherwise, like campaign_notify_from and campaign_notify_until; its time zone is the tenant''s.';

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

-- One spelling for what looks the same: ligatures, full-width letters and composed accents. Slugs need no such care: the
-- constraint leaves no letters in them but a to z, so that none can be a look-alike from another script.
create function private.normalise_tenant()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.name := btrim(normalize(new.name, nfkc));
  return new;
end
$$;

comment on function private.normalise_tenant() is 'Trigger: the name of a tenant in Unicode''s normal form NFKC.';

create trigger tenants_before_write_normalise
  before insert or update of name on public.tenants
  for each row execute function private.normalise_tenant();

-- Members change name and settings by a plain update under the policy; the audit log is written here.
create function private.audit_tenant()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_changes jsonb;
begin
  select jsonb_object_agg(n.key, jsonb_build_object('from', o.value, 'to', n.value)) into v_changes
  from jsonb_each(to_jsonb(new)) n
  join jsonb_each(to_jsonb(old)) o on o.key = n.key
  where n.value <> o.value
    and n.key <> 'updated_at';
  if v_changes is not null then
    perform private.audit(new.id, 'tenant.changed', v_changes);
  end if;
  return null;
end
$$;

comment on function private.audit_tenant() is
  'Trigger: an audit row for what changed of a tenant: names and settings, or anything with the secret key. Definer: no API role may write the audit log.';

create trigger tenants_after_update_audit
  after update of name, time_zone, locale, campaign_notifications, campaign_notify_from, campaign_notify_until on public.tenants
  for each row when (current_user <> 'service_role') execute function private.audit_tenant();

-- With the secret key plan and status can be written past the calls that write the log themselves.
create trigger tenants_after_update_audit_platform
  after update on public.tenants
  for each row when (current_user = 'service_role') execute function private.audit_tenant();

create function private.audit_end_of_tenant()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.audit(old.id, 'tenant.deleted', jsonb_build_object('slug', old.slug, 'name', old.name));
  return null;
end
$$;

comment on function private.audit_end_of_tenant() is 'Trigger: an audit row for a tenant that was deleted. Definer: no API role may write the audit log.';

create trigger tenants_after_delete_audit
  after delete on public.tenants
  for each row execute function private.audit_end_of_tenant();
