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
