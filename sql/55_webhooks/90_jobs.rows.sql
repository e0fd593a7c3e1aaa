-- The jobs, limits and settings of this module. Numbers that an admin changed stay as they are.
insert into private.call_limits (name, calls, seconds, per, meaning) values
  ('receive_webhook', 500, 2, 'tenant', 'Signed webhooks that one tenant''s address takes from one provider: 80 messages a second bring 3 statuses each.'),
  ('receive_deletion', 60, 60, 'tenant', 'Requests to be forgotten that one tenant''s address takes.')
on conflict (name) do update set per = excluded.per, meaning = excluded.meaning;

insert into private.settings (name, value, meaning) values
  ('webhook_days', '30', 'Days that bodies of webhooks are kept, 1 to 30.')
on conflict (name) do update set meaning = excluded.meaning;

insert into jobs.definitions (
  job, kind, scope, meaning, batch_size, quantum, max_drains, lease_seconds, max_attempts, backoff_seconds, backoff_limit_seconds, work_function)
values
  ('process-webhooks', 'sql', 'tenant', 'Turns stored webhooks into signals, messages and statuses, and does deletions that Meta asks for.',
    200, 20, 2, 60, 12, 10, 3600, 'private.process_webhooks')
on conflict (job) do update set kind = excluded.kind, scope = excluded.scope, meaning = excluded.meaning, work_function = excluded.work_function;

insert into jobs.definitions (job, kind, scope, meaning, schedule, misfire, batch_size, quantum, max_drains, lease_seconds, max_attempts, work_function)
values
  ('purge-webhooks', 'sql', 'platform', 'Deletes stored webhooks when their time is over.', '40 3 * * *', 'once', 1, 1, 1, 300, 5, 'private.purge_webhooks')
on conflict (job) do update set kind = excluded.kind, scope = excluded.scope, meaning = excluded.meaning, work_function = excluded.work_function;
