-- A campaign with the tenant's own defaults for what the caller leaves out. Runs with the caller's rights: the policies decide.
create function public.create_campaign(
  tenant_id uuid, name text, starts_at timestamptz default now(), ends_at timestamptz default null, time_zone text default null,
  notifications_enabled boolean default null, notify_from time default null, notify_until time default null
)
returns public.campaigns
language sql
set search_path = ''
as $$
  insert into public.campaigns (tenant_id, name, starts_at, ends_at, time_zone, notifications_enabled, notify_from, notify_until)
  select create_campaign.tenant_id, create_campaign.name, create_campaign.starts_at, create_campaign.ends_at,
    coalesce(create_campaign.time_zone, t.time_zone, 'UTC'),
    coalesce(create_campaign.notifications_enabled, t.campaign_notifications, true),
    coalesce(create_campaign.notify_from, t.campaign_notify_from, '00:00'),
    coalesce(create_campaign.notify_until, t.campaign_notify_until, '24:00')
  -- Without a tenant to see there is a row all the same, for the policy to refuse.
  from (select) caller left join public.tenants t on t.id = create_campaign.tenant_id
  returning *
$$;

grant execute on function public.create_campaign(uuid, text, timestamptz, timestamptz, text, boolean, time, time) to authenticated, service_role;
comment on function public.create_campaign(uuid, text, timestamptz, timestamptz, text, boolean, time, time) is
  'Creates a draft campaign; time zone, notifications and their hours are the tenant''s unless given. Members only. '
  'Errors: 42501, 23514 name or dates, 22023 time zone.';
