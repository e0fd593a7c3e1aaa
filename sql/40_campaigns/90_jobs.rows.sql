-- The jobs of this module. Numbers that an admin changed stay as they are.
insert into jobs.definitions (
  job, kind, meaning, provider, platform_allowed, batch_size, quantum, max_drains, start_delay_seconds, has_cadence,
  lease_seconds, max_attempts, backoff_seconds, backoff_limit_seconds, load_function, apply_function)
values (
  'verify-social-tasks', 'edge', 'Verifies claimed tasks with the tenant''s own Meta credentials.', 'meta', true, 500, 50, 4, 300, true,
  60, 10, 10, 1800, 'private.load_verifications', 'private.apply_verifications')
on conflict (job) do update set kind = excluded.kind, meaning = excluded.meaning, provider = excluded.provider,
  load_function = excluded.load_function, apply_function = excluded.apply_function;

insert into jobs.definitions (
  job, kind, scope, meaning, schedule, misfire, condition_function, eligible_function, work_function, lease_seconds, max_attempts)
values
  ('settle-claims', 'sql', 'tenant', 'Ends claims whose time has come: by the campaign''s strategy, or by their deadline.', '* * * * *', 'once',
    'private.claims_are_due', 'private.tenants_with_due_claims', 'private.settle_claims', 60, 5),
  ('purge-signals', 'sql', 'platform', 'Forgets what was seen outside after 30 days.', '30 3 * * *', 'once',
    null, null, 'private.purge_signals', 600, 5)
on conflict (job) do update set kind = excluded.kind, scope = excluded.scope, meaning = excluded.meaning,
  condition_function = excluded.condition_function, eligible_function = excluded.eligible_function, work_function = excluded.work_function;

-- Days are days of UTC: soon after one has begun, so that two counts are a day apart.
insert into jobs.definitions (
  job, kind, meaning, schedule, time_zone, provider, platform_allowed, batch_size, quantum, max_drains, lease_seconds, max_attempts,
  backoff_seconds, backoff_limit_seconds, condition_function, eligible_function, load_function, apply_function)
values (
  'measure-followers', 'edge', 'Counts the followers of accounts whose growth decides claims.', '5 0 * * *', 'UTC', 'meta', false,
  100, 1, 2, 60, 6, 60, 3600, 'private.followers_are_to_be_measured', 'private.tenants_to_measure',
  'private.load_follower_counts', 'private.apply_follower_counts')
on conflict (job) do update set kind = excluded.kind, meaning = excluded.meaning, provider = excluded.provider,
  condition_function = excluded.condition_function, eligible_function = excluded.eligible_function,
  load_function = excluded.load_function, apply_function = excluded.apply_function;
