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
