-- The job remind-participants: who claimed a task and has not proven it is told in time, once, where the campaign wants it.
create table public.reminder_settings (
  tenant_id uuid not null,
  campaign_id uuid not null,
  enabled boolean not null default false,
  remind_before interval not null default '6 hours',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, campaign_id),
  constraint reminder_settings_campaign_fkey foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id) on delete cascade,
  constraint remind_before_is_between_an_hour_and_30_days check (remind_before between interval '1 hour' and interval '30 days')
);

create index reminder_settings_enabled_idx on public.reminder_settings (tenant_id) where enabled;

alter table public.reminder_settings enable row level security;
grant select on public.reminder_settings to authenticated;
grant update (enabled, remind_before) on public.reminder_settings to authenticated;
grant select, insert, update, delete on public.reminder_settings to service_role;

create policy reminder_settings_select_members on public.reminder_settings
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('viewer'))));

create policy reminder_settings_update_members on public.reminder_settings
  for update to authenticated
  using (tenant_id = any (array(select private.tenant_ids('member'))))
  with check (tenant_id = any (array(select private.tenant_ids('member'))));

create trigger reminder_settings_before_update_keep_row_rules
  before update on public.reminder_settings
  for each row execute function private.keep_row_rules();

-- Whether reminders go is control of a job.
create trigger reminder_settings_after_update_audit
  after update of enabled, remind_before on public.reminder_settings
  for each row execute function private.audit_change('reminder_settings', 'campaign_id');

create function private.add_reminder_settings()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.reminder_settings (tenant_id, campaign_id) select c.tenant_id, c.id from new_campaigns c on conflict do nothing;
  return null;
end
$$;

comment on function private.add_reminder_settings() is
  'Trigger: every campaign has its row of settings. Definer: whoever makes a campaign may not insert them.';

create trigger campaigns_after_insert_add_reminder_settings
  after insert on public.campaigns
  referencing new table as new_campaigns
  for each statement execute function private.add_reminder_settings();

comment on table public.reminder_settings is
  'Whether a campaign reminds participants of claims that are not proven yet (by default not), and how long before the time for it ends.';

-- Claims that need a reminder now.
create function private.unreminded(p_tenant_id uuid)
returns table (tenant_id uuid, completion_id uuid)
language sql stable
set search_path = ''
as $$
  select c.tenant_id, c.id
  from public.reminder_settings s
  join public.campaigns g on g.tenant_id = s.tenant_id and g.id = s.campaign_id
  join public.social_tasks t on t.tenant_id = s.tenant_id and t.campaign_id = s.campaign_id
  join public.completions c on c.tenant_id = t.tenant_id and c.task_id = t.id
  where s.enabled and (p_tenant_id is null or s.tenant_id = p_tenant_id)
    and g.status = 'active' and g.notifications_enabled and (g.ends_at is null or g.ends_at > now())
    and c.status::text in ('pending', 'needs_user_action')
    -- What was seen once is done, and what a strategy decides cannot be proven.
    and c.seen_at is null and c.route <> 'strategy'
    and c.deadline > now() and c.deadline <= now() + s.remind_before
    -- Not right after the claim.
    and c.claimed_at < now() - interval '15 minutes'
    and not exists (select from public.notification_outbox m where m.tenant_id = c.tenant_id and m.dedupe_key = 'reminder/' || c.id)
$$;

comment on function private.unreminded(uuid) is 'Claims of a tenant (null: of all) whose time ends soon and of which the participant was not reminded yet.';

create function private.tenants_to_remind()
returns setof uuid
language sql stable
set search_path = ''
as $$
  select t.id from public.tenants t
  where t.status = 'active' and t.id in (select s.tenant_id from public.reminder_settings s where s.enabled)
    and exists (select from private.unreminded(t.id))
$$;

create function private.somebody_to_remind()
returns boolean
language sql stable
set search_path = ''
as $$
  select exists (select from public.reminder_settings s where s.enabled)
$$;

comment on function private.tenants_to_remind() is 'Eligible function of remind-participants: active tenants with claims to remind of.';
comment on function private.somebody_to_remind() is 'Condition function of remind-participants: some campaign wants reminders.';

create function private.remind_participants(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb)
returns jsonb
language sql
set search_path = ''
set jit = off
as $$
  select jsonb_build_object('queued', coalesce(private.queue_messages(jsonb_agg(jsonb_build_object(
    'tenant_id', c.tenant_id, 'kind', 'reminder', 'participant_id', c.participant_id, 'campaign_id', t.campaign_id, 'completion_id', c.id,
    'dedupe_key', 'reminder/' || c.id, 'variables', jsonb_build_object('task', t.title, 'code', c.code,
      'deadline', to_char(c.deadline at time zone g.time_zone, 'YYYY-MM-DD HH24:MI'))) order by c.deadline, c.id)), 0))
  from (select r.* from private.unreminded(p_tenant_id) r limit 1000) u
  join public.completions c on c.tenant_id = u.tenant_id and c.id = u.completion_id
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
$$;

comment on function private.remind_participants(uuid, uuid, jsonb) is 'Work function of remind-participants: one reminder per claim, in the tenant''s outbox.';
