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
