-- schema: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

-- sql/00_platform/11_settings.rows.sql
-- Settings that exist. A value that an admin changed stays.
insert into private.settings (name, value, meaning) values
  ('app_url', 'http://localhost:3000', 'Where participants spin: messages link to {app_url}/campaigns/{id}.'),
  ('default_time_zone', 'UTC', 'Time zone of schedules that name none.')
on conflict (name) do update set meaning = excluded.meaning;

-- sql/00_platform/21_time_zones.rows.sql
-- The time zones of this server.
select private.learn_time_zones();

-- sql/10_tenancy/11_plans.rows.sql
-- The four plans. Numbers that an admin changed stay; new plans and names arrive.
insert into public.plans (plan_id, name, position, weight, cap, batch_share, cadence_seconds, rate_per_minute, target_seconds) values
  ('free', 'Free', 1, 1, 50, 50, 300, 600, 600),
  ('starter', 'Starter', 2, 2, 100, 50, 300, 1200, 600),
  ('pro', 'Pro', 3, 4, 200, 100, 60, 3000, 120),
  ('enterprise', 'Enterprise', 4, 8, 400, 200, 60, null, 120)
on conflict (plan_id) do update set name = excluded.name, position = excluded.position;

-- sql/10_tenancy/46_call_limits.rows.sql
-- The limits. Numbers that an admin changed stay; new limits and meanings arrive.
insert into private.call_limits (name, calls, seconds, per, meaning) values
  ('create_tenant', 10, 86400, 'user', 'Tenants that one user creates.'),
  ('invite_member', 50, 86400, 'tenant', 'Invitations that one tenant sends.'),
  ('accept_invitation', 20, 3600, 'user', 'Invitations that one user tries to accept, successfully or not.'),
  ('set_credential', 30, 3600, 'tenant', 'Credentials that one tenant stores.'),
  ('join_campaign', 30, 60, 'user', 'Campaigns that one user joins.'),
  ('claim_task', 60, 60, 'user', 'Tasks that one user claims.')
on conflict (name) do update set per = excluded.per, meaning = excluded.meaning;

insert into private.settings (name, value, meaning) values
  ('jobs_ip_allow_list', '', 'Addresses and networks that may call functions/jobs, separated by commas. Empty: all.'),
  ('platform_admins_need_mfa', 'false', 'true: a platform admin is one only in a session with a second factor (aal2).')
on conflict (name) do update set meaning = excluded.meaning;

-- sql/30_jobs/11_platform.rows.sql
-- The one row of the engine's state.
insert into jobs.platform default values on conflict do nothing;

-- sql/40_campaigns/90_jobs.rows.sql
-- The job of this module. Numbers that an admin changed stay as they are.
insert into jobs.definitions (
  job, kind, meaning, provider, platform_allowed, batch_size, quantum, max_drains, start_delay_seconds, has_cadence,
  lease_seconds, max_attempts, backoff_seconds, backoff_limit_seconds, load_function, apply_function)
values (
  'verify-social-tasks', 'edge', 'Verifies claimed tasks with the tenant''s own Meta credentials.', 'meta', true, 500, 50, 4, 300, true,
  60, 10, 10, 1800, 'private.load_verifications', 'private.apply_verifications')
on conflict (job) do update set kind = excluded.kind, meaning = excluded.meaning, provider = excluded.provider,
  load_function = excluded.load_function, apply_function = excluded.apply_function;

insert into jobs.clocks (job) values ('verify-social-tasks') on conflict do nothing;

-- sql/50_notifications/90_jobs.rows.sql
-- The job of this module. Numbers that an admin changed stay as they are.
insert into jobs.definitions (
  job, kind, meaning, provider, platform_allowed, effects, batch_size, quantum, max_drains, lease_seconds, max_attempts,
  backoff_seconds, backoff_limit_seconds, load_function, apply_function)
values (
  'send-notifications', 'edge', 'Sends messages through the tenant''s own WhatsApp.', 'whatsapp', true, true, 100, 20, 4, 60, 8,
  10, 3600, 'private.load_messages', 'private.apply_messages')
on conflict (job) do update set kind = excluded.kind, meaning = excluded.meaning, provider = excluded.provider, effects = excluded.effects,
  load_function = excluded.load_function, apply_function = excluded.apply_function;

insert into jobs.clocks (job) values ('send-notifications') on conflict do nothing;

-- sql/95_operations/11_alert_delivery.rows.sql
-- How alerts reach people.
insert into private.settings (name, value, meaning) values
  ('alert_email', '', 'Who is told by e-mail of the platform''s alerts; empty: nobody.')
on conflict (name) do update set meaning = excluded.meaning;

insert into jobs.definitions (
  job, kind, scope, meaning, provider, platform_allowed, batch_size, quantum, max_drains, max_attempts, backoff_seconds, backoff_limit_seconds, load_function)
values
  ('alert-webhook', 'edge', 'platform', 'Tells a Slack-compatible webhook of alerts that open and close.', null, false, 20, 10, 1, 12, 10, 900,
    'private.load_alert_webhooks'),
  ('alert-email', 'edge', 'platform', 'Tells owners and the platform by e-mail of alerts that open and close.', 'email', true, 20, 10, 1, 12, 10, 900,
    'private.load_alert_emails')
on conflict (job) do update set kind = excluded.kind, scope = excluded.scope, meaning = excluded.meaning, provider = excluded.provider,
  load_function = excluded.load_function, apply_function = excluded.apply_function;

insert into jobs.clocks (job) values ('alert-webhook'), ('alert-email') on conflict do nothing;

-- sql/95_operations/90_tick.rows.sql
-- The one pg_cron entry. Running this again keeps it one.
select jobs.start_tick();
